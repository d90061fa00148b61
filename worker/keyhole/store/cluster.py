"""Connections to a Redis Cluster. All of a client's connections lead to the node that has Keyhole's keys.

All keys of Keyhole are in one hash slot (`keyhole.store.keys`), and each slot of a cluster has one primary at
a time, the slot's *owner*. So an ordinary client works in a cluster if all its connections lead to the owner:
pipelines, transactions, scripts, `WAITAOF` and `INFO` need no cluster client, which would distribute commands
over the nodes.

- The first connection of a client asks the server for its mode with `HELLO`, which every user is allowed to
  run. In a cluster, the connection then asks for the owner with `CLUSTER SLOTS`. If this server is not the
  owner, the connection closes its socket, and connects to the owner.
- If a node is no longer the owner, it answers commands with `MOVED` and the address of the new owner. If the
  cluster currently does not serve the slot, nodes answer `CLUSTERDOWN`. The connection then closes and raises
  `SlotUnavailableError`. The client treats this error like a broken connection: it connects again and repeats
  the command.
- If the owner does not answer, a connection asks the other nodes for the owner. The other nodes know the new
  owner as soon as the cluster has promoted a replica.

While a slot moves from one node to another key by key, the old owner answers `ASK` for keys that it no longer
has. The client repeats such a command until the move is over or its attempts are used up. It does not follow
`ASK` to the new node, because a script would see only some of the keys on each of the two nodes. A script can
also fail between two of its commands, because the key of the first command is still on this node, and the key
of the second command is not. So Keyhole must not run while its slot moves key by key. Valkey 9 can move a
slot in one atomic step (`CLUSTER MIGRATESLOTS`).

Source: redis.io and valkey.io, "Cluster specification", "CLUSTER SLOTS", "HELLO".
"""

from typing import Any, Final, NamedTuple

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from keyhole.store.keys import IN_SLOT

#: The hash slot of all keys of Keyhole.
SLOT: Final = key_slot(IN_SLOT.encode())
#: A part of the error with which a script fails if its keys are moving from one node to another.
_MOVING: Final = "access a non local key"


class SlotUnavailableError(redis.ConnectionError):
    """The node of this connection does not serve Keyhole's hash slot. Another node may serve it."""


class Node(NamedTuple):
    """The address of a node."""

    host: str
    port: int


class Slot:
    """The slot's owner and the other nodes, as far as the connections of one client have found them.

    Threads share this object.
    """

    def __init__(self, host: str, port: int = 6379) -> None:
        self._named = Node(host, port)
        self._known: tuple[Node, ...] = ()
        self._owner: Node | None = None
        #: Whether a connection should ask its server for the owner.
        self._asks = True

    def nodes(self) -> list[Node]:
        """Return the nodes to try when a client connects: the owner first, if it is known."""
        first = [] if self._owner is None else [self._owner]
        return list(dict.fromkeys([*first, self._named, *self._known]))

    def owner(self, connection: Any, node: Node) -> Node:  # noqa: ANN401 - redis-py's
        """Return the slot's owner. If it is unknown, ask the node at the other end of the connection.

        If the server has no cluster mode, return the node itself.

        Raises:
            redis.ConnectionError: The server does not respond, or no node owns the slot.
        """
        if not self._asks or node == self._owner:
            return node
        try:
            if not _is_in_cluster(connection):
                self._asks = False
                return node
            ranges = _ask(connection, "CLUSTER", "SLOTS")
        except redis.ResponseError as error:
            # Either the server is busy with a script and refuses all commands, or the user may not run
            # `CLUSTER SLOTS`. Ask again later only if the server is busy. It does no harm that the owner is
            # unknown: if this node is not the owner, it answers the next command with MOVED.
            self._asks = str(error).startswith("BUSY ")
            return node
        self._known = tuple(dict.fromkeys(_node(found, node) for part in ranges for found in part[2:]))
        owners = [_node(part[2], node) for part in ranges if part[0] <= SLOT <= part[1]]
        if not owners:
            raise SlotUnavailableError(f"no node of the cluster serves Keyhole's hash slot {SLOT}")
        self._owner = owners[0]
        return self._owner

    def failed(self, node: Node, error: redis.RedisError) -> redis.RedisError:
        """Return the error to raise if a node does not respond.

        If the node is the owner, the error states this.
        """
        if node != self._owner:
            return error
        return SlotUnavailableError(f"the node {node.host}:{node.port} does not answer: {error}")

    def has_moved(self, owner: Node | None) -> None:
        """Record that the slot has another owner. `owner` is `None` if the new owner is unknown."""
        self._owner, self._asks = owner, True


def _ask(connection: Any, *command: str) -> list[Any]:  # noqa: ANN401 - redis-py's
    """Send a command and return the response. No other response may be outstanding on the connection."""
    connection.send_command(*command, check_health=False)
    answer: list[Any] = connection.read_response()
    return answer


def _is_in_cluster(connection: Any) -> bool:  # noqa: ANN401 - redis-py's
    """Return whether the server belongs to a cluster. The connection stays at version 2 of the protocol."""
    told = _ask(connection, "HELLO", "2")
    # Some clients decode responses, and others do not.
    return any(
        name in {b"mode", "mode"} and value in {b"cluster", "cluster"}
        for name, value in zip(told[::2], told[1::2], strict=False)
    )


def _node(found: Any, sender: Node) -> Node:  # noqa: ANN401 - redis-py's
    """Return the address of a node in the response to `CLUSTER SLOTS`.

    A node that does not know its own host name sends none.
    """
    host = (found[0] or b"").decode() if isinstance(found[0], bytes | None) else found[0]
    return Node(host if host not in {"", "?"} else sender.host, int(found[1]))


class InSlot(redis.Connection):
    """A connection that leads to the slot's owner if the server belongs to a cluster."""

    def __init__(self, *, slot: Slot, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        self._slot = slot
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py's

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the slot's owner. redis-py calls this method for each new connection.

        Raises:
            redis.RedisError: No node led to the owner, or the owner does not respond.
        """
        if self.is_connected:
            return
        nodes = self._slot.nodes()
        retry = retry_socket_connect and len(nodes) == 1
        dead: set[Node] = set()
        error: redis.RedisError | None = None
        while nodes:
            node = nodes.pop(0)
            self.host, self.port = node
            try:
                super().connect_check_health(check_health, retry)
                owner = self._slot.owner(self, node)
            except redis.AuthenticationError:
                raise
            except (redis.ConnectionError, redis.TimeoutError) as failure:
                dead.add(node)
                error = self._slot.failed(node, failure)
                self.disconnect()  # type: ignore[no-untyped-call] # redis-py's
                continue
            if owner == node:
                return
            self.disconnect()  # type: ignore[no-untyped-call] # redis-py's
            if owner not in dead:
                nodes.insert(0, owner)
        if error is not None:
            raise error

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        """Return a response.

        Raises:
            SlotUnavailableError: The node does not serve the slot. The connection is closed.
            redis.RedisError: The errors of redis-py's own method.
        """
        try:
            return super().read_response(*args, **options)
        except MovedError as error:
            if error.slot_id != SLOT:
                raise
            self._slot.has_moved(Node(error.host or self.host, error.port))
            raise self._closed(error) from error
        except (AskError, TryAgainError, ClusterDownError) as error:
            self._slot.has_moved(None)
            raise self._closed(error) from error
        except redis.ResponseError as error:
            if _MOVING not in str(error):
                raise
            raise self._closed(error) from error

    def _closed(self, error: redis.RedisError) -> SlotUnavailableError:
        """Close the connection, because more responses may arrive on it, and return the error to raise."""
        told = SlotUnavailableError(f"{self.host}:{self.port} does not serve Keyhole's hash slot: {error}")
        self.disconnect()  # type: ignore[no-untyped-call] # redis-py's
        return told
