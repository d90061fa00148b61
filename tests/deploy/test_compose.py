"""The Compose files and the Dockerfile agree with the code."""

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyhole.cli.dashboard import PORT
from keyhole.demo.local_s3 import BUCKET
from keyhole.demo.samples import SAMPLES
from keyhole.limits import LAST_SHUTDOWN
from keyhole.settings import Settings
from keyhole.store.permissions import rules
from tests.deploy.compose import (
    BROKER,
    CONFIG_DIR_NAME,
    DEMO_ENV,
    MAIN,
    PASSWORD,
    PASSWORD_NAME,
    ROOT,
    SIGNING,
    TLS,
    Service,
    demo_variables,
    services,
)
from tests.e2e.commands import PATIENCE
from tests.tools import give_up

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES = services(MAIN, **{PASSWORD_NAME: PASSWORD})
#: The services that use the Valkey of docker-compose.yml.
CLIENTS = ("worker", "listener", "scheduler")
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("keyhole:")]
FILES = (MAIN, TLS, SIGNING, BROKER, DEMO_ENV)
#: The folder of the embedded Valkey, which docker-compose.yml does not use, and the token of the dashboard,
#: which only the dashboard gets.
NOT_PASSED = {"KEYHOLE_DATA_DIR", "KEYHOLE_DASHBOARD_TOKEN"}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - within the container
#: The settings that the file sets. Every other setting has the value of the host.
GIVEN = {"KEYHOLE_REDIS_URL", "KEYHOLE_METRICS_HOST", "KEYHOLE_METRICS_PORT"}


def _seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text.removesuffix("s"))


def test_it_runs_a_valkey_two_workers_a_listener_and_a_scheduler() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"valkey", *CLIENTS}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert SERVICES["s3"]["profiles"] == ["demo"]
    assert SERVICES["dashboard"]["profiles"] == ["dashboard"]
    assert SERVICES["prometheus"]["profiles"] == SERVICES["grafana"]["profiles"] == ["metrics"]


@pytest.mark.parametrize("name", CLIENTS)
def test_every_setting_reaches_every_role(name: str) -> None:
    """KEYHOLE_POLICY once reached no role, and nothing reported it."""
    settings = {f"KEYHOLE_{field.upper()}" for field in Settings.model_fields}
    environment = {
        variable: value
        for variable, value in SERVICES[name]["environment"].items()
        if variable.startswith("KEYHOLE_")
    }
    assert environment.keys() == settings - NOT_PASSED
    assert {variable for variable, value in environment.items() if value is not None} == GIVEN


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits_and_a_bounded_log_and_is_started_again(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_whether_it_is_well(name: str) -> None:
    assert {"test", "interval", "timeout", "retries"} <= SERVICES[name]["healthcheck"].keys()


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_the_tag_of_another_projects_image_is_one_release(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+(-alpine)?$", SERVICES[name]["image"])


def test_the_image_is_built_from_one_release_of_python() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_can_write_nothing_and_become_nobody(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a folder within the container
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_reached_from_outside(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_only_the_services_that_need_the_queue_share_a_network_with_it() -> None:
    networks = {name: service["networks"] for name, service in SERVICES.items()}
    assert networks == {
        "valkey": ["queue"],
        "scheduler": ["queue"],
        "s3": ["queue"],
        "prometheus": ["queue", "metrics"],
        "grafana": ["metrics"],
        "dashboard": ["queue", "dashboard"],
        # These services connect to S3 and to its queues of events.
        "worker": ["queue", "default"],
        "listener": ["queue", "default"],
    }
    assert yaml.safe_load((ROOT / MAIN).read_text())["networks"] == {
        "queue": {"internal": True},
        "metrics": None,
        "dashboard": {"driver_opts": {"com.docker.network.bridge.enable_ip_masquerade": "false"}},
    }


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_given_longer_than_its_soft_shutdown(name: str) -> None:
    assert _seconds(SERVICES[name]["stop_grace_period"]) > LAST_SHUTDOWN


@pytest.mark.parametrize("name", [*CLIENTS, "dashboard"])
def test_what_needs_the_queue_waits_for_it(name: str) -> None:
    assert SERVICES[name]["depends_on"]["valkey"] == {"condition": "service_healthy"}


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
    ("name", "command", "check"),
    [
        ("worker", "worker", ["CMD", "keyhole", "worker", "--check"]),
        ("listener", "listen", ["CMD-SHELL", '[ -z "$KEYHOLE_EVENTS_URL" ] || keyhole listen --check']),
        ("scheduler", "scheduler", ["CMD-SHELL", '[ -z "$KEYHOLE_SCHEDULES" ] || keyhole scheduler --check']),
    ],
)
def test_what_runs_for_long_is_asked_whether_it_is_well(name: str, command: str, check: list[str]) -> None:
    assert SERVICES[name]["command"][0] == command
    assert SERVICES[name]["healthcheck"]["test"] == check
    assert "start_period" in SERVICES[name]["healthcheck"]


class TestARoleWithoutItsSetting:
    @pytest.mark.parametrize(
        ("name", "setting"),
        [
            ("listener", "KEYHOLE_EVENTS_URL"),
            ("scheduler", "KEYHOLE_SCHEDULES"),
            ("dashboard", "KEYHOLE_DASHBOARD_TOKEN"),
        ],
    )
    def test_waits_and_says_why_and_ends_at_once_when_it_is_stopped(self, name: str, setting: str) -> None:
        service = SERVICES[name]
        started = [*service["entrypoint"], *service["command"]]
        with subprocess.Popen(started, env={"PATH": os.environ["PATH"]}, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            line = json.loads(process.stderr.readline())
            assert process.poll() is None
            process.terminate()
            assert process.wait(timeout=PATIENCE) == 0
            # `sleep` also writes to this pipe, so the pipe ends only if `sleep` has ended, too.
            assert process.stderr.read() == b""
        # It has the fields of every other line of a role.
        assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
        assert line == {
            "event": f"{setting} is not set, so `keyhole {service['command'][0]}` is not started",
            "level": "info",
            "logger": "docker-compose.yml",
        }

    @pytest.mark.parametrize("name", ["listener", "scheduler"])
    def test_is_healthy(self, name: str) -> None:
        kind, check = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        assert (
            subprocess.run(["sh", "-c", check], env={"PATH": os.environ["PATH"]}, check=False).returncode == 0
        )

    @pytest.mark.parametrize(
        ("name", "variables", "arguments"),
        [
            ("listener", {"KEYHOLE_EVENTS_URL": "redis://host/0/key"}, ["listen"]),
            ("scheduler", {"KEYHOLE_SCHEDULES": "/etc/keyhole/schedules.toml"}, ["scheduler"]),
            ("dashboard", {"KEYHOLE_DASHBOARD_TOKEN": "t" * 16}, ["dashboard", "--host", EVERYWHERE]),
            ("listener", {}, ["dead", "list"]),
        ],
    )
    def test_runs_keyhole_for_everything_else(
        self, name: str, variables: dict[str, str], arguments: list[str], tmp_path: Path
    ) -> None:
        keyhole = tmp_path / "keyhole"
        keyhole.write_text('#!/bin/sh\necho "keyhole $*"\n')
        keyhole.chmod(0o755)
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        done = subprocess.run(
            [*SERVICES[name]["entrypoint"], *arguments], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"keyhole {' '.join(arguments)}\n"


def test_all_use_the_same_queue_as_the_same_user() -> None:
    urls = {SERVICES[name]["environment"]["KEYHOLE_REDIS_URL"] for name in (*CLIENTS, "dashboard")}
    assert urls == {f"redis://keyhole:{PASSWORD}@valkey:6379/0"}


def test_by_tls_all_verify_the_queue() -> None:
    by_tls = services(MAIN, TLS, **{PASSWORD_NAME: PASSWORD})
    for name in (*CLIENTS, "dashboard"):
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


@pytest.mark.parametrize("name", CLIENTS)
def test_every_role_reads_the_folder_for_policies_and_schedules_and_cannot_write_it(name: str) -> None:
    assert SERVICES[name]["volumes"] == ["./deploy/config:/etc/keyhole:ro"]


def test_git_ignores_what_is_put_into_that_folder() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ignored[ignored.index("/deploy/config/*") + 1] == "!/deploy/config/README.md"
    assert [path.name for path in (ROOT / "deploy" / "config").glob("*.md")] == ["README.md"]


@pytest.mark.parametrize("name", ["worker", "listener"])
def test_credentials_come_from_keys_a_profile_a_web_identity_or_a_server(name: str) -> None:
    environment = SERVICES[name]["environment"]
    aws = {variable: value for variable, value in environment.items() if variable.startswith("AWS_")}
    assert {variable: value for variable, value in aws.items() if value is not None} == {
        "AWS_CONFIG_FILE": "/etc/keyhole/aws/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/etc/keyhole/aws/credentials",
    }
    assert aws.keys() >= {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    }


def test_the_scheduler_has_no_credentials() -> None:
    assert not any(variable.startswith("AWS_") for variable in SERVICES["scheduler"]["environment"])


@pytest.mark.parametrize("name", ["scheduler", "dashboard"])
def test_a_broker_outside_the_file_is_reached_as_workers_reach_it(name: str) -> None:
    """Both publish or read messages, but docker-compose.yml alone lets them reach only Valkey."""
    service = services(MAIN, BROKER, **{PASSWORD_NAME: PASSWORD})[name]
    worker = SERVICES["worker"]

    assert "default" in service["networks"]
    assert service["volumes"] == worker["volumes"]
    passed = {
        variable: value
        for variable, value in worker["environment"].items()
        if not variable.startswith(("KEYHOLE_", "OTEL_"))
    }
    assert passed.items() <= service["environment"].items()
    assert "KEYHOLE_BROKER_URL" in service["environment"]


class TestTheDashboard:
    def test_gets_only_what_it_needs(self) -> None:
        """It reads Redis only, and people can reach it."""
        service = SERVICES["dashboard"]
        environment = service["environment"]
        assert environment.keys() == {
            *("KEYHOLE_REDIS_URL", "KEYHOLE_BROKER_URL", "KEYHOLE_DASHBOARD_TOKEN", "KEYHOLE_LOG_LEVEL")
        }
        assert {name for name, value in environment.items() if value} == {"KEYHOLE_REDIS_URL"}
        assert service["volumes"] == []

    def test_is_reached_from_this_host_at_its_usual_port(self) -> None:
        assert SERVICES["dashboard"]["command"] == ["dashboard", "--host", EVERYWHERE]
        assert SERVICES["dashboard"]["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
        assert f"http://127.0.0.1:{PORT}/health" in SERVICES["dashboard"]["healthcheck"]["test"][-1]

    def test_is_in_the_image(self) -> None:
        assert '"keyhole[dashboard] @ file://' in DOCKERFILE


def test_the_page_lists_the_variables_that_compose_passes() -> None:
    page = (ROOT / "worker" / "keyhole" / "docs" / "operations.md").read_text()
    passed = {name for name in SERVICES["worker"]["environment"] if not name.startswith("KEYHOLE_")}
    assert {name for name in passed if f"`{name}`" not in page} == set()


def test_prometheus_reads_the_metrics_of_every_role_at_the_port_that_the_roles_serve() -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (scrape,) = configuration["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    assert found["names"] == list(CLIENTS)
    assert {SERVICES[name]["environment"]["KEYHOLE_METRICS_PORT"] for name in CLIENTS} == {str(found["port"])}


def test_grafana_finds_its_data_and_its_dashboard_in_mounted_files() -> None:
    (mount,) = SERVICES["grafana"]["volumes"]
    source, target, mode = mount.split(":")
    provisioning = SERVICES["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
    folder = ROOT / source / Path(provisioning).relative_to(target)
    (data,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (dashboards,) = yaml.safe_load((folder / "dashboards" / "keyhole.yml").read_text())["providers"]
    assert mode == "ro"
    assert data["url"] == "http://prometheus:9090"
    assert dashboards["options"]["path"] == target


def test_the_local_s3_is_healthy_when_it_has_the_last_sample() -> None:
    assert f'/{BUCKET}/{SAMPLES[-1].key}"' in SERVICES["s3"]["healthcheck"]["test"][-1]


def test_the_demo_sets_only_variables_that_reach_its_services() -> None:
    passed = {variable for service in SERVICES.values() for variable in service.get("environment", {})}
    assert demo_variables().keys() - {"COMPOSE_PROFILES", PASSWORD_NAME} <= passed
    assert demo_variables()["COMPOSE_PROFILES"] == "demo"


@pytest.mark.parametrize("files", [(MAIN,), (MAIN, TLS)], ids=["plain", "tls"])
def test_without_a_password_there_is_nothing(files: tuple[str, ...]) -> None:
    with pytest.raises(KeyError):
        services(*files)


@pytest.mark.parametrize("name", [*FILES, "deploy/Dockerfile", "deploy/try.py", "deploy/trial/compose.yml"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bKEYHOLE_[A-Z0-9_]+", (ROOT / name).read_text()))
    assert named - {PASSWORD_NAME, CONFIG_DIR_NAME} <= {
        f"KEYHOLE_{field.upper()}" for field in Settings.model_fields
    }


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
            "demo",
            "--profile",
            "metrics",
            "--profile",
            "dashboard",
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
    return {name: service.get(name) for name in ("command", "entrypoint", "environment")} | {
        "healthcheck": service.get("healthcheck", {}).get("test"),
        "profiles": service.get("profiles"),
        "networks": sorted(service.get("networks", ())),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [
        (MAIN,),
        (MAIN, TLS),
        (MAIN, SIGNING),
        (MAIN, TLS, SIGNING),
        (MAIN, BROKER),
        (MAIN, TLS, SIGNING, BROKER),
    ],
)
def test_compose_reads_it_as_these_tests_do(files: tuple[str, ...], tmp_path: Path) -> None:
    done = _config(tmp_path / ".env", *files, **{PASSWORD_NAME: PASSWORD})

    assert done.returncode == 0, done.stderr
    theirs = yaml.safe_load(done.stdout.replace("$$", "$"))["services"]
    ours = services(*files, **{PASSWORD_NAME: PASSWORD})
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
