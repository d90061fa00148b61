"""kombu's Redis transport, for a Redis that does not always answer and has untrusted writers.

- kombu pops an item off the list and then parses it as JSON. An item that is not JSON ended the worker and
  was lost. Here, such an item, and JSON that is not a message, becomes a dead letter. If Redis does not
  take the dead letter, this process keeps the item, and takes nothing more from any list.
- kombu does all of its work on the worker's event loop, and waits there for Redis. Here, a thread records
  deliveries, acknowledges messages and puts them back, and the sweep restores overdue messages.
- kombu records a message as unacknowledged after it has popped it off the list. If Redis does not take that
  record, because it is full or frozen, the message was lost. Here, the message is worked on, and no other is
  taken for a while. If its worker is lost, the ledger sends it again.
"""

import json
import logging
import queue
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import redis as redis_py
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import base as virtual
from kombu.utils.json import loads

from keyhole.fleet.forking import GATE
from keyhole.fleet.services import services
from keyhole.intake.refused import LONGEST_MESSAGE, Refused, keep
from keyhole.store.connection import TlsConnection

log = logging.getLogger(__name__)

#: The key of an item that is not a message, within this module.
_RAW = "keyhole-raw"
#: Seconds for which no further message is taken after Redis did not record a delivery.
REST_SECONDS: Final = 5
#: Seconds until a failed action is tried again, and for which a closing channel waits for its backlog. If
#: Redis answers, that takes milliseconds; if not, the event loop waits for one channel after the other.
RETRY_SECONDS, LAST_SECONDS = 1.0, 1.0


def _loads(item: str | bytes, **options: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse an item of a list as JSON. If it is not JSON, or too long, return it under `_RAW`."""
    if len(item) > LONGEST_MESSAGE * 2:  # a body is base64 here, and its length is checked later
        return {_RAW: item}
    try:
        return loads(item, **options)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return {_RAW: item}


# kombu's channel has no hook between taking an item and reading it.


def _text(data: bytes | str) -> str:
    """Decode bytes. Bytes that are not UTF-8 are kept, for the dead letter."""
    return data.decode(errors="surrogateescape") if isinstance(data, bytes) else data


setattr(kombu_redis, "loads", _loads)  # noqa: B010 - these are not public names of the module
setattr(kombu_redis, "bytes_to_str", _text)  # noqa: B010 - as above


class Backlog:
    """Actions about messages that a thread does in Redis, one after the other.

    A failed action is tried again until it succeeds. If the worker ends before that, its messages are
    delivered again, and the ledger knows which of them are done.
    """

    def __init__(self) -> None:
        self._actions: queue.Queue[Callable[[], object] | None] = queue.Queue()
        # Each thread that starts is ended once: several connections of a process may close at once.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, action: Callable[[], object]) -> None:
        """Add an action. The first one starts the thread."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
                self._thread.start()
            self._actions.put(action)

    @property
    def is_behind(self) -> bool:
        """Whether an action is not done yet."""
        return self._actions.unfinished_tasks > 0

    def close(self) -> None:
        """End the thread when all actions are done, and wait a moment for that."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._actions.put(None)
        if thread is not None:
            thread.join(LAST_SECONDS)

    def _run(self) -> None:
        while (action := self._actions.get()) is not None:
            self._do(action)
            self._actions.task_done()
        self._actions.task_done()

    def _do(self, action: Callable[[], object]) -> None:
        failure = None
        while (error := self._failure_of(action)) is not None:
            if failure is None:
                log.warning("Redis is away; messages are recorded and acknowledged later: %s", error)
            failure = error
            time.sleep(RETRY_SECONDS)
        if failure is not None:
            log.warning("Redis is back; messages are recorded and acknowledged again")

    def _failure_of(self, action: Callable[[], object]) -> redis_py.RedisError | None:
        try:
            with GATE.working():
                action()
        except redis_py.RedisError as error:
            return error
        except Exception:
            log.exception("a message cannot be recorded or acknowledged; the ledger has its work")
        return None


#: Items that are not messages, and not dead letters yet. All connections of this process share it, so that
#: a new connection does not take further items.
ITEMS: Final = Backlog()


class QoS(kombu_redis.QoS):
    """Unacknowledged messages."""

    def __init__(self, channel: Any, *args: Any) -> None:  # noqa: ANN401 - kombu has no types
        self._backlog = Backlog()
        self._rests_until = 0.0
        # A pool of its own, because the channel closes its pool while the backlog may be busy.
        self._client = channel.Client(connection_pool=channel._get_pool())  # noqa: SLF001 - kombu has no other
        # This comes last: kombu calls `restore_unacked_once` when the process ends, even if no client was
        # made because the connection was closed.
        super().__init__(channel, *args)  # type: ignore[no-untyped-call] # as above

    def can_consume(self) -> bool:
        """Whether to take another message."""
        can = bool(super().can_consume())  # type: ignore[no-untyped-call] # as above
        return can and not ITEMS.is_behind and time.monotonic() >= self._rests_until

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401 - as above
        """Record a message that was popped off its list; a thread does so."""
        virtual.QoS.append(self, message, delivery_tag)
        self._backlog.add(partial(self._note, message, delivery_tag))

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; a thread does so."""
        self._backlog.add(partial(self._acknowledge, delivery_tag))
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # kombu's signature
        """Acknowledge a message or put it back into its queue; a thread does so."""
        if requeue:
            self._backlog.add(partial(self._put_back, delivery_tag))
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def _note(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401 - as above
        info = message.delivery_info
        noted = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as kombu does
        try:
            with self._client.pipeline() as pipe:
                pipe.zadd(self.unacked_index_key, {delivery_tag: time.time()})
                pipe.hset(self.unacked_key, delivery_tag, noted)
                pipe.execute()
        except redis_py.RedisError:
            self._rests_until = time.monotonic() + REST_SECONDS
            raise

    def _acknowledge(self, delivery_tag: str) -> None:
        with self._client.pipeline() as pipe:
            self._remove_from_indices(delivery_tag, pipe).execute()  # type: ignore[no-untyped-call] # as above

    def _put_back(self, delivery_tag: str) -> None:
        """Put a message back at the front of its queue. The channel may be closed by then."""

        def put_back(pipe: redis_py.client.Pipeline) -> None:
            noted: Any = pipe.hget(self.unacked_key, delivery_tag)
            pipe.multi()
            self._remove_from_indices(delivery_tag, pipe)  # type: ignore[no-untyped-call] # as above
            if noted:
                message, _, queue_name = json.loads(noted)
                pipe.rpush(queue_name, json.dumps(message))

        self._client.transaction(put_back, self.unacked_key)

    def restore_visible(self, *_: object, **__: object) -> None:
        """Do nothing on the event loop."""

    def restore_overdue(self) -> None:
        """Put messages back into their queues whose visibility timeout is over."""
        super().restore_visible(num=None, interval=1)  # type: ignore[no-untyped-call] # as above

    def restore_unacked(self, *_: object) -> None:
        """Put unacknowledged messages back; a thread does so."""
        self._flush()  # type: ignore[no-untyped-call] # as above
        for delivery_tag in self._delivered:
            self._backlog.add(partial(self._put_back, delivery_tag))
        self._delivered.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ANN401 - as above
        """Put unacknowledged messages back when the channel closes, and wait a moment for that."""
        super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call] # as above
        self._backlog.close()


class Channel(kombu_redis.Channel):
    """A channel that does not make the event loop wait for Redis."""

    QoS = QoS
    connection_class_ssl = TlsConnection
    _refreshing: threading.Thread | None = None

    def maybe_refresh_binding_expiry(self) -> None:
        """Refresh the bindings of queues that expire, in a thread. kombu's timer calls this every second."""
        busy = self._refreshing is not None and self._refreshing.is_alive()
        if not busy and not self._expires.keys().isdisjoint(self._active_queues):
            self._refreshing = threading.Thread(target=self._refresh, name="bindings", daemon=True)
            self._refreshing.start()

    def close(self) -> None:
        """Close the channel. kombu deletes its own queues first, and would wait for Redis at each command."""
        if not self.closed:
            self._delete_own_queues()
        super().close()  # type: ignore[no-untyped-call] # kombu has no types

    def _delete_own_queues(self) -> None:
        """Delete the queues that nobody else uses, in a thread; what is left of them expires."""
        client = self.__dict__.get("client")  # none was made if nothing was sent
        own = [queue for queue in self._fanout_queues if queue in self.auto_delete_queues]
        if client is None or not own:
            return
        deleting = threading.Thread(
            target=self._delete_queues, args=(own, client), name="closing", daemon=True
        )
        deleting.start()
        deleting.join(LAST_SECONDS)
        self.auto_delete_queues.difference_update(own)

    def _delete_queues(self, queues: list[str], client: Any) -> None:  # noqa: ANN401 - kombu has no types
        try:
            with GATE.working():
                for name in queues:
                    self.queue_delete(name, client=client)  # type: ignore[no-untyped-call] # as above
        except Exception as error:  # noqa: BLE001 - the channel may close its connections meanwhile
            log.debug("queues of a channel that closes are left to expire: %s", error)

    def _refresh(self) -> None:
        try:
            with GATE.working():
                super().maybe_refresh_binding_expiry()  # type: ignore[no-untyped-call] # as above
        except redis_py.RedisError as error:
            log.debug("the bindings of queues that expire are refreshed later: %s", error)


class Transport(kombu_redis.Transport):
    """The transport, which makes dead letters of items that are not messages."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - whatever JSON holds
        if _is_message(message):
            # A message belongs to the list that it was in, even if it names another: signatures cover the
            # queue, and unacknowledged messages are put back there.
            message["properties"]["delivery_info"]["routing_key"] = queue
            super()._deliver(message, queue)  # type: ignore[no-untyped-call] # kombu has no types
            return
        raw = message[_RAW] if isinstance(message, dict) and _RAW in message else json.dumps(message)
        reason = "it is not a message"
        log.error("an item of %s is a dead letter: %s", queue, reason)
        body = raw.encode(errors="surrogateescape") if isinstance(raw, str) else bytes(raw)
        keep_it = partial(keep, services().dead_letters, Refused(queue, body, {}, {}), reason)
        try:
            keep_it()
        except redis_py.RedisError:
            # The item is off the list already. If this process ends now, only the log has it.
            log.exception(
                "the dead letter is not written yet; the item has %d bytes and begins with %r",
                len(body),
                body[:1000],
            )
            ITEMS.add(keep_it)

    def close_connection(self, connection: Any) -> None:  # noqa: ANN401 - kombu has no types
        """Close the connection, and wait a moment for dead letters."""
        ITEMS.close()
        super().close_connection(connection)  # type: ignore[no-untyped-call] # as above


def _is_message(message: object) -> bool:
    """Whether an item has all fields that kombu reads without checking."""
    if not isinstance(message, dict):
        return False
    properties, body = message.get("properties"), message.get("body")
    if not isinstance(properties, dict) or not isinstance(body, str):
        return False
    info = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(info, dict):
        return False
    if properties.get("body_encoding") == "base64":
        try:
            b64decode(body)
        except ValueError:
            return False
    return {"exchange", "routing_key"} <= info.keys()
