"""A Redis that belongs to a cluster is refused as the broker, in one line."""

import json
from collections.abc import Iterator

import pytest

from keyhole.store.cluster import SLOT
from tests.cli.conftest import Keyhole
from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.redis_server import USER, redis_server


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    """The URL of a node that serves the second half of the slots."""
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(8000, 16384))
            assert SLOT < 8000
        yield server.url()


@pytest.mark.parametrize("command", [("submit", "s3://images/k"), ("worker",)])
@pytest.mark.parametrize("setting", ["KEYHOLE_REDIS_URL", "KEYHOLE_BROKER_URL"])
def test_a_command_that_queues_jobs_ends(
    keyhole: Keyhole, cluster_url: str, valkey_url: str, setting: str, command: tuple[str, ...]
) -> None:
    """Without a broker's URL, the Redis that stores verdicts is the broker."""
    printed = keyhole(*command, **{"KEYHOLE_REDIS_URL": valkey_url, setting: cluster_url})

    assert printed.code == 2
    assert printed.error == (
        "this Redis belongs to a cluster, which can store verdicts but not queue jobs; set "
        "KEYHOLE_BROKER_URL to RabbitMQ (amqp://), SQS (sqs://) or a Redis without cluster mode"
    )


def test_a_cluster_that_lacks_the_slot_is_told(keyhole: Keyhole, cluster_url: str) -> None:
    """The node serves only half of the slots, and no other node serves Keyhole's slot."""
    printed = keyhole("results", KEYHOLE_REDIS_URL=cluster_url)

    assert printed.code == 3
    assert printed.error.startswith("the Redis cluster does not serve Keyhole's keys (")
    assert "; look for failed nodes with CLUSTER NODES" in printed.error


def test_the_doctor_says_it(keyhole: Keyhole, cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)

    printed = keyhole("doctor", "--json", KEYHOLE_REDIS_URL=cluster_url)

    found = [json.loads(line) for line in printed.lines]
    assert printed.code == 3
    role = next(one for one in found if one["what"] == "redis role")
    assert (role["state"], role["message"].partition(",")[0]) == ("bad", "this Redis belongs to a cluster")


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "state"), [((), "advice"), (("+cluster|slots",), "ok")])
def test_the_doctor_says_whether_keyhole_finds_all_nodes(
    keyhole: Keyhole, valkey_url: str, monkeypatch: pytest.MonkeyPatch, rules: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16384))
            until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        server.add_user(*rules)

        printed = keyhole(
            "doctor", "--json", KEYHOLE_REDIS_URL=server.url(user=USER), KEYHOLE_BROKER_URL=valkey_url
        )

    found = {one["what"]: one for one in map(json.loads, printed.lines)}
    assert found["redis cluster"]["state"] == state
    assert found["redis role"]["state"] == "ok"
    assert found["redis user"]["state"] != "bad"
