"""`keyhole plan`: a prediction on a terminal and as JSON, without any server."""

import json
import re

import pytest

from keyhole.cli.plan import plan_command
from tests.cli.conftest import Keyhole
from tests.ports import free_port

BILLION = ("plan", "--objects", "1e9", "--workers", "50", "--ttfb", "30ms")


def test_a_billion_objects_with_the_default_settings(keyhole: Keyhole) -> None:
    done = keyhole(*BILLION)

    assert (done.code, done.err) == (0, "")
    shown = " ".join(done.out.split())
    assert "GET requests 2,600,000,000" in shown
    assert "dollars $1,045.00" in shown
    assert "(1,445.0 hours), at 192 objects per second, limited by the audit's rate limit" in shown
    assert "Only 8 of 50 processes have work" in shown
    assert "set KEYHOLE_AUDIT_OUTSTANDING to 54 or more" in shown
    assert "Prices: us-east-1, 2026-11-24" in shown
    assert [line for line in done.lines if len(line) > 80] == []


def test_the_examples_of_its_help_run(keyhole: Keyhole) -> None:
    examples = re.findall(
        r"^ *((?:KEYHOLE_\w+=\S+ )*)keyhole (plan --.*)$", str(plan_command.help), re.MULTILINE
    )

    assert len(examples) == 3
    for settings, arguments in examples:
        done = keyhole(*arguments.split(), **dict(setting.split("=") for setting in settings.split()))
        assert (done.code, done.err) == (0, ""), arguments
        assert "Redis memory" in done.out


def test_json_has_the_figures_and_the_walls(keyhole: Keyhole) -> None:
    done = keyhole(*BILLION, "--rate", "0", "--json")

    found = json.loads(done.out)
    assert (done.code, len(done.lines)) == (0, 1)
    assert found["spending"]["gets"] == 2_600_000_000
    assert found["requests"] == 2_601_000_000
    assert found["bound"] == found["ceilings"][0]["resource"] == found["walls"][0]["name"] == "latency"
    assert found["seconds"] == pytest.approx(1e9 / found["objects_per_second"])
    assert found["memory_total"] == sum(found["memory"].values())
    assert found["fleet"] == {
        "processes": 50,
        "threads": 16,
        "prefixes": 1,
        "rate": 0.0,
        "outstanding": 8,
        "batch_size": 100,
    }


def test_finding_owners_takes_a_request_unless_tags_are_written(keyhole: Keyhole) -> None:
    def spending(*options: str) -> tuple[int, int, int]:
        found = json.loads(keyhole(*BILLION, "--json", *options).out)
        return found["spending"]["tag_reads"], found["spending"]["heads"], found["memory"]["audit_rows"]

    objects = 1_000_000_000
    assert spending("--no-tags") == (0, 0, 18 * objects)
    assert spending("--no-tags", "--owners") == (objects, 0, 20 * objects)
    assert spending("--tags") == (2 * objects, 2 * objects, 18 * objects)
    assert spending("--tags", "--owners") == (2 * objects, 2 * objects, 20 * objects)


def test_settings_are_the_defaults_of_options(keyhole: Keyhole) -> None:
    settings = {"KEYHOLE_SCAN_THREADS": 32, "KEYHOLE_AUDIT_RATE": 90, "KEYHOLE_SINKS": "tags"}

    found = json.loads(keyhole(*BILLION, "--json", **settings).out)
    other = json.loads(
        keyhole(*BILLION, "--json", "--threads", "8", "--rate", "70", "--no-tags", **settings).out
    )

    assert (found["fleet"]["threads"], found["fleet"]["rate"], found["work"]["tags"]) == (32, 90, True)
    assert (other["fleet"]["threads"], other["fleet"]["rate"], other["work"]["tags"]) == (8, 70, False)
    assert found["kept"]["records"] is other["kept"]["records"] is False


def test_it_needs_neither_redis_nor_s3(keyhole: Keyhole) -> None:
    port = free_port()
    done = keyhole(
        *BILLION,
        KEYHOLE_REDIS_URL=f"redis://127.0.0.1:{port}/0",
        KEYHOLE_S3_ENDPOINT_URL=f"http://127.0.0.1:{port}",
    )
    assert (done.code, done.err) == (0, "")


def test_the_slowest_plan_takes_years(keyhole: Keyhole) -> None:
    done = keyhole("plan", "--objects", "1e15", "--workers", "1", "--rate", "0.001", "--gets", "1000")

    assert (done.code, done.err) == (0, "")
    assert "31,688,119,502,117 years" in " ".join(done.out.split())
    assert "at 1e-06 objects per second" in " ".join(done.out.split())


def test_a_class_without_a_price_is_named(keyhole: Keyhole) -> None:
    done = keyhole(*BILLION, "--storage-class", "SNOW\x1b[2J")

    assert done.code == 0
    assert "has no price: estimated at the highest" in " ".join(done.out.split())
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objects", "lots", "--workers", "5"), "Invalid value for '--objects': 'lots' is not a count"),
        (("--objects", "1e9", "--workers", "5", "--ttfb", "30"), "'30' is not a time"),
        (("--objects", "1e9", "--workers", "5", "--rate", "inf"), "'inf' is not a rate"),
        (("--objects", "1e9", "--workers", "5", "--gets", "nan"), "'nan' is not an average of GETs"),
        (("--objects", "1e9", "--workers", "0"), "Invalid value for '--workers'"),
        (("--objects", "1e9"), "Missing option '--workers'"),
        (("--objects", "1e9", "--workers", "5", "--storage-class", "GLACIER"), "unless they are restored"),
    ],
)
def test_wrong_usage_is_explained(keyhole: Keyhole, arguments: tuple[str, ...], message: str) -> None:
    done = keyhole("plan", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
