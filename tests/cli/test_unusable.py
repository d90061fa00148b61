"""Mistakes of operators, on real servers: one line states what to do, without a traceback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.api import connections
from keyhole.cli.backend import ANSWER_SECONDS
from keyhole.cli.doctor_check import DEADLINE
from tests.cli.conftest import Keyhole, Printed
from tests.e2e import commands
from tests.in_time import ended_by
from tests.ports import free_port
from tests.servers.rabbitmq import PASSWORD as BROKER_PASSWORD
from tests.servers.rabbitmq import USER, RabbitMQ
from tests.servers.redis_server import PASSWORD, RedisServer, redis_server
from tests.servers.sentinel import sentinel
from tests.servers.silent import silent_server
from tests.slow import slow

OBJECT = "s3://images/k"
#: Commands that queue jobs or read verdicts.
WRITES = (
    ("submit", OBJECT),
    slow(("submit", "--wait", OBJECT)),
    slow(("audit", "--detach", "s3://images/")),
    ("worker",),
)
READS = (("results",), slow(("show", OBJECT)))


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """A process makes its S3 client once, but here several commands run in one process."""
    connections._shared_s3.cache_clear()
    yield
    connections._shared_s3.cache_clear()


@pytest.fixture(scope="module")
def primary() -> Iterator[RedisServer]:
    """A usable Redis."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: RedisServer) -> Iterator[RedisServer]:
    """A replica of it."""
    with redis_server("--replicaof", f"127.0.0.1 {primary.port}", "--masterauth", PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def sentinel_url(primary: RedisServer) -> Iterator[str]:
    """The URL of a Sentinel that monitors it, on the Sentinel's port."""
    with sentinel(primary) as port:
        yield f"redis://127.0.0.1:{port}/0"


def bad(keyhole: Keyhole, *place: str, **settings: object) -> dict[str, str]:
    """The subjects that the doctor reports as bad. It must report all other subjects too."""
    printed = keyhole("doctor", "--json", *place, **settings)
    assert printed.code == 3
    assert printed.err == ""
    found = [json.loads(line) for line in printed.lines]
    assert {"settings", "events", "s3", "redis", "broker"} <= {one["what"] for one in found}
    return {one["what"]: one["message"] for one in found if one["state"] == "bad"}


def refused(printed: Printed, code: int, words: str) -> None:
    """Assert that a command ended with this code and one line."""
    assert (printed.code, words in printed.error) == (code, True), printed


class TestSentinel:
    WORDS = "this is a sentinel, which stores no data"

    @pytest.mark.parametrize("command", [*WRITES, *READS])
    def test_as_the_store(self, keyhole: Keyhole, sentinel_url: str, command: tuple[str, ...]) -> None:
        refused(keyhole(*command, KEYHOLE_REDIS_URL=sentinel_url), 2, self.WORDS)

    @pytest.mark.parametrize("command", WRITES)
    def test_as_the_broker(
        self, keyhole: Keyhole, primary: RedisServer, sentinel_url: str, command: tuple[str, ...]
    ) -> None:
        printed = keyhole(*command, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=sentinel_url)

        refused(printed, 2, self.WORDS)
        assert "KEYHOLE_BROKER_URL" in printed.error
        with primary.client() as client:
            assert client.keys("keyhole:*") == []

    def test_in_the_doctor(self, keyhole: Keyhole, primary: RedisServer, sentinel_url: str) -> None:
        found = bad(keyhole, KEYHOLE_REDIS_URL=sentinel_url)
        assert (set(found), found["redis role"].startswith(self.WORDS)) == ({"redis role"}, True)

        found = bad(keyhole, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=sentinel_url)
        assert (set(found), found["broker role"].startswith(self.WORDS)) == ({"broker role"}, True)


class TestReplica:
    @pytest.mark.parametrize("command", WRITES)
    def test_it_takes_no_jobs(
        self, keyhole: Keyhole, primary: RedisServer, replica: RedisServer, command: tuple[str, ...]
    ) -> None:
        words = f"the Redis is a replica of 127.0.0.1:{primary.port}, which accepts no writes"

        refused(keyhole(*command, KEYHOLE_REDIS_URL=replica.url()), 3, words)
        as_broker = keyhole(*command, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=replica.url())
        refused(as_broker, 3, words)

    def test_verdicts_can_be_read_of_it(self, keyhole: Keyhole, replica: RedisServer) -> None:
        assert keyhole("results", KEYHOLE_REDIS_URL=replica.url()).code == 0

    def test_in_the_doctor(self, keyhole: Keyhole, primary: RedisServer, replica: RedisServer) -> None:
        found = bad(keyhole, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=replica.url())

        assert found["broker role"].endswith("set KEYHOLE_BROKER_URL to the primary")


class TestWritesThatAreRefused:
    @pytest.mark.parametrize(
        ("option", "value", "words", "what"),
        [
            ("maxmemory", "1", "Redis is full", "memory"),
            ("min-replicas-to-write", "1", "too few replicas are connected", "role"),
        ],
    )
    def test_it_is_told_why(self, keyhole: Keyhole, option: str, value: str, words: str, what: str) -> None:
        with redis_server(f"--{option}", value) as server:
            refused(keyhole("submit", OBJECT, KEYHOLE_REDIS_URL=server.url()), 3, words)
            assert f"redis {what}" in bad(keyhole, KEYHOLE_REDIS_URL=server.url())

    def test_a_user_who_may_only_read(self, keyhole: Keyhole, primary: RedisServer) -> None:
        rules = ("on", ">pw", "~*", "&*", "-@all", "+@read", "+ping", "+info", "+multi", "+exec", "+discard")
        with primary.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", *rules)
        url = f"redis://reader:pw@127.0.0.1:{primary.port}/0"

        refused(keyhole("submit", OBJECT, KEYHOLE_REDIS_URL=url), 3, "lacks a permission")
        refused(keyhole("worker", KEYHOLE_REDIS_URL=url), 2, "+evalsha")
        assert "+evalsha" in bad(keyhole, KEYHOLE_REDIS_URL=url)["redis user"]


class TestLogin:
    @pytest.mark.parametrize("command", [*WRITES, *READS])
    def test_a_wrong_password_of_redis(
        self, keyhole: Keyhole, primary: RedisServer, command: tuple[str, ...]
    ) -> None:
        url = f"redis://:wrong@127.0.0.1:{primary.port}/0"

        refused(keyhole(*command, KEYHOLE_REDIS_URL=url), 3, "Redis refuses the login")

    @pytest.mark.slow
    @pytest.mark.parametrize("command", WRITES)
    @pytest.mark.parametrize(
        ("password", "vhost", "words"),
        [(BROKER_PASSWORD + "x", "keyhole", "ACCESS_REFUSED"), (BROKER_PASSWORD, "nope", "NOT_ALLOWED")],
    )
    def test_a_wrong_password_or_virtual_host_of_rabbitmq(
        self,
        keyhole: Keyhole,
        primary: RedisServer,
        rabbitmq: RabbitMQ,
        command: tuple[str, ...],
        password: str,
        vhost: str,
        words: str,
    ) -> None:
        url = f"amqp://{USER}:{password}@127.0.0.1:{rabbitmq.port}/{vhost}"

        refused(keyhole(*command, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=url), 3, words)

        assert words in bad(keyhole, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=url)["broker"]


class TestTls:
    @pytest.fixture(autouse=True)
    def _busy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a server on a busy machine answer."""
        monkeypatch.setattr("keyhole.cli.other_end.LOOK_SECONDS", 60.0)

    @pytest.mark.parametrize("command", [("submit", OBJECT), ("results",), ("worker",)])
    def test_a_redis_that_is_reached_without(
        self, keyhole: Keyhole, primary: RedisServer, command: tuple[str, ...]
    ) -> None:
        url = primary.url(scheme="rediss").replace("rediss:", "redis:")

        refused(keyhole(*command, KEYHOLE_REDIS_URL=url), 3, "speaks TLS: write rediss://")

    @pytest.mark.slow
    @pytest.mark.parametrize("command", [("submit", OBJECT), ("results",), ("worker",)])
    def test_a_redis_that_does_not_speak_it(
        self, keyhole: Keyhole, primary: RedisServer, command: tuple[str, ...]
    ) -> None:
        """The server waits for the end of a line, and the client for a certificate.

        Without a timeout this took 3 minutes and 37 seconds.
        """
        url = primary.url().replace("redis:", "rediss:")

        with ended_by(ANSWER_SECONDS):
            refused(keyhole(*command, KEYHOLE_REDIS_URL=url), 3, "does not speak TLS: write redis://")

    @pytest.mark.slow
    def test_in_the_doctor(self, keyhole: Keyhole, primary: RedisServer) -> None:
        found = bad(keyhole, KEYHOLE_REDIS_URL=primary.url().replace("redis:", "rediss:"))
        assert set(found) == {"redis", "broker"}
        assert all("does not speak TLS: write redis://" in message for message in found.values())

        url = primary.url(scheme="rediss").replace("rediss:", "redis:")
        found = bad(keyhole, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=url)
        assert "speaks TLS: write rediss://" in found["broker"]

    @pytest.mark.slow
    def test_rabbitmq_in_the_doctor(self, keyhole: Keyhole, primary: RedisServer, rabbitmq: RabbitMQ) -> None:
        for url, words in (
            (rabbitmq.url("keyhole").replace("amqp:", "amqps:"), "does not speak TLS: write amqp://"),
            (rabbitmq.url("keyhole", scheme="amqps").replace("amqps:", "amqp:"), "write amqps://"),
        ):
            found = bad(keyhole, KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_BROKER_URL=url)
            assert words in found["broker"]


@pytest.mark.slow
class TestSilence:
    """A firewall drops all packets. Commands end after a timeout, and state what they waited for."""

    @pytest.mark.parametrize("swallows", [False, True])
    @pytest.mark.parametrize("command", [("submit", OBJECT), ("results",), ("show", OBJECT)])
    def test_of_redis(self, keyhole: Keyhole, command: tuple[str, ...], swallows: bool) -> None:
        with silent_server(swallows=swallows) as port, ended_by(ANSWER_SECONDS):
            refused(keyhole(*command, KEYHOLE_REDIS_URL=f"redis://127.0.0.1:{port}/0"), 3, "does not answer")

    @pytest.mark.parametrize("swallows", [False, True])
    @pytest.mark.parametrize("scheme", ["amqp", "amqps", "redis"])
    def test_of_the_broker(self, keyhole: Keyhole, primary: RedisServer, scheme: str, swallows: bool) -> None:
        with silent_server(swallows=swallows) as port:
            settings = {
                "KEYHOLE_REDIS_URL": primary.url(),
                "KEYHOLE_BROKER_URL": f"{scheme}://127.0.0.1:{port}/0",
            }
            with ended_by(ANSWER_SECONDS):
                assert keyhole("submit", OBJECT, **settings).error
            with ended_by(DEADLINE):
                found = bad(keyhole, **settings)
        assert set(found) == {"broker"}
        assert "took longer" not in found["broker"]

    @pytest.mark.parametrize("swallows", [False, True])
    def test_of_everything_in_the_doctor(self, keyhole: Keyhole, swallows: bool) -> None:
        with silent_server(swallows=swallows) as port:
            place = f"127.0.0.1:{port}"
            # The doctor checks servers and events at the same time, then a listing, then an object.
            with ended_by(3 * DEADLINE):
                printed = keyhole(
                    "doctor",
                    "--json",
                    OBJECT,
                    KEYHOLE_REDIS_URL=f"redis://{place}/0",
                    KEYHOLE_BROKER_URL=f"amqp://{place}",
                    KEYHOLE_EVENTS_URL=f"http://{place}/123456789012/q",
                    KEYHOLE_S3_ENDPOINT_URL=f"http://{place}",
                )
        found = {one["what"] for one in map(json.loads, printed.lines) if one["state"] == "bad"}
        assert (printed.code, found) == (3, {"redis", "broker", "events", "list", "read"})
        assert "took longer" not in printed.out


@pytest.mark.slow
class TestAlarm:
    """RabbitMQ has too little memory, and blocks publishers."""

    @pytest.fixture(autouse=True)
    def _alarm(self, rabbitmq: RabbitMQ) -> Iterator[None]:
        rabbitmq.control("set_vm_memory_high_watermark", "0.0000001")
        yield
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")

    def test_its_reason_is_named(self, keyhole: Keyhole, primary: RedisServer, rabbitmq: RabbitMQ) -> None:
        settings = {"KEYHOLE_REDIS_URL": primary.url(), "KEYHOLE_BROKER_URL": rabbitmq.url("keyhole")}

        # The alarm ends after the test, so a command that waited for its end would not end.
        assert "low on memory" in bad(keyhole, **settings)["workers"]
        printed = keyhole("submit", OBJECT, **settings)
        assert (printed.code, "low on memory" in printed.err.splitlines()[-1]) == (3, True)


@pytest.mark.slow
class TestAwsConfiguration:
    @pytest.fixture
    def env(self, env: dict[str, str], primary: RedisServer) -> dict[str, str]:
        """An environment without credentials."""
        env["KEYHOLE_REDIS_URL"] = primary.url()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del env[name]
        return env

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("[default", "Unable to parse config file"),
            ("[default]\ncredential_process = /bin/false\n", "custom-process; check their source"),
            ("[default]\ncredential_process = /nonexistent/program\n", "No such file or directory"),
            ("[default]\ncredential_process = /bin/echo hello\n", "JSONDecodeError"),
        ],
    )
    def test_a_file(self, keyhole: Keyhole, tmp_path: Path, config: str, words: str) -> None:
        path = tmp_path / "config"
        path.write_text(config)

        self.told(keyhole, words, AWS_CONFIG_FILE=path)

    def test_a_profile(self, keyhole: Keyhole) -> None:
        self.told(
            keyhole, "The config profile (nope) could not be found; set AWS_PROFILE", AWS_PROFILE="nope"
        )

    def test_a_token_that_is_not_there(self, keyhole: Keyhole) -> None:
        self.told(
            keyhole,
            "No such file or directory: '/nonexistent/token'",
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/x",
            AWS_WEB_IDENTITY_TOKEN_FILE="/nonexistent/token",
        )

    @pytest.mark.parametrize(
        "url", ["127.0.0.1:9000", "http://127.0.0.1:9000 ", "http://127.0.0.1:9\x1b[31m"]
    )
    def test_an_endpoint_of_the_configurations(self, keyhole: Keyhole, url: str) -> None:
        settings = {"AWS_ENDPOINT_URL_S3": url, "KEYHOLE_S3_ENDPOINT_URL": ""}
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

        self.told(keyhole, "", **settings, **credentials)

    @staticmethod
    def told(keyhole: Keyhole, words: str, **settings: object) -> None:
        """Assert that the doctor and two commands report it in one line each.

        The doctor must report all other subjects too.
        """
        printed = keyhole("doctor", "--json", OBJECT, **settings)
        found = [json.loads(line) for line in printed.lines]
        assert (printed.code, printed.err) == (3, "")
        assert {"jobs", "queue", "workers", "s3"} <= {one["what"] for one in found}
        faults = [one["message"] for one in found if one["state"] == "bad" and one["what"] != "workers"]
        assert faults
        assert words in faults[0]
        for command in (
            ("submit", "-r", "s3://images/"),
            ("audit", "--dry-run", "s3://images/"),
            ("worker",),
        ):
            connections._shared_s3.cache_clear()
            refused(keyhole(*command, **settings), 3, words)


class TestEndpoint:
    @pytest.mark.parametrize("url", ["127.0.0.1:9000", "http://127.0.0.1:9\x1b[31m", "http:// 127.0.0.1:9"])
    @pytest.mark.parametrize("command", [("doctor",), slow(("submit", OBJECT)), slow(("results",))])
    def test_one_that_is_no_url_is_usage(self, keyhole: Keyhole, url: str, command: tuple[str, ...]) -> None:
        refused(keyhole(*command, KEYHOLE_S3_ENDPOINT_URL=url), 2, "is not the URL of a server")

    def test_a_blank_around_it_is_no_part_of_it(
        self, keyhole: Keyhole, primary: RedisServer, moto_url: str, bucket: str
    ) -> None:
        settings = {"KEYHOLE_REDIS_URL": primary.url(), "KEYHOLE_S3_ENDPOINT_URL": f" {moto_url} "}

        printed = keyhole("doctor", "--json", f"s3://{bucket}/", **settings)

        found = {one["what"]: one["state"] for one in map(json.loads, printed.lines)}
        assert (found["s3"], found["list"]) == ("ok", "ok")

    @pytest.mark.slow
    def test_a_certificate_that_nobody_vouches_for(self, keyhole: Keyhole, primary: RedisServer) -> None:
        """Any server with TLS is enough for the handshake. This one is not an S3."""
        url = f"https://127.0.0.1:{primary.tls_port}"

        found = bad(keyhole, "s3://images/k", KEYHOLE_REDIS_URL=primary.url(), KEYHOLE_S3_ENDPOINT_URL=url)

        assert found["list"].startswith("the server's certificate is not trusted: ")
        assert "AWS_CA_BUNDLE" in found["list"]

    @pytest.mark.slow
    def test_tls_that_it_does_not_speak(self, keyhole: Keyhole, primary: RedisServer, moto_url: str) -> None:
        printed = keyhole(
            "doctor",
            "--json",
            OBJECT,
            KEYHOLE_REDIS_URL=primary.url(),
            KEYHOLE_S3_ENDPOINT_URL=moto_url.replace("http:", "https:"),
        )

        (listing,) = [one for one in map(json.loads, printed.lines) if one["what"] == "list"]
        assert listing["state"] == "bad"
        assert listing["message"].startswith("the server does not speak TLS; write http://")


class TestEmbedded:
    """Nothing is configured, and the data folder cannot be created. The superuser can write everywhere."""

    @pytest.mark.parametrize("place", ["/proc/nobody", "/dev/null"])
    @pytest.mark.parametrize("command", [*WRITES, *READS])
    def test_it_is_told(self, keyhole: Keyhole, place: str, command: tuple[str, ...]) -> None:
        refused(keyhole(*command, KEYHOLE_DATA_DIR=place), 3, "set KEYHOLE_DATA_DIR to a writable folder")

    def test_in_the_doctor(self, keyhole: Keyhole) -> None:
        printed = keyhole("doctor", "--json", KEYHOLE_DATA_DIR="/proc/nobody")

        found = [json.loads(line) for line in printed.lines]
        told = [one["message"] for one in found if (one["what"], one["state"]) == ("redis", "bad")]
        assert len(told) == 1
        assert "set KEYHOLE_DATA_DIR to a writable folder" in told[0]
        assert {"s3", "credentials", "events"} <= {one["what"] for one in found}


@pytest.mark.parametrize("command", [("doctor",), slow(("submit", OBJECT)), slow(("worker",))])
def test_settings_that_are_wrong_are_told_by_a_process_of_its_own(
    env: dict[str, str], command: tuple[str, ...]
) -> None:
    """Celery's application reads the settings when it is imported, and would show all their values."""
    env["KEYHOLE_REDIS_URL"] = "redis://:p?s3cret@127.0.0.1:1/0"

    done = commands.keyhole(*command, env=env)

    (line,) = commands.lines(done.stderr)
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith("Error: KEYHOLE_REDIS_URL is set to ")
    assert "s3cret" not in line


def test_a_port_that_nobody_listens_at_is_waited_for_a_while(
    keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)
    url = f"redis://127.0.0.1:{free_port()}/0"

    refused(keyhole("results", KEYHOLE_REDIS_URL=url), 3, "Redis does not answer (Error 111 ")


def test_a_broker_of_aws_that_cannot_be_reached_is_one_line(
    keyhole: Keyhole, primary: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keyhole status` reads the lengths of the queues from SQS."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    settings = {"KEYHOLE_REDIS_URL": primary.url(), "KEYHOLE_BROKER_URL": "sqs://"}
    settings |= {"AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{free_port()}"}

    refused(keyhole("status", "--once", **settings), 3, "AWS does not answer as expected (Could not connect")
