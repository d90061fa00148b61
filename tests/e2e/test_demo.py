"""`keyhole demo`: every sample gets its intended verdict, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyhole.demo.samples import SAMPLES
from keyhole.reasons import Status
from keyhole.scan.report import Report
from tests.e2e import commands


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Nothing is configured, and the environment identifies every process that the demo starts."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    yield commands.environment(TMPDIR=temporary, KEYHOLE_DATA_DIR=tmp_path / "data")
    for pid in commands.marked(str(tmp_path)):
        os.kill(pid, signal.SIGKILL)


def left_behind(env: dict[str, str]) -> list[object]:
    """The demo's remaining processes and folders."""
    return [
        *commands.marked(env["TMPDIR"]),
        *Path(env["TMPDIR"]).iterdir(),
        *Path(env["KEYHOLE_DATA_DIR"]).glob("*"),
    ]


def test_every_sample_gets_its_verdict_and_nothing_is_left_behind(env: dict[str, str]) -> None:
    done = commands.keyhole("demo", "--json", env=env)

    reports = [Report.model_validate_json(line) for line in commands.lines(done.stdout)]
    assert [(each.key, each.reasons, each.details) for each in reports if each.status is Status.FAILED] == []
    assert [(report.key, report.status) for report in reports] == [
        (each.key, each.verdict) for each in SAMPLES
    ]
    assert (done.returncode, done.stderr) == (0, b"")
    assert left_behind(env) == []


@pytest.mark.slow
def test_it_ends_with_verdicts_tags_a_report_and_what_is_next(env: dict[str, str]) -> None:
    done = commands.keyhole("demo", env=env)

    text = done.stdout.decode()
    assert done.returncode == 0
    rows = text.partition("\n\n")[0].splitlines()[1:]
    assert [(row.split()[0], row.partition("s3://demo-images/")[2]) for row in rows] == [
        (each.verdict, each.key) for each in SAMPLES
    ]
    end = text.partition("Tags, as S3 returns them:\n")[2].splitlines()
    assert [line.split()[:2] for line in end[:3]] == [
        ["images/debian-12.qcow2", "keyhole-status=safe"],
        ["uploads/backing.qcow2", "keyhole-status=unsafe"],
        ["uploads/cut-off.vdi", "keyhole-status=damaged"],
    ]
    page = Path(env["KEYHOLE_DATA_DIR"], "demo-report.html")
    assert end[3] == f"Report: {page}  (open it in a browser)"
    assert all(each.key.rpartition("/")[2].encode() in page.read_bytes() for each in SAMPLES)
    assert end[4].startswith("Next:   keyhole demo --keep ")
    assert left_behind(env) == [page]


@pytest.mark.slow
def test_kept_it_serves_the_commands_of_another_terminal_until_it_is_stopped(
    env: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with commands.started("demo", "--keep", env=env, log=log) as demo:
        commands.until(lambda: "Next:" in log.read_text())
        exports = [line for line in log.read_text().splitlines() if line.startswith("export ")]
        script = "\n".join(
            [
                *exports,
                '[ "$AWS_ENDPOINT_URL_S3" = "$KEYHOLE_S3_ENDPOINT_URL" ] || exit 9',
                'k() { "$PYTHON" -m keyhole "$@"; }',
                "k inspect s3://demo-images/images/debian-12.qcow2 >/dev/null || exit 10",
                "k results --json --status damaged",
                "k submit --wait --json s3://demo-images/uploads/backing.qcow2; [ $? = 1 ] || exit 11",
            ]
        )
        done = subprocess.run(
            ["bash", "-c", script], env=env | {"PYTHON": sys.executable}, capture_output=True, check=False
        )
        os.kill(demo.pid, signal.SIGINT)

        assert demo.wait(commands.PATIENCE) == 0
    assert done.returncode == 0, done.stderr
    *damaged, backing = [Report.model_validate_json(line) for line in commands.lines(done.stdout)]
    assert {each.key for each in damaged} == {each.key for each in SAMPLES if each.verdict == "damaged"}
    assert backing.reasons == ("backing_file",)
    assert log.read_text().splitlines()[-1] == "Stopping …"
    assert left_behind(env) == [Path(env["KEYHOLE_DATA_DIR"], "demo-report.html")]


def is_uploading(env: dict[str, str]) -> bool:
    """Whether the worker has been started, which is before the first sample is built."""
    return any(Path(env["TMPDIR"]).glob("keyhole-demo-*/worker.log"))


def is_scanning(env: dict[str, str]) -> bool:
    """Whether the worker has recorded a verdict."""
    return any(
        b'"verdict"' in log.read_bytes() for log in Path(env["TMPDIR"]).glob("keyhole-demo-*/worker.log")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reached", "send", "how"),
    [
        (is_uploading, os.killpg, signal.SIGINT),
        (is_uploading, os.kill, signal.SIGTERM),
        (is_scanning, os.killpg, signal.SIGINT),
    ],
)
def test_interrupted_it_leaves_nothing_behind(
    env: dict[str, str],
    tmp_path: Path,
    reached: Callable[[dict[str, str]], bool],
    send: Callable[[int, int], None],
    how: signal.Signals,
) -> None:
    log = tmp_path / "log"
    with commands.started("demo", "--json", env=env, log=log) as demo:
        commands.until(lambda: reached(env))
        send(demo.pid, how)

        assert demo.wait(commands.PATIENCE) == 130
    assert log.read_text().split() == ["Interrupted."]
    assert left_behind(env) == []


@pytest.mark.slow
def test_it_does_not_wait_for_a_worker_that_has_ended(env: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with commands.started("demo", "--json", env=env, log=log) as demo:
        worker = commands.until(
            lambda: [
                pid
                for pid in commands.children(demo.pid)
                if "--until-stdin-ends" in commands.command_line(pid)
            ]
        )
        os.kill(worker[0], signal.SIGKILL)

        assert demo.wait(commands.PATIENCE) == 3
    (line,) = log.read_text().splitlines()
    assert line.startswith("Error: the worker ended")
    assert [left for left in left_behind(env) if not str(left).rpartition("/")[2].startswith("pymp-")] == []
