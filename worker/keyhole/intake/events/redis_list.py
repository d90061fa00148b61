"""Messages from a list in Redis, to which MinIO (a Redis target with `format=access`) or others push.

Producers push to the right (`RPUSH`); the oldest message is at the left. A message that a listener takes is
moved to the listener's own list in one step, so it is never lost if a process dies:

    producers ── RPUSH ──► the list ── LMOVE, BLMOVE ──► held by one listener ── LREM ──► done
                              ▲                                │
                              └──── RPUSH: given back, or ─────┘
                                    held by a listener without heartbeats

- Messages that are given back go to the right end, behind all others, so that a bad message blocks no other.
- A heartbeat is a key that expires. Each receive renews the listener's own, and returns the messages of
  listeners without one. A listener that is busy for longer than its lease counts as dead: others get its
  messages, as after the visibility timeout of SQS.
- If an answer is lost, the listener does not know the messages that were moved. With each request it says
  how many it knows, and if it holds more, it gets all of them.
- There is no count of receives.

What it can't do: tell two messages of the same bytes apart. It needs one server of Redis 6.2 or later, or
Valkey, not a Redis Cluster, with `maxmemory-policy noeviction`.

MinIO's other format, `namespace`, is a hash with the latest event of each object, which is not a queue.
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

#: Seconds without a heartbeat after which a listener's lease has expired.
LEASE_SECONDS: Final = 60
#: The longest blocking command in seconds, which is well within the lease that is renewed before it.
_LONGEST_BLOCK_SECONDS: Final = 10.0
_SHORTEST_BLOCK_SECONDS: Final = 0.01
#: The most bytes of messages in one answer, unless a single message is longer.
_ANSWER_BYTES: Final = 4 * 1024 * 1024

_TAKE: Final = """
-- KEYS[1]  list: the messages
-- KEYS[2]  list: what this listener holds
-- KEYS[3]  set: ids of listeners
-- KEYS[4]  string: this listener's heartbeat
-- ARGV[1]  this listener's id
-- ARGV[2]  seconds until its heartbeat expires
-- ARGV[3]  how many messages it knows that it holds
-- ARGV[4]  how many more it takes at most
-- ARGV[5]  bytes after which it takes no more
-- ARGV[6]  the key of a listener's heartbeat, without the listener's id at its end
-- ARGV[7]  the key of a listener's list, without the listener's id at its end
-- returns all messages that it held, or none if it knows their number; and those that it takes
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
-- KEYS[1]  list: what this listener holds
-- KEYS[2]  list: the messages
-- ARGV[1]  'back' to return them, 'done' to delete them
-- ARGV[2..] a message, and how many of the same bytes the listener keeps; the next message, …
-- The arguments say how many stay, so that the script can run twice.
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
-- KEYS[1]  list: what this listener holds
-- KEYS[2]  list: the messages
-- KEYS[3]  set: ids of listeners
-- KEYS[4]  string: this listener's heartbeat
-- ARGV[1]  this listener's id
while redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do end
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
"""


class RedisListSource:
    """The messages of one list; a `source.MessageSource`.

    Args:
        client: A client of `keyhole.store.connection.connect`, which is closed with the source.
        key: The key of the list.
        name: The name of the list in errors.
        listener_id: The listener's name in Redis. Two listeners of the same name do not conflict.
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
        #: Unacknowledged messages that the caller has, by their bytes.
        self._out: Counter[bytes] = Counter()
        #: Further messages that this listener is known to hold, beyond those that were asked for.
        self._waiting: Counter[bytes] = Counter()
        answer_seconds = client.connection_pool.connection_kwargs.get("socket_timeout")
        self._longest_block = min(_LONGEST_BLOCK_SECONDS, (answer_seconds or _LONGEST_BLOCK_SECONDS) / 2)

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages, and wait at most `wait_seconds` for the first.

        Raises:
            SourceUnavailableError: Redis does not answer, or the key is not a list.
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
            SourceUnavailableError: Redis does not answer; they will be delivered again.
        """
        self._settle("done", messages)

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the right end of the list, which is read last.

        Raises:
            SourceUnavailableError: Redis does not answer; they will be delivered again all the same.
        """
        self._settle("back", messages)

    def look(self) -> str:
        """Return how many messages are in the list, without taking any. An empty list has no key in Redis.

        Raises:
            SourceUnavailableError: Redis does not answer, refuses, is a replica or in a cluster, or the key
                is not a list.
        """
        with self._unavailable_on_error():
            waiting = self._client.llen(self._key)
            info = self._info()
            denied = refused(self._client, self._needed())
        if denied is not None:
            raise SourceUnavailableError(f"{self.name}: {denied}; listening takes that")
        if info.get("role") == "slave":
            raise SourceUnavailableError(f"{self.name}: this is a replica; name the primary")
        if info.get("cluster_enabled"):
            raise SourceUnavailableError(f"{self.name}: {_CLUSTER}")
        return f"{waiting:,} waiting"

    def _needed(self) -> Iterator[tuple[str, ...]]:
        """The commands by which messages are received, acknowledged and given back."""
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

    def _info(self) -> dict[str, Any]:  # redis-py's answer holds everything
        """The server's INFO; empty if this user may not read it."""
        try:
            return dict(self._client.info())
        except redis.exceptions.NoPermissionError:
            return {}

    def close(self) -> None:
        """Give back what was received and not acknowledged, and disconnect."""
        try:
            if self._has_asked:
                self._leave_script(
                    keys=[self._held, self._key, self._listeners, self._alive], args=[self._id]
                )
        except redis.RedisError as error:
            _log.warning("%s: %s; another listener will find what this one holds", self.name, error)
        finally:
            self._client.close()

    def _take(self, limit: int) -> list[bytes]:
        """Take messages that this listener holds without knowing them, and then those of the list."""
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
        # redis-py's type covers every script; `connect` asks for bytes.
        held, taken = cast("tuple[list[bytes], list[bytes]]", answer)
        unknown = Counter(held) - self._out
        bodies = [*unknown.elements(), *taken][:limit]
        self._out.update(bodies)
        self._waiting = unknown - Counter(bodies)
        return bodies

    def _await_one(self, seconds: float) -> None:
        """Wait for one message, and send a heartbeat in the same pipeline."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.sadd(self._listeners, self._id)
            pipe.set(self._alive, "1", ex=LEASE_SECONDS)
            # redis-py's type has whole seconds; Redis accepts fractions, and zero is forever.
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


_CLUSTER: Final = "this Redis belongs to a cluster, which cannot be listened to; name one that is none"


def _advice(error: redis.RedisError) -> str:
    said = str(error)
    if isinstance(error, ClusterError | MovedError):
        return _CLUSTER
    if "WRONGTYPE" in said:
        return "the key is not a list; if it is MinIO's, set format=access, because a hash is not a queue"
    if "unknown" in said.lower():
        return f"{said}; it needs Redis 6.2 or later, and does not work with Sentinel"
    return f"{said or type(error).__name__}; check that Redis runs there and that its password is right"
