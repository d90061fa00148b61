"""The permissions of a Redis user, on the real servers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis

from keyhole.store.connection import connect
from keyhole.store.permissions import CHANNEL, KEYS, lacking, rules
from tests.pages import block
from tests.servers.redis_server import USER, RedisServer, redis_server, valkey_server


@pytest.fixture(scope="module", params=[valkey_server, redis_server])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each server in turn."""
    running: AbstractContextManager[Any] = request.param()
    with running as server:
        yield server


def user(server: RedisServer, *changes: str) -> redis.Redis:
    """A client of a user with the fewest rules and these changes."""
    server.add_user(*changes)
    return redis.Redis.from_url(server.url(user=USER), protocol=2)


def test_the_documented_rules_are_enough(server: RedisServer) -> None:
    with user(server) as client:
        assert lacking(client, is_broker=True) == []


def test_nothing_is_refused_that_a_client_says_when_it_connects(server: RedisServer) -> None:
    server.add_user()
    with connect(server.url(user=USER)) as client:
        client.ping()
    assert server.refused() == set()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("-xadd",), ["+xadd"]),
        (("-script|load", "-mget"), ["+mget", "+script|load"]),
        (("-multi",), ["+multi"]),
        (("resetkeys", "~other:*"), [KEYS]),
        (("resetchannels", "&keyhole:*"), ["&" + CHANNEL.format(db=0)]),
    ],
)
def test_what_is_lacking_is_told(server: RedisServer, changes: tuple[str, ...], expected: list[str]) -> None:
    with user(server, *changes) as client:
        assert lacking(client, is_broker=True) == expected


def test_channels_are_for_a_broker_alone(server: RedisServer) -> None:
    with user(server, "resetchannels", "-publish") as client:
        assert lacking(client, is_broker=False) == []


def test_nothing_is_changed(server: RedisServer) -> None:
    with user(server) as client, server.client() as admin:
        before = admin.dbsize()
        lacking(client, is_broker=True)
        assert admin.dbsize() == before


def test_the_reference_has_the_rules() -> None:
    assert rules() in " ".join(block("ACL SETUSER").replace("\\\n", " ").split())
