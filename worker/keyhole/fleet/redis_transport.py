"""kombu's Redis transport, extended for a Redis that can stop answering, and to which other programs write.

It differs from kombu's transport in three ways:

- kombu pops an item off a list, and then parses it as JSON. If the item is not JSON, the worker ends, and the
  item is lost. This transport stores an item that is not a valid message as a dead letter. If Redis does not
  store the dead letter, the process holds the item in memory, and takes no further items from Redis.
- kombu sends all commands to Redis on the worker's event loop, which blocks while Redis does not answer. In
  this transport, a separate thread records deliveries, acknowledges messages and returns them to their
  queues. The periodic sweep returns the messages whose visibility timeout is over. The sweep is a Celery
  task, so it does not run on the event loop.
- kombu pops a message off the list, and then records the message in Redis as unacknowledged. If Redis is full
  or frozen and does not store this record, kombu loses the message. In this transport, the worker still works
  on the message, but takes no other message for a few seconds. If the worker then dies, the message is lost,
  but its work is not: the ledger (`keyhole.jobs.ledger`) contains the work, and the sweep publishes a new
  message.
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

#: If an item is not JSON, `_loads` returns a dictionary that contains the item under this key.
_RAW = "keyhole-raw"
#: Seconds for which the worker takes no further message after Redis did not record a delivery.
REST_SECONDS: Final = 5
#: Seconds until the backlog repeats a failed action, and the maximum number of seconds that a closing channel
#: waits for its backlog. The second time is short, because the event loop closes the channels one after the
#: other. If Redis answers, the backlog's thread executes all its actions within milliseconds.
RETRY_SECONDS, LAST_SECONDS = 1.0, 1.0


def _loads(item: str | bytes, **options: Any) -> Any:  # noqa: ANN401 - JSON values have many types
    """Parse an item of a list as JSON.

    If the item is too long, or is not JSON, return `{_RAW: item}`.
    """
    if len(item) > LONGEST_MESSAGE * 2:  # base64 makes an item longer than its message
        return {_RAW: item}
    try:
        return loads(item, **options)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return {_RAW: item}


def _text(data: bytes | str) -> str:
    """Decode bytes as UTF-8. Escape the bytes that are not UTF-8, so that a dead letter can contain them."""
    return data.decode(errors="surrogateescape") if isinstance(data, bytes) else data


# Replace two functions in kombu's module, because kombu's channel offers no other way to change how it parses
# an item.
setattr(kombu_redis, "loads", _loads)  # noqa: B010 - not a public name of the module
setattr(kombu_redis, "bytes_to_str", _text)  # noqa: B010 - as above


class Backlog:
    """A queue of actions in Redis that a thread executes one after the other.

    The actions record, acknowledge and return messages. If Redis fails, the thread repeats the action until
    it succeeds. If the worker ends before that, the broker delivers the worker's unacknowledged messages
    again. The next worker finds in the ledger which work is done already, and does not repeat that work.
    """

    def __init__(self) -> None:
        self._actions: queue.Queue[Callable[[], object] | None] = queue.Queue()
        # Several connections of this process can be closed at the same time. The lock ensures that the thread
        # is ended only once.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, action: Callable[[], object]) -> None:
        """Add an action. Start the thread if it is not running."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
                self._thread.start()
            self._actions.put(action)

    @property
    def is_behind(self) -> bool:
        """Whether the backlog contains actions that the thread has not executed yet."""
        return self._actions.unfinished_tasks > 0

    def close(self) -> None:
        """Let the thread end after its last action. Wait for at most `LAST_SECONDS` until it has ended."""
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
                log.warning("Redis failed; messages will be recorded and acknowledged later: %s", error)
            failure = error
            time.sleep(RETRY_SECONDS)
        if failure is not None:
            log.warning("Redis answers again; messages are being recorded and acknowledged")

    def _failure_of(self, action: Callable[[], object]) -> redis_py.RedisError | None:
        try:
            with GATE.working():
                action()
        except redis_py.RedisError as error:
            return error
        except Exception:
            log.exception("a message could not be recorded or acknowledged; its work remains in the ledger")
        return None


#: The backlog of items that are not messages and that Redis has not stored as dead letters yet. All
#: connections of this process share it, so that a new connection takes no items while there is a backlog.
ITEMS: Final = Backlog()


class QoS(kombu_redis.QoS):
    """The unacknowledged messages of a channel."""

    def __init__(self, channel: Any, *args: Any) -> None:  # noqa: ANN401 - kombu has no types
        self._backlog = Backlog()
        self._rests_until = 0.0
        # The backlog has its own connection pool. When the channel closes, it closes its own pool, but the
        # backlog may still need connections.
        self._client = channel.Client(connection_pool=channel._get_pool())  # noqa: SLF001 - no public equivalent
        # Create `_client` before this call. kombu's method registers `restore_unacked_once`, which needs
        # `_client`, to be called when the process ends. If the connection is closed, creating `_client`
        # raises an error, and `restore_unacked_once` is not registered.
        super().__init__(channel, *args)  # type: ignore[no-untyped-call] # as above

    def can_consume(self) -> bool:
        """Return whether the worker may take another message."""
        can = bool(super().can_consume())  # type: ignore[no-untyped-call] # as above
        return can and not ITEMS.is_behind and time.monotonic() >= self._rests_until

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401 - as above
        """Let the backlog's thread record in Redis that a message was delivered."""
        virtual.QoS.append(self, message, delivery_tag)
        self._backlog.add(partial(self._note, message, delivery_tag))

    def ack(self, delivery_tag: str) -> None:
        """Let the backlog's thread acknowledge a message."""
        self._backlog.add(partial(self._acknowledge, delivery_tag))
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # kombu's signature
        """Let the backlog's thread acknowledge a message; if `requeue` is true, return it to its queue."""
        if requeue:
            self._backlog.add(partial(self._put_back, delivery_tag))
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def _note(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401 - as above
        info = message.delivery_info
        noted = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - kombu reads it like this, too
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
        """Return a message to the front of its queue. This also works after the channel was closed."""

        def put_back(pipe: redis_py.client.Pipeline) -> None:
            noted: Any = pipe.hget(self.unacked_key, delivery_tag)
            pipe.multi()
            self._remove_from_indices(delivery_tag, pipe)  # type: ignore[no-untyped-call] # as above
            if noted:
                message, _, queue_name = json.loads(noted)
                pipe.rpush(queue_name, json.dumps(message))

        self._client.transaction(put_back, self.unacked_key)

    def restore_visible(self, *_: object, **__: object) -> None:
        """Do nothing: kombu calls this on the event loop. The sweep calls `restore_overdue` instead."""

    def restore_overdue(self) -> None:
        """Return to their queues all messages whose visibility timeout is over."""
        super().restore_visible(num=None, interval=1)  # type: ignore[no-untyped-call] # as above

    def restore_unacked(self, *_: object) -> None:
        """Let the backlog's thread return all unacknowledged messages to their queues."""
        self._flush()  # type: ignore[no-untyped-call] # as above
        for delivery_tag in self._delivered:
            self._backlog.add(partial(self._put_back, delivery_tag))
        self._delivered.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ANN401 - as above
        """Return the unacknowledged messages to their queues when the channel closes.

        Wait for at most `LAST_SECONDS` until the backlog's thread has returned them.
        """
        super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call] # as above
        self._backlog.close()


class Channel(kombu_redis.Channel):
    """A channel that does not block the event loop while Redis does not answer."""

    QoS = QoS
    connection_class_ssl = TlsConnection
    _refreshing: threading.Thread | None = None

    def maybe_refresh_binding_expiry(self) -> None:
        """Refresh the bindings of expiring queues in a thread.

        kombu's timer calls this method every second.
        """
        busy = self._refreshing is not None and self._refreshing.is_alive()
        if not busy and not self._expires.keys().isdisjoint(self._active_queues):
            self._refreshing = threading.Thread(target=self._refresh, name="bindings", daemon=True)
            self._refreshing.start()

    def close(self) -> None:
        """Close the channel.

        First delete the channel's own queues in a thread, because kombu would delete them on the event loop.
        """
        if not self.closed:
            self._delete_own_queues()
        super().close()  # type: ignore[no-untyped-call] # kombu has no types

    def _delete_own_queues(self) -> None:
        """In a thread, delete the queues that only this channel uses.

        Wait for the thread for at most `LAST_SECONDS`. The queues that the thread has not deleted by then
        expire later.
        """
        client = self.__dict__.get("client")  # a cached property, which is not set if nothing was sent
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
        except Exception as error:  # noqa: BLE001 - the channel can close its connections at the same time
            log.debug("a closing channel did not delete its queues, which will expire: %s", error)

    def _refresh(self) -> None:
        try:
            with GATE.working():
                super().maybe_refresh_binding_expiry()  # type: ignore[no-untyped-call] # as above
        except redis_py.RedisError as error:
            log.debug("the bindings of expiring queues will be refreshed later: %s", error)


class Transport(kombu_redis.Transport):
    """The transport for a Redis broker. It stores items that are not valid messages as dead letters."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - JSON values have many types
        if _is_message(message):
            # The queue that a message names can differ from the list that contained it. Replace this name
            # with the name of the list. Otherwise the sender could choose the queue for which the signature
            # is verified, and the queue to which an unacknowledged message returns.
            message["properties"]["delivery_info"]["routing_key"] = queue
            super()._deliver(message, queue)  # type: ignore[no-untyped-call] # kombu has no types
            return
        raw = message[_RAW] if isinstance(message, dict) and _RAW in message else json.dumps(message)
        reason = "it is not a message"
        log.error("an item of queue %s becomes a dead letter: %s", queue, reason)
        body = raw.encode(errors="surrogateescape") if isinstance(raw, str) else bytes(raw)
        keep_it = partial(keep, services().dead_letters, Refused(queue, body, {}, {}), reason)
        try:
            keep_it()
        except redis_py.RedisError:
            # Redis does not contain the item any more. So log the item, in case this process ends before the
            # dead letter is stored.
            log.exception(
                "the dead letter is not stored yet; the item has %d bytes and begins with %r",
                len(body),
                body[:1000],
            )
            ITEMS.add(keep_it)

    def close_connection(self, connection: Any) -> None:  # noqa: ANN401 - kombu has no types
        """Wait for at most `LAST_SECONDS` until all dead letters are stored. Then close the connection."""
        ITEMS.close()
        super().close_connection(connection)  # type: ignore[no-untyped-call] # as above


def _is_message(message: object) -> bool:
    """Return whether an item has all the fields that a message needs.

    kombu reads these fields without a check, and would raise an error if one were missing.
    """
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
