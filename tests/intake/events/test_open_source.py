"""URLs of queues. No error shows the wrong part of a URL, because it can be a password."""

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.events.amqp import AmqpSource
from keyhole.intake.events.amqp_queue import AmqpQueue, Binding
from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.redis_list import RedisListSource
from keyhole.intake.events.sqs import SqsQueue, SqsSource
from tests.e2e.commands import S3_CREDENTIALS
from tests.servers.access import isolate

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    isolate(monkeypatch, **S3_CREDENTIALS)


def opened(url: str, **options: str) -> AmqpSource | RedisListSource | SqsSource:
    """Open a URL without connecting."""
    source = open_source(url, listener_id="test", **options)
    source.close()
    assert isinstance(source, AmqpSource | RedisListSource | SqsSource)
    return source


def quoted(text: str) -> str:
    """Percent-encode all bytes with a meaning in URLs, and some without."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02x}" for byte in text.encode()
    )


class TestSqs:
    @pytest.mark.parametrize(
        ("url", "queue"),
        [
            ("sqs://uploads", SqsQueue("uploads", region="eu-west-1")),
            ("sqs://Uploads_2.fifo", SqsQueue("Uploads_2.fifo", region="eu-west-1")),
            (
                "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads",
                SqsQueue(
                    "uploads",
                    "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads",
                    "eu-central-1",
                    "https://sqs.eu-central-1.amazonaws.com",
                ),
            ),
            (
                "http://127.0.0.1:9324/000000000000/uploads",
                SqsQueue(
                    "uploads",
                    "http://127.0.0.1:9324/000000000000/uploads",
                    "eu-west-1",
                    "http://127.0.0.1:9324",
                ),
            ),
        ],
    )
    def test_a_url_names_a_queue(self, url: str, queue: SqsQueue) -> None:
        source = opened(url, region="eu-west-1")

        assert isinstance(source, SqsSource)
        assert source._address == queue

    @pytest.mark.parametrize("scheme", ["sqs", "sqs+https", "https"])
    def test_one_can_be_written_in_several_ways(self, scheme: str) -> None:
        source = opened(f"{scheme}://sqs.eu-central-1.amazonaws.com/123456789012/uploads")

        assert isinstance(source, SqsSource)
        assert source._address.url == "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads"
        assert source.name == "sqs://sqs.eu-central-1.amazonaws.com/123456789012/uploads"

    @pytest.mark.parametrize(
        ("host", "region"),
        [
            ("sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("sqs-fips.us-east-2.amazonaws.com", "us-east-2"),
            ("sqs.eu-west-3.api.aws", "eu-west-3"),
            ("vpce-0a1b-2c3d.sqs.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
            ("sqs.example.com", "eu-west-1"),
            ("localhost:4566", "eu-west-1"),
        ],
    )
    def test_its_host_tells_the_region(self, host: str, region: str) -> None:
        source = opened(f"sqs://{host}/123456789012/uploads", region="eu-west-1")

        assert isinstance(source, SqsSource)
        assert source._address.region == region

    def test_a_name_alone_needs_a_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")

        with pytest.raises(ValueError, match=r"AWS_DEFAULT_REGION"):
            opened("sqs://uploads")
        assert opened("sqs://uploads", region="eu-west-1").name == "sqs://uploads"
        assert opened("sqs://uploads", endpoint_url="http://127.0.0.1:1").name == "sqs://uploads"

    def test_a_profile_that_is_not_there_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")

        with pytest.raises(ValueError, match="nobody"):
            opened("sqs://uploads")

    @pytest.mark.parametrize(
        "url",
        [
            "sqs://",
            "sqs://uploads/",
            "sqs://up loads",
            "sqs://uploads.csv",
            "sqs://host/uploads",
            "https://sqs.eu-central-1.amazonaws.com/",
            "https://sqs.eu-central-1.amazonaws.com/uploads",
            "https://example.com/some/page.html",
            "sqs://uploads?region=eu-west-1",
            "sqs://key:secret@uploads",
        ],
    )
    def test_what_names_none_is_told_so(self, url: str) -> None:
        with pytest.raises(ValueError, match="write https://sqs"):
            opened(url)


class TestAmqp:
    @pytest.mark.parametrize(
        ("url", "queue"),
        [
            ("amqp://host/events", AmqpQueue("host", "events")),
            ("amqp://host//events", AmqpQueue("host", "events")),
            ("amqp://host/%2F/events", AmqpQueue("host", "events")),
            ("amqp://host/prod/events", AmqpQueue("host", "events", vhost="prod")),
            (
                "amqp://user:p%40ss%2F@host:5673/a%2Fb/c%2Fd",
                AmqpQueue("host", "c/d", vhost="a/b", port=5673, user="user", password="p@ss/"),
            ),
            ("amqps://[::1]:1/events", AmqpQueue("::1", "events", port=1, tls=True)),
            ("AMQP://user@host/events", AmqpQueue("host", "events", user="user")),
            (
                "amqp://host/q?exchange=ceph&routing_key=topic",
                AmqpQueue("host", "q", binding=Binding("ceph", "topic")),
            ),
            (
                "amqp://host/q?exchange=minio&routing_key=&exchange_type=fanout",
                AmqpQueue("host", "q", binding=Binding("minio", "", "fanout")),
            ),
            (
                "amqp://host/q?exchange=a%26b&routing_key=%23&exchange_type=topic",
                AmqpQueue("host", "q", binding=Binding("a&b", "#", "topic")),
            ),
        ],
    )
    def test_a_url_names_a_queue(self, url: str, queue: AmqpQueue) -> None:
        source = opened(url)

        assert isinstance(source, AmqpSource)
        assert source._address == queue

    @pytest.mark.slow
    @given(names, names, names, names)
    def test_every_name_can_be_written(self, user: str, password: str, vhost: str, queue: str) -> None:
        source = opened(f"amqp://{quoted(user)}:{quoted(password)}@host/{quoted(vhost)}/{quoted(queue)}")

        assert isinstance(source, AmqpSource)
        assert source._address == AmqpQueue("host", queue, vhost=vhost, user=user, password=password)

    @pytest.mark.parametrize(
        "url",
        [
            "amqp://",
            "amqp://host",
            "amqp://host/",
            "amqp://host/vhost/",
            "amqp:///queue",
            "amqp://host/a/b/queue",
            "amqp://host:port/queue",
            "amqp://host:99999/queue",
            "amqp://[::1/queue",
            "amqp://host/%ff",
            "amqp://host/" + 256 * "q",
            "amqp://host/queue#1",
            "amqp://host/q?exchange=x",
            "amqp://host/q?routing_key=x",
            "amqp://host/q?exchange=&routing_key=x",
            "amqp://host/q?exchange=x&routing_key=y&exchange_type=tropic",
            "amqp://host/q?exchange=x&routing_key=y&durable=no",
            "amqp://host/q?exchange=x&routing_key=" + 256 * "y",
        ],
    )
    def test_what_names_none_is_told_so(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"amqp://user:password@host") as raised:
            opened(url)
        assert "\n" not in str(raised.value)


class TestRedis:
    @pytest.mark.parametrize(
        ("url", "name", "database"),
        [
            ("redis://host/events", "redis://host/0/events", 0),
            ("redis://host/2/events", "redis://host/2/events", 2),
            ("redis://host/0/0", "redis://host/0/0", 0),
            ("redis://host/2/minio/events:all", "redis://host/2/minio/events:all", 2),
            ("redis://host/2/a%20b%2Fc", "redis://host/2/a%20b/c", 2),
            ("rediss://:secret@host:6380/2/events", "rediss://host:6380/2/events", 2),
            ("redis://user:p%40ss@[::1]:1/2/events", "redis://[::1]:1/2/events", 2),
            ("redis://host/2/events?socket_timeout=3", "redis://host/2/events", 2),
            ("unix:///run/v.sock?db=3&key=events", "unix:///run/v.sock?db=3&key=events", 3),
            ("unix://user:secret@/run/v.sock?key=a%26b", "unix:///run/v.sock?db=0&key=a%26b", 0),
        ],
    )
    def test_a_url_names_a_list(self, url: str, name: str, database: int) -> None:
        source = opened(url)

        assert isinstance(source, RedisListSource)
        assert source.name == name
        assert source._client.connection_pool.connection_kwargs["db"] == database

    @given(names, names)
    def test_every_key_and_password_can_be_written(self, key: str, password: str) -> None:
        for url in (
            f"redis://:{quoted(password)}@host/0/{quoted(key)}",
            f"unix://:{quoted(password)}@/run/valkey.sock?key={quoted(key)}",
        ):
            source = opened(url)
            assert isinstance(source, RedisListSource)
            assert source._key == key
            assert source._client.connection_pool.connection_kwargs["password"] == password

    @pytest.mark.parametrize(
        "url",
        [
            "redis://",
            "redis://host",
            "redis://host/",
            "redis://host/0/",
            "redis://host/zero/events",
            "redis://host/-1/events",
            "redis://:secret@/0/events",
            "redis://host/0/events?colour=green",
            "redis://host/0/events?db=1",
            "redis://host/0/events?decode_responses=yes",
            "redis://host/0/events?socket_timeout=long",
            "redis://host/0/%ff",
            "redis://host:port/0/events",
            "unix://",
            "unix:///run/valkey.sock",
            "unix:///run/valkey.sock?key=",
            "unix:///run/valkey.sock?key=events&db=zero",
            "unix:///run/valkey.sock?key=events&colour=green",
        ],
    )
    def test_what_names_none_is_told_so(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"redis://:password@host:6379/0/key|unix:///run/") as raised:
            opened(url)
        assert "\n" not in str(raised.value)


class TestSecrets:
    @pytest.mark.parametrize(
        "url", ["", "s3cret", "s3cret://host/q", "kafka://s3cret@host/topic", "://s3cret"]
    )
    def test_what_is_no_queue_at_all_is_shown_every_kind(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"sqs://.*amqp://.*redis://.*unix://") as raised:
            opened(url)

        assert "s3cret" not in str(raised.value)

    @pytest.mark.parametrize("scheme", ["amqp", "amqps", "redis", "rediss", "unix", "sqs", "https"])
    def test_a_password_that_is_not_quoted_is_not_shown(self, scheme: str) -> None:
        """Such a password breaks the URL or changes its meaning. No part of it is shown."""
        marks = ["/", "@", "#", "?", ":", "%", "[", "]", "\\", " ", "&", "=", "%zz", "%ff"]
        for mark, before in product(marks, ["12", "s3cret"]):
            url = f"{scheme}://user:{before}{mark}s3cret@host/0/queue?key=key"

            shown = [*texts(url)]

            assert not [text for text in shown if "s3cret" in text], url

    def test_nor_does_an_address_show_it(self) -> None:
        source = opened("amqp://user:s3cret@host/queue")
        assert isinstance(source, AmqpSource)

        assert "s3cret" not in repr(source._address) + source.name


def texts(url: str) -> Iterator[str]:
    """All texts about a URL: the queue's name, or the error and its causes."""
    try:
        yield opened(url).name
    except ValueError as error:
        cause: BaseException | None = error
        while cause is not None:
            yield str(cause)
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
