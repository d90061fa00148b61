"""docker-compose.yml and the Dockerfile say what the code says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.limits import LAST_SHUTDOWN
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("keyhole:")]
WORKERS = [name for name in OURS if "worker" in SERVICES[name].get("command", ())]
DEMO = [name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]]


def _seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text.removesuffix("s"))


def test_it_runs_a_valkey_and_two_workers_and_with_a_profile_more() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"valkey", "worker"}
    assert SERVICES["listener"]["profiles"] == ["events"]
    assert SERVICES["scheduler"]["profiles"] == ["scheduler"]
    assert set(DEMO) == {"s3", "demo-worker", "submit"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_can_write_nothing_and_become_nobody(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a folder of the container's own
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_reached_from_outside(name: str) -> None:
    assert "ports" not in SERVICES[name]


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_given_longer_than_its_soft_shutdown(name: str) -> None:
    assert _seconds(SERVICES[name]["stop_grace_period"]) > LAST_SHUTDOWN


@pytest.mark.parametrize("name", [*WORKERS, "listener", "scheduler", "submit"])
def test_what_needs_the_queue_waits_for_it(name: str) -> None:
    assert SERVICES[name]["depends_on"]["valkey"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_is_there_and_says_when_it_is_healthy(name: str) -> None:
    for other, when in SERVICES[name].get("depends_on", {}).items():
        assert "healthcheck" in SERVICES[other] or when != {"condition": "service_healthy"}


def test_the_queue_survives_a_restart_and_loses_nothing_when_memory_is_full() -> None:
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]


@pytest.mark.parametrize(
    ("name", "command"), [*((name, "worker") for name in WORKERS), ("listener", "listen"), ("scheduler",) * 2]
)
def test_what_runs_for_long_is_asked_whether_it_is_well(name: str, command: str) -> None:
    assert SERVICES[name]["command"][0] == command
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "keyhole", command, "--check"]
    assert {"interval", "timeout", "retries", "start_period"} < SERVICES[name]["healthcheck"].keys()


def test_the_listener_can_be_told_all_that_is_to_be_scanned() -> None:
    named = {name for name in SERVICES["listener"]["environment"] if name.startswith("KEYHOLE_EVENTS_")}
    assert named == {
        f"KEYHOLE_{name.upper()}" for name in Settings.model_fields if name.startswith("events_")
    }


def test_the_demo_shares_no_database_with_the_workers() -> None:
    environments = [SERVICES[name]["environment"] for name in ("worker", "demo-worker", "submit")]
    real, demo, submit = ({env["KEYHOLE_BROKER_URL"], env["KEYHOLE_REDIS_URL"]} for env in environments)
    assert demo == submit
    assert not real & demo


def test_the_scheduler_uses_the_queue_of_the_workers_and_reads_a_file_that_it_cannot_write() -> None:
    scheduler, worker = SERVICES["scheduler"]["environment"], SERVICES["worker"]["environment"]
    for name in ("KEYHOLE_BROKER_URL", "KEYHOLE_REDIS_URL"):
        assert scheduler[name] == worker[name]
    (volume,) = SERVICES["scheduler"]["volumes"]
    assert volume["target"] == scheduler["KEYHOLE_SCHEDULES"]
    assert volume["read_only"] is True


def test_no_credentials_but_the_demos_are_written_down() -> None:
    environment = SERVICES["worker"]["environment"]
    assert {value for name, value in environment.items() if name.startswith("AWS_")} == {None}


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/Dockerfile"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bKEYHOLE_[A-Z0-9_]+", (ROOT / name).read_text()))
    assert named <= {f"KEYHOLE_{field.upper()}" for field in Settings.model_fields}


def test_the_image_runs_as_a_user_with_a_fixed_number() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "--uid 10001" in DOCKERFILE


def test_the_images_command_is_keyhole_and_its_stages_are_those_that_compose_builds() -> None:
    assert 'ENTRYPOINT ["keyhole"]\nCMD ["worker"]' in DOCKERFILE
    stages = re.findall(r"^FROM .+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == "production"
    assert {SERVICES[name]["build"]["target"] for name in OURS} == {"production", "demo"}
    assert "demo" in stages


def test_all_that_the_image_copies_is_let_into_its_context() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert "*" in ignore
    assert {f"!{source}" for source in copied} == {line for line in ignore if line.startswith("!")}
