"""Receives messages from a list in Redis, to which MinIO (with `format=access`) or another program pushes.

Producers append messages at the right end (`RPUSH`), so the oldest message is at the left end. When a
listener takes a message, Redis moves it to the listener's own list in one atomic step. So no message is lost
if a listener dies:

    producers ── RPUSH ──► the queue ── LMOVE, BLMOVE ──► list of one listener ── LREM ──► done
                               ▲                                 │
                               └── RPUSH: the listener gave it ──┘
                                   back, or has no heartbeat

- A listener gives a message back to the right end of the queue, after all other messages. So a message that
  fails again and again does not block other messages.
- Each listener has a heartbeat: a key that expires. When a listener calls `receive`, the call renews the
  listener's heartbeat. The call also moves the messages of all listeners without a heartbeat back to the
  queue. So if a listener handles a batch for longer than `LEASE_SECONDS`, other listeners receive the
  messages of this batch, too. (SQS does the same after the visibility timeout.)
- If a response of Redis is lost, the listener does not know which messages Redis has moved to its list. So in
  each request, the listener states the number of messages that it has received and has neither acknowledged
  nor given back. If the listener's list in Redis contains more messages than this, Redis returns the whole
  list.
- Redis lists do not count how often a message was received. If Keyhole does not understand a message, it
  counts the receives itself (`dead_letters`).

Known limits: a listener cannot distinguish two messages with the same bytes. The list must be on a single
server, which must run Valkey or Redis 6.2 or later, with `maxmemory-policy noeviction`. Redis Cluster is not
supported.

MinIO's other format, `namespace`, writes a hash with the latest event of each object. Keyhole cannot listen
to this hash, because a hash is not a queue.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast
from uuid import uuid4

import redis
from redis.exceptions import ClusterError, MovedError

from keyhole.intake.events.source import Message, SourceUnavailableError
from keyhole.store import keys
from keyhole.store.permissions import refused

_log = logging.getLogger(__name__)

#: A listener's heartbeat expires after this many seconds.
LEASE_SECONDS: Final = 60
#: The longest and the shortest time, in seconds, for which a command may wait for a message. The longest time
#: is much shorter than LEASE_SECONDS, and the listener sends a heartbeat before each command that waits. So
#: the heartbeat does not expire while a command waits.
_LONGEST_BLOCK_SECONDS: Final = 10.0
_SHORTEST_BLOCK_SECONDS: Final = 0.01
#: To limit the size of a response, the script takes no further messages when it has taken this many bytes.
_ANSWER_BYTES: Final = 4 * 1024 * 1024

_TAKE: Final = """
-- KEYS[1]  list: the queue
-- KEYS[2]  list: the messages of this listener
-- KEYS[3]  set: ids of listeners
-- KEYS[4]  string: this listener's heartbeat
-- ARGV[1]  this listener's id
-- ARGV[2]  seconds until the heartbeat expires
-- ARGV[3]  the number of messages in its list that the listener has received
-- ARGV[4]  the maximum number of messages to take
-- ARGV[5]  the number of bytes after which no further message is taken
-- ARGV[6]  the prefix of the keys of heartbeats; a listener's id follows it
-- ARGV[7]  the prefix of the keys of listeners' lists; a listener's id follows it
-- returns all messages that were in the listener's list (empty if the listener has received all of them), and
-- the messages that were taken now
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], '1', 'EX', ARGV[2])
for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if redis.call('EXISTS', ARGV[6] .. id) == 0 then
        while redis.call('LMOVE', ARGV[7] .. id, KEYS[1], 'LEFT', 'RIGHT') do end
        redis.call('SREM', KEYS[3], id)
    end
end
local unknown = redis.call('LLEN', KEYS[2]) - ARGV[3]
local held = unknown > 0 and redis.call('LRANGE', KEYS[2], 0, -1) or {}
local taken, bytes = {}, 0
while #taken + math.max(unknown, 0) < tonumber(ARGV[4]) and bytes < tonumber(ARGV[5]) do
    local message = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
    if not message then
        break
    end
    taken[#taken + 1] = message
    bytes = bytes + #message
end
return {held, taken}
"""

_SETTLE: Final = """
-- KEYS[1]  list: the messages of this listener
-- KEYS[2]  list: the queue
-- ARGV[1]  'back' returns messages to the queue, 'done' deletes them
-- ARGV[2..] pairs: a message, and how many messages with the same bytes stay in the listener's list
-- The arguments state how many messages stay, not how many are removed. So a second run has no effect.
for i = 2, #ARGV, 2 do
    local held = #redis.call('LPOS', KEYS[1], ARGV[i], 'COUNT', 0)
    for _ = ARGV[i + 1] + 1, held do
        redis.call('LREM', KEYS[1], 1, ARGV[i])
        if ARGV[1] == 'back' then
            redis.call('RPUSH', KEYS[2], ARGV[i])
        end
    end
end
"""

_LEAVE: Final = """
-- KEYS[1]  list: the messages of this listener
-- KEYS[2]  list: the queue
-- KEYS[3]  set: ids of listeners
-- KEYS[4]  string: this listener's heartbeat
-- ARGV[1]  this listener's id
while redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do end
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
"""


class RedisListSource:
    """A `source.MessageSource` for one list.

    Args:
        client: A client from `keyhole.store.connection.connect`. `close` closes this client.
        key: The key of the list.
        name: The name of the list in error messages.
        listener_id: The listener's name in Redis. Two listeners can have the same name, because their ids
            also contain a random part.
    """

    def __init__(self, client: redis.Redis, key: str, *, name: str, listener_id: str) -> None:
        self.name = name
        self._client = client
        self._key = key
        self._id = f"{listener_id}:{uuid4().hex}"
        self._held = keys.listener_holds(key, self._id)
        self._alive = keys.listener_alive(key, self._id)
        self._listeners = keys.listeners(key)
        self._take_script = client.register_script(_TAKE)
        self._settle_script = client.register_script(_SETTLE)
        self._leave_script = client.register_script(_LEAVE)
        self._has_asked = False
        #: The messages that the caller has neither acknowledged nor given back, counted by their bytes.
        self._out: Counter[bytes] = Counter()
        #: Further messages in this listener's list, which the caller has not received yet.
        self._waiting: Counter[bytes] = Counter()
        answer_seconds = client.connection_pool.connection_kwargs.get("socket_timeout")
        self._longest_block = min(_LONGEST_BLOCK_SECONDS, (answer_seconds or _LONGEST_BLOCK_SECONDS) / 2)

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait up to `wait_seconds` for the first message.

        Raises:
            SourceUnavailableError: Redis does not respond, or the key is not a list.
        """
        deadline = time.monotonic() + wait_seconds
        with self._unavailable_on_error():
            taken = self._take(limit)
            while not taken and (left := deadline - time.monotonic()) > 0:
                self._await_one(min(left, self._longest_block))
                taken = self._take(limit)
        return [Message(body, receipt=None) for body in taken]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages, which deletes them.

        Raises:
            SourceUnavailableError: Redis does not respond. The messages will be delivered again.
        """
        self._settle("done", messages)

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the right end of the queue, so that listeners take them last.

        Raises:
            SourceUnavailableError: Redis does not respond. The messages are delivered again later.
        """
        self._settle("back", messages)

    def look(self) -> str:
        """Return the number of messages in the queue, without taking a message.

        A missing key is not an error, because Redis deletes the key of an empty list.

        Raises:
            SourceUnavailableError: Redis does not respond, refuses a command, is a replica or belongs to a
                cluster, or the key is not a list.
        """
        with self._unavailable_on_error():
            waiting = self._client.llen(self._key)
            info = self._info()
            denied = refused(self._client, self._needed())
        if denied is not None:
            raise SourceUnavailableError(f"{self.name}: {denied}; listening needs this permission")
        if info.get("role") == "slave":
            raise SourceUnavailableError(f"{self.name}: this server is a replica; use the primary's address")
        if info.get("cluster_enabled"):
            raise SourceUnavailableError(f"{self.name}: {_CLUSTER}")
        return f"{waiting:,} waiting"

    def _needed(self) -> Iterator[tuple[str, ...]]:
        """Yield the commands that are needed to receive, acknowledge and give back messages."""
        script, held, alive, listeners = "0" * 40, self._held, self._alive, self._listeners
        yield ("EVALSHA", script, "4", self._key, held, listeners, alive)
        yield ("SCRIPT", "LOAD", "return 1")
        yield ("LMOVE", self._key, held, "LEFT", "RIGHT")
        yield ("BLMOVE", self._key, held, "LEFT", "RIGHT", "1")
        yield ("LRANGE", held, "0", "-1")
        yield ("LPOS", held, "m")
        yield ("LREM", held, "1", "m")
        yield ("RPUSH", self._key, "m")
        yield ("SADD", listeners, "i")
        yield ("SMEMBERS", listeners)
        yield ("SREM", listeners, "i")
        yield ("SET", alive, "1", "EX", "1")
        yield ("EXISTS", alive)
        yield ("DEL", alive)

    def _info(self) -> dict[str, Any]:  # the values have different types
        """Return the server's INFO; empty if this user lacks the permission for the command."""
        try:
            return dict(self._client.info())
        except redis.exceptions.NoPermissionError:
            return {}

    def close(self) -> None:
        """Return unacknowledged messages to the queue, and disconnect."""
        try:
            if self._has_asked:
                self._leave_script(
                    keys=[self._held, self._key, self._listeners, self._alive], args=[self._id]
                )
        except redis.RedisError as error:
            _log.warning(
                "%s: %s; another listener will return this listener's messages to the queue",
                self.name,
                error,
            )
        finally:
            self._client.close()

    def _take(self, limit: int) -> list[bytes]:
        """Take messages: first those that are already in this listener's list, then others from the queue."""
        self._has_asked = True
        answer = self._take_script(
            keys=[self._key, self._held, self._listeners, self._alive],
            args=[
                self._id,
                LEASE_SECONDS,
                self._out.total(),
                limit,
                _ANSWER_BYTES,
                keys.listener_alive(self._key, ""),
                keys.listener_holds(self._key, ""),
            ],
        )
        # redis-py declares one type for the results of all scripts. Clients from `connect` return bytes.
        held, taken = cast("tuple[list[bytes], list[bytes]]", answer)
        unknown = Counter(held) - self._out
        bodies = [*unknown.elements(), *taken][:limit]
        self._out.update(bodies)
        self._waiting = unknown - Counter(bodies)
        return bodies

    def _await_one(self, seconds: float) -> None:
        """Send a heartbeat, and wait until Redis has moved one message to this listener's list."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.sadd(self._listeners, self._id)
            pipe.set(self._alive, "1", ex=LEASE_SECONDS)
            # redis-py declares whole seconds, but Redis accepts fractions. Zero would make Redis wait
            # forever.
            seconds = max(seconds, _SHORTEST_BLOCK_SECONDS)
            pipe.blmove(self._key, self._held, seconds, "LEFT", "RIGHT")  # type: ignore[arg-type]
            pipe.execute()

    def _settle(self, how: str, messages: Sequence[Message]) -> None:
        going = Counter(message.body for message in messages)
        staying = self._out - going
        with self._unavailable_on_error():
            if going:
                self._settle_script(
                    keys=[self._held, self._key],
                    args=[
                        how,
                        *(arg for body in going for arg in (body, staying[body] + self._waiting[body])),
                    ],
                )
        self._out = staying

    @contextmanager
    def _unavailable_on_error(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise SourceUnavailableError(f"{self.name}: {_advice(error)}") from error


_CLUSTER: Final = (
    "this Redis belongs to a cluster, to which Keyhole cannot listen; use a server without cluster mode"
)


def _advice(error: redis.RedisError) -> str:
    said = str(error)
    if isinstance(error, ClusterError | MovedError):
        return _CLUSTER
    if "WRONGTYPE" in said:
        return "the key is not a list; if it is MinIO's, set format=access, because a hash is not a queue"
    if "unknown" in said.lower():
        return f"{said}; Keyhole needs Redis 6.2 or later, and does not support Sentinel"
    return (
        f"{said or type(error).__name__}; check that Redis is running at this address and that the password "
        "is correct"
    )
