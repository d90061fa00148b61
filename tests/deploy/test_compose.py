"""The Compose files and the Dockerfile agree with the code."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyhole.limits import LAST_SHUTDOWN
from keyhole.settings import Settings
from keyhole.store.permissions import rules
from tests.deploy.compose import DEMO, MAIN, PASSWORD, PASSWORD_NAME, ROOT, SIGNING, TLS, Service, services
from tests.tools import give_up

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES = services(MAIN, **{PASSWORD_NAME: PASSWORD})
OF_DEMO = services(DEMO)
#: The services that use the Valkey of docker-compose.yml.
CLIENTS = ("worker", "listener", "scheduler")
#: Every service, by its name in test ids.
ALL = SERVICES | {f"demo-{name}": service for name, service in OF_DEMO.items()}
OURS = [name for name, service in ALL.items() if service["image"].startswith("keyhole:")]
FILES = (MAIN, DEMO, TLS, SIGNING)


def _seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text.removesuffix("s"))


def test_it_runs_a_valkey_and_two_workers_and_with_a_profile_more() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"valkey", "worker"}
    assert SERVICES["listener"]["profiles"] == ["events"]
    assert SERVICES["scheduler"]["profiles"] == ["scheduler"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_can_write_nothing_and_become_nobody(name: str) -> None:
    service = ALL[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a folder within the container
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service


@pytest.mark.parametrize("name", ALL)
def test_no_service_is_reached_from_outside(name: str) -> None:
    assert "ports" not in ALL[name]


def test_only_the_services_that_need_the_queue_share_a_network_with_it() -> None:
    networks = {name: service["networks"] for name, service in SERVICES.items()}
    assert networks == {
        "valkey": ["queue"],
        "scheduler": ["queue"],
        # These services connect to S3 and to its queues of events.
        "worker": ["queue", "default"],
        "listener": ["queue", "default"],
    }
    assert yaml.safe_load((ROOT / MAIN).read_text())["networks"] == {"queue": {"internal": True}}


def test_the_demo_reaches_no_network() -> None:
    assert yaml.safe_load((ROOT / DEMO).read_text())["networks"] == {"default": {"internal": True}}
    assert not any("networks" in service for service in OF_DEMO.values())


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_given_longer_than_its_soft_shutdown(name: str) -> None:
    assert _seconds(ALL[name]["stop_grace_period"]) > LAST_SHUTDOWN


@pytest.mark.parametrize("name", [*CLIENTS, "demo-worker", "demo-submit"])
def test_what_needs_the_queue_waits_for_it(name: str) -> None:
    assert ALL[name]["depends_on"]["valkey"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("of_file", [SERVICES, OF_DEMO], ids=["main", "demo"])
def test_what_a_service_waits_for_is_there_and_says_when_it_is_healthy(of_file: dict[str, Service]) -> None:
    for service in of_file.values():
        for other, when in service.get("depends_on", {}).items():
            assert "healthcheck" in of_file[other] or when != {"condition": "service_healthy"}


def test_the_queue_survives_a_restart_and_loses_nothing_when_memory_is_full() -> None:
    _, _, script = SERVICES["valkey"]["command"]
    assert "appendonly yes" in script.splitlines()
    assert "maxmemory-policy noeviction" in script.splitlines()
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]


def test_of_the_queues_users_keyhole_alone_gets_in_and_may_do_no_more_than_it_must() -> None:
    _, _, script = SERVICES["valkey"]["command"]
    lines = script.replace("\\\n", " ").splitlines()
    users = [" ".join(line.split()) for line in lines if line.startswith("user ")]
    assert users == ["user default off", f"user keyhole on >${PASSWORD_NAME} {rules()}"]


@pytest.mark.parametrize("files", [(MAIN,), (MAIN, TLS)], ids=["plain", "tls"])
def test_the_password_is_in_no_command_line(files: tuple[str, ...]) -> None:
    """Every user of the host can read command lines while the container runs."""
    valkey = services(*files, **{PASSWORD_NAME: PASSWORD})["valkey"]
    assert PASSWORD not in str([valkey["command"], valkey["healthcheck"]])
    assert PASSWORD not in valkey["environment"].get("VALKEY_EXTRA_FLAGS", "")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("worker", "worker"),
        ("listener", "listen"),
        ("scheduler", "scheduler"),
    ],
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


def test_all_use_the_same_queue_as_the_same_user() -> None:
    urls = {SERVICES[name]["environment"]["KEYHOLE_REDIS_URL"] for name in CLIENTS}
    assert urls == {f"redis://keyhole:{PASSWORD}@valkey:6379/0"}


def test_by_tls_all_verify_the_queue() -> None:
    by_tls = services(MAIN, TLS, **{PASSWORD_NAME: PASSWORD})
    for name in CLIENTS:
        url = by_tls[name]["environment"]["KEYHOLE_REDIS_URL"]
        assert url == f"rediss://keyhole:{PASSWORD}@valkey:6379/0?ssl_ca_certs=/run/secrets/ca.pem"
        assert by_tls[name]["secrets"] == ["ca.pem"]
    assert by_tls["valkey"]["secrets"] == ["ca.pem", "valkey.pem", "valkey.key"]


def test_with_a_key_all_sign_and_verify() -> None:
    signing = services(MAIN, SIGNING, **{PASSWORD_NAME: PASSWORD})
    for name in CLIENTS:
        assert signing[name]["environment"]["KEYHOLE_SIGNING_KEY_FILE"] == "/run/secrets/signing.key"
        assert signing[name]["secrets"] == ["signing.key"]
    assert "secrets" not in signing["valkey"]


@pytest.mark.parametrize("file", [TLS, SIGNING])
def test_secrets_are_files_that_git_ignores(file: str) -> None:
    declared = yaml.safe_load((ROOT / file).read_text())["secrets"]
    assert declared == {name: {"file": f"./secrets/{name}"} for name in declared}
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_scheduler_reads_a_file_that_it_cannot_write() -> None:
    (volume,) = SERVICES["scheduler"]["volumes"]
    assert volume["source"] == "./schedules.toml"
    assert volume["target"] == SERVICES["scheduler"]["environment"]["KEYHOLE_SCHEDULES"]
    assert volume["read_only"] is True


def test_no_credentials_but_the_demos_are_written_down() -> None:
    for name in ("worker", "listener"):
        environment = SERVICES[name]["environment"]
        assert {value for variable, value in environment.items() if variable.startswith("AWS_")} == {None}


@pytest.mark.parametrize("files", [(MAIN,), (MAIN, TLS)], ids=["plain", "tls"])
def test_without_a_password_there_is_nothing(files: tuple[str, ...]) -> None:
    with pytest.raises(KeyError):
        services(*files)


@pytest.mark.parametrize("name", [*FILES, "deploy/Dockerfile"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bKEYHOLE_[A-Z0-9_]+", (ROOT / name).read_text()))
    assert named - {PASSWORD_NAME} <= {f"KEYHOLE_{field.upper()}" for field in Settings.model_fields}


def test_the_image_runs_as_a_user_with_a_fixed_number() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "--uid 10001" in DOCKERFILE
    # The user who must own the signing key.
    assert "chown 10001 secrets/signing.key" in (ROOT / SIGNING).read_text()


def test_the_images_command_is_keyhole_and_its_stages_are_those_that_compose_builds() -> None:
    assert 'ENTRYPOINT ["keyhole"]\nCMD ["worker"]' in DOCKERFILE
    stages = re.findall(r"^FROM .+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == "production"
    assert {ALL[name]["build"]["target"] for name in OURS} == {"production", "demo"}
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


def _config(no_settings: Path, *files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The configuration that Compose itself derives from some files, whatever `.env` contains."""
    no_settings.touch()
    compose = shutil.which("docker-compose")
    if compose is None:
        give_up("docker-compose is not installed")
    chosen = [argument for file in files for argument in ("-f", file)]
    return subprocess.run(
        [
            compose,
            "--env-file",
            str(no_settings),
            *chosen,
            "--profile",
            "events",
            "--profile",
            "scheduler",
            "config",
        ],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _told(service: Service) -> dict[str, Any]:
    """The parts of a service that these tests and their Valkey use."""
    return {name: service.get(name) for name in ("command", "environment")} | {
        "healthcheck": service.get("healthcheck", {}).get("test"),
        "profiles": service.get("profiles"),
        "networks": sorted(service.get("networks", ())),
    }


@pytest.mark.slow
@pytest.mark.parametrize("files", [(MAIN,), (MAIN, TLS), (MAIN, SIGNING), (MAIN, TLS, SIGNING), (DEMO,)])
def test_compose_reads_it_as_these_tests_do(files: tuple[str, ...], tmp_path: Path) -> None:
    variables = {} if files == (DEMO,) else {PASSWORD_NAME: PASSWORD}

    done = _config(tmp_path / ".env", *files, **variables)

    assert done.returncode == 0, done.stderr
    theirs = yaml.safe_load(done.stdout.replace("$$", "$"))["services"]
    ours = services(*files, **variables)
    assert {name: _told(service) for name, service in theirs.items()} == {
        name: _told(service) for name, service in ours.items()
    }
    for name, service in theirs.items():
        assert [each["source"] for each in service.get("secrets", ())] == sorted(
            ours[name].get("secrets", ())
        )


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {PASSWORD_NAME: ""}], ids=["missing", "empty"])
def test_compose_says_which_variable_is_missing_and_where_to_look(
    variables: dict[str, str], tmp_path: Path
) -> None:
    done = _config(tmp_path / ".env", MAIN, TLS, SIGNING, **variables)

    assert done.returncode != 0
    assert PASSWORD_NAME in done.stderr
    assert "docker-compose.yml says how to set it" in done.stderr
