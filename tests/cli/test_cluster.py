"""A Redis that belongs to a cluster is refused in one line."""

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Keyhole
from tests.ports import free_port
from tests.servers.redis_server import redis_server


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """The URL of a node that serves half of the slots."""
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(8000))
        yield server.url()


@pytest.mark.parametrize("command", [("submit", "s3://images/k"), ("results",), ("worker",)])
def test_a_command_ends(keyhole: Keyhole, cluster_url: str, command: tuple[str, ...]) -> None:
    printed = keyhole(*command, KEYHOLE_REDIS_URL=cluster_url)

    assert printed.code == 2
    assert printed.error.startswith("the Redis belongs to a cluster, which Keyhole cannot use")


def test_the_doctor_says_it(keyhole: Keyhole, cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)

    printed = keyhole("doctor", "--json", KEYHOLE_REDIS_URL=cluster_url)

    found = [json.loads(line) for line in printed.lines]
    assert printed.code == 3
    role = next(one for one in found if one["what"] == "redis role")
    assert (role["state"], role["message"].partition(",")[0]) == ("bad", "the Redis belongs to a cluster")
