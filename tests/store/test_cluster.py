"""A client in a real Valkey Cluster: it finds the node that has Keyhole's keys, and follows the keys."""

from collections.abc import Iterator

import pytest
import redis

from keyhole.store import keys
from keyhole.store.cluster import SLOT, SlotUnavailableError
from keyhole.store.connection import connect
from keyhole.store.durability import Durability
from keyhole.store.permissions import lacking, rules
from keyhole.store.round_trips import RoundTrips, Step
from tests.e2e.commands import until
from tests.servers.cluster import Cluster, ClusterNode, valkey_cluster

pytestmark = pytest.mark.slow

A, B, C = (keys.record(name) for name in "abc")
#: Sets two keys, of which only one is declared, as Keyhole's scripts do with keys that they derive.
SET_TWO = "redis.call('SET', KEYS[1], 'x') redis.call('SET', ARGV[1], 'y') return 'done'"


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """Three primaries, and a replica of the owner."""
    with valkey_cluster(replicas=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The cluster, without keys. Every node is alive, and the first one is the owner again after the test."""
    with running.owner.client() as client:
        client.flushall()
    yield running
    with running.owner.client() as client:
        if client.info("replication")["role"] == "slave":
            until(lambda: client.info("replication")["master_link_status"] == "up")
            client.execute_command("CLUSTER FAILOVER")
            until(lambda: client.info("replication")["role"] == "master")
    until(running.is_well)


class TestEveryNode:
    """Each kind of command, with a client whose URL names a node that does not have the keys."""

    @pytest.fixture(params=["owner", "another", "replica"])
    def client(self, cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
        nodes = {"owner": cluster.owner, "another": cluster.others[0], "replica": cluster.replicas[0]}
        with connect(nodes[request.param].url, retries=0) as client:
            yield client

    def test_leads_to_the_keys(self, client: redis.Redis, cluster: Cluster) -> None:
        pipe = client.pipeline(transaction=True)
        pipe.set(A, "1")
        pipe.set(B, "2")
        assert pipe.execute() == [True, True]
        accepted = client.pipeline(transaction=False)
        accepted.get(A)
        assert Durability(client).execute(accepted) == [b"1"]
        assert RoundTrips(client).run([Step(SET_TWO, [A], [C])]) == [[b"done"]]
        assert client.register_script(SET_TWO)(keys=[A], args=[C]) == b"done"
        assert sorted(client.scan_iter("keyhole:*")) == [A.encode(), B.encode(), C.encode()]
        assert client.info()["tcp_port"] == cluster.owner.port


def test_the_documented_rules_are_enough(cluster: Cluster) -> None:
    """The cluster's users are added to each node. Without `+cluster|slots`, a client follows `MOVED`."""
    for node in cluster.nodes:
        with node.client() as admin:
            admin.execute_command("ACL SETUSER", "keyhole", "reset", "on", ">pw", *rules().split())
    url = cluster.others[0].url.replace("://", "://keyhole:pw@")

    with connect(url) as client:
        client.set(A, "1")

        assert lacking(client, is_broker=False) == []
        assert client.info()["tcp_port"] == cluster.owner.port


def test_a_replica_takes_over_when_the_owner_is_killed(cluster: Cluster) -> None:
    """The client was connected to the owner, whose URL is the only one that it was given."""
    with connect(cluster.owner.url) as client:
        client.set(A, "1")
        client.wait(1, 5000)
        cluster.owner.kill()

        assert client.get(A) == b"1"
        assert client.set(B, "2")
        assert client.info()["tcp_port"] == cluster.replicas[0].port
    cluster.owner.start()


def test_a_client_without_retries_says_that_the_keys_are_not_served(cluster: Cluster) -> None:
    """A primary without a replica is killed, and the other nodes then serve no slots."""
    with connect(cluster.owner.url, retries=0) as client:
        cluster.others[0].kill()
        until(lambda: not _serves(client))

        with pytest.raises(SlotUnavailableError, match="cluster is down"):
            client.get(A)
        cluster.others[0].start()
        until(lambda: _serves(client))


class TestAMovedSlot:
    def test_is_followed(self, cluster: Cluster) -> None:
        """Valkey 9 moves the slot in one step, while a client has a connection to the old owner."""
        old, new = cluster.owner, cluster.others[0]
        with connect(old.url) as client:
            client.set(A, "1")
            _migrate(old, new)
            pipe = client.pipeline(transaction=False)
            pipe.get(A)
            pipe.set(B, "2")

            assert pipe.execute(raise_on_error=False) == [b"1", True]
            assert client.info()["tcp_port"] == new.port
            _migrate(new, old)
            assert client.get(B) == b"2"

    def test_key_by_key_stops_the_client_until_it_is_over(self, cluster: Cluster) -> None:
        """No command sees only some of the keys. A script can end after its first write, as documented."""
        old, new = cluster.owner, cluster.others[0]
        with connect(old.url, retries=0) as client, old.client() as at_old, new.client() as at_new:
            client.mset({A: "1", B: "2"})
            names = {node.port: _name(node) for node in (old, new)}
            at_new.execute_command("CLUSTER SETSLOT", SLOT, "IMPORTING", names[old.port])
            at_old.execute_command("CLUSTER SETSLOT", SLOT, "MIGRATING", names[new.port])
            at_old.execute_command("MIGRATE", "127.0.0.1", new.port, A, 0, 1000)

            for command in (lambda: client.get(A), lambda: client.mget(A, B)):
                with pytest.raises(SlotUnavailableError):
                    command()
            with pytest.raises(SlotUnavailableError):
                client.register_script(SET_TWO)(keys=[B], args=[A])

            at_old.execute_command("MIGRATE", "127.0.0.1", new.port, B, 0, 1000)
            for admin in (at_new, at_old):
                admin.execute_command("CLUSTER SETSLOT", SLOT, "NODE", names[new.port])
            until(lambda: _serves(client))
            assert client.mget(A, B) == [b"1", b"x"]
        _migrate(new, old)


def _serves(client: redis.Redis) -> bool:
    try:
        client.exists(A)
    except SlotUnavailableError:
        return False
    return True


def _name(node: ClusterNode) -> str:
    with node.client() as client:
        return str(client.execute_command("CLUSTER MYID").decode())


def _migrate(old: ClusterNode, new: ClusterNode) -> None:
    """Move Keyhole's slot in one step, and wait until all is known."""
    with old.client() as source, new.client() as target:
        source.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", _name(new))
        until(lambda: _owns(target) and not _owns(source))


def _owns(client: redis.Redis) -> bool:
    """Whether a node serves the slot itself."""
    try:
        client.exists(A)
    except redis.RedisError:
        return False
    return True
