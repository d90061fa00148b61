"""The connection: which URLs it takes, and how it fails."""

import pytest
import redis

from worker.results.connection import connect


def test_answers_are_bytes(valkey_url: str) -> None:
    """A report is parsed from bytes."""
    with connect(valkey_url) as client:
        client.set("greeting", "hello")

        assert client.get("greeting") == b"hello"


def test_the_url_picks_the_database(valkey_url: str) -> None:
    """What lies in one database is not seen in another."""
    with connect(f"{valkey_url}/1") as first, connect(f"{valkey_url}/2") as second:
        first.set("greeting", "hello")

        assert second.get("greeting") is None


@pytest.mark.parametrize(
    "url", ["redis://host:1/0", "rediss://user:secret@host:1/0", "unix:///run/valkey.sock?db=3"]
)
def test_every_kind_of_url_makes_a_bounded_pool(url: str) -> None:
    """A pool that waits for a free connection, with a limit on each wait."""
    with connect(url) as client:
        pool = client.connection_pool

        assert isinstance(pool, redis.BlockingConnectionPool)
        assert pool.make_connection().socket_timeout == 30


def test_options_in_the_url_go_before_ours() -> None:
    """Whoever runs Keyhole may know better how slow the network is."""
    with connect("redis://host:1/0?socket_timeout=3") as client:
        assert client.connection_pool.make_connection().socket_timeout == 3


def test_a_url_of_another_kind_is_refused() -> None:
    """At once, and not at the first command."""
    with pytest.raises(ValueError, match="scheme"):
        connect("http://host")


def test_an_unreachable_server_is_a_redis_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retries, whose waits are taken out here."""
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)

    with connect("unix:///nonexistent/valkey.sock") as client, pytest.raises(redis.ConnectionError):
        client.ping()
