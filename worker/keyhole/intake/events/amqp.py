"""Messages from a queue of an AMQP 0-9-1 broker such as RabbitMQ, to which Ceph and MinIO publish.

Messages that Ceph or MinIO publish while no queue is bound are lost. Messages that are not persistent are
lost when the broker restarts: Ceph publishes persistent ones with `amqp-ack-level=broker`, MinIO with
`delivery_mode=2`.

- The broker keeps a message until it is acknowledged. If the connection ends first, the broker delivers the
  message again.
- Acknowledgements are followed by a request with an answer, so they have arrived when the call returns.
- A message is given back by `basic.nack`. RabbitMQ's quorum queues count deliveries, and by default drop a
  message after 20 (4.0 and later; from 4.3 on they do not count messages that are given back). Classic queues
  only say whether a message was delivered before.
- A thread sends heartbeats while no call waits for messages, so the listener may be busy for long. The
  broker's `consumer_timeout` limits that, by default to 30 minutes.

Only one thread may use a source, in the process that made the first call.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, cast

from amqp import spec  # type: ignore[import-untyped] # kombu's driver; it has no types
from amqp.exceptions import AMQPError  # type: ignore[import-untyped] # the same
from kombu.connection import Connection

from keyhole.intake.events.amqp_queue import AmqpQueue, describe, prepare
from keyhole.intake.events.source import Message, SourceUnavailableError

#: Seconds between heartbeats that we ask for. The broker closes a connection after two missing ones.
HEARTBEAT_SECONDS: Final = 30
#: Seconds for a connection, and for an answer: a broker that is silent for so long is down.
_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 30
#: Seconds to wait for further messages after the first one: they come in one burst.
_BURST_SECONDS: Final = 0.02
#: The largest prefetch count: the protocol has 16 bits for it.
_LARGEST_PREFETCH: Final = 0xFFFF
#: Headers with a quorum queue's count of earlier deliveries; RabbitMQ has the first one from 4.3 on.
_COUNTS: Final = ("x-acquired-count", "x-delivery-count")


class _Receipt(NamedTuple):
    """A delivery's number, which is only valid on its own connection."""

    connection: int
    delivery_tag: int


class AmqpSource:
    """The messages of one queue; a `source.MessageSource`. It connects at the first `receive`.

    `client_name` is the connection's name in the broker's management interface. `answer_seconds` is the
    longest wait for the broker.
    """

    def __init__(
        self,
        address: AmqpQueue,
        *,
        client_name: str,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
        answer_seconds: float | None = None,
    ) -> None:
        self.name = address.name
        self._address = address
        self._client_name = client_name
        self._heartbeat_seconds = heartbeat_seconds
        self._connect_seconds = answer_seconds or _CONNECT_SECONDS
        self._answer_seconds = answer_seconds or _ANSWER_SECONDS
        # Held while the connection is used, by the caller or by the thread that sends heartbeats.
        self._lock = threading.Lock()
        self._disconnected = threading.Event()
        self._heart: threading.Thread | None = None
        self._connections = 0
        # py-amqp has no types.
        self._connection: Any = None
        self._channel: Any = None
        self._consumer: str | None = None
        self._prefetch = 0
        self._arrived: deque[tuple[_Receipt, Message]] = deque()
        #: Unacknowledged messages of this connection that the caller has.
        self._out: set[_Receipt] = set()

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait for the first one for up to `wait_seconds`.

        Raises:
            SourceUnavailableError: The broker does not answer or refuses; the next call connects again.
        """
        deadline = time.monotonic() + wait_seconds
        with self._lock, self._unavailable_on_error():
            if self._connection is None:
                self._connect()
            self._make_room(limit)
            self._await_arrivals(limit, deadline)
            taken = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
            self._out.update(receipt for receipt, _ in taken)
            return [message for _, message in taken]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages, which deletes them.

        Raises:
            SourceUnavailableError: The connection was lost since they were received, so the broker delivers
                them again.
        """
        with self._lock, self._unavailable_on_error():
            ours = self._still_out(messages)
            for receipt in ours:
                self._channel.basic_ack(receipt.delivery_tag)
            self._settle(ours)
            now = None if self._connection is None else self._connections
            lost = sum(cast("_Receipt", message.receipt).connection != now for message in messages)
        if lost:
            raise SourceUnavailableError(
                f"{self.name}: the connection was lost meanwhile; {lost} messages will be delivered again"
            )

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue, near their old place.

        Raises:
            SourceUnavailableError: The connection is lost, which returns them as well.
        """
        with self._lock, self._unavailable_on_error():
            ours = self._still_out(messages)
            for receipt in ours:
                # py-amqp has no function for `basic.nack`. The bits: multiple, requeue.
                self._channel.send_method(spec.Basic.Nack, "Lbb", (receipt.delivery_tag, False, True))
            self._settle(ours)

    def look(self) -> str:
        """Return how many messages wait and how many consumers listen, without taking any.

        Raises:
            SourceUnavailableError: The broker does not answer or refuses, or there is no such queue.
        """
        with self._lock, self._unavailable_on_error():
            connection = self._open()
            try:
                return describe(connection, self._address)
            finally:
                connection.collect()

    def close(self) -> None:
        """Disconnect, which returns unacknowledged messages to the queue."""
        with self._lock:
            if self._connection is not None:
                with suppress(AMQPError, OSError):
                    self._connection.close()
            self._disconnect()
        if self._heart is not None:
            self._heart.join()

    def _connect(self) -> None:
        self._connection = self._open()
        self._connections += 1
        self._disconnected = threading.Event()
        prepare(self._connection, self._address)
        self._channel = self._connection.channel()
        # Bodies stay bytes, whatever encoding the sender names.
        self._channel.auto_decode = False
        self._heart = threading.Thread(
            target=self._beat, args=(self._connection, self._disconnected), daemon=True
        )
        self._heart.start()

    def _open(self) -> Any:  # noqa: ANN401 - py-amqp has no types
        address = self._address
        broker = Connection(
            hostname=f"[{address.host}]" if ":" in address.host else address.host,
            port=address.port,
            userid=address.user,
            password=address.password,
            virtual_host=address.vhost,
            transport="pyamqp",
            # py-amqp verifies the certificate and its name only if it gets the name.
            ssl={"server_hostname": address.host} if address.tls else False,
            connect_timeout=self._connect_seconds,
            heartbeat=self._heartbeat_seconds,
            transport_options={
                "read_timeout": self._answer_seconds,
                "write_timeout": self._answer_seconds,
                "client_properties": {"connection_name": self._client_name},
            },
        )
        return broker.transport.establish_connection()

    def _disconnect(self) -> None:
        """Drop the connection and its state."""
        self._disconnected.set()
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._channel = self._consumer = None
        self._prefetch = 0
        self._arrived.clear()
        self._out.clear()

    def _make_room(self, limit: int) -> None:
        """Have the broker send up to `limit` messages in addition to those that the caller has."""
        wanted = min(limit + len(self._out), _LARGEST_PREFETCH)
        if self._prefetch >= wanted:
            return
        # A prefetch count applies to consumers that start after it is set.
        self._channel.basic_qos(0, wanted, a_global=False)
        if self._consumer is not None:
            self._channel.basic_cancel(self._consumer)
        self._consumer = self._channel.basic_consume(self._address.queue, callback=self._take_in)
        self._prefetch = wanted

    def _take_in(self, delivered: Any) -> None:  # noqa: ANN401 - py-amqp has no types
        receipt = _Receipt(self._connections, delivered.delivery_tag)
        # py-amqp returns bytes, but an empty str for an empty body.
        message = Message(delivered.body or b"", receipt, _receives(delivered))
        self._arrived.append((receipt, message))

    def _await_arrivals(self, limit: int, deadline: float) -> None:
        longest = (self._connection.heartbeat or self._heartbeat_seconds) / 4
        while len(self._arrived) < limit:
            left = deadline - time.monotonic()
            pause = _BURST_SECONDS if self._arrived else max(_BURST_SECONDS, min(left, longest))
            if not self._drain(pause) and (self._arrived or left <= pause):
                return
            self._connection.heartbeat_tick()

    def _drain(self, seconds: float) -> bool:
        """Receive the next frames; false if none came."""
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError as error:
            # ETIMEDOUT of the socket (the other end is gone) is a TimeoutError, too, and has an errno.
            if error.errno is not None:
                raise
            return False
        return True

    def _still_out(self, messages: Sequence[Message]) -> set[_Receipt]:
        """The receipts of those messages that belong to this connection and are unacknowledged."""
        return self._out.intersection(cast("_Receipt", message.receipt) for message in messages)

    def _settle(self, receipts: set[_Receipt]) -> None:
        """Send a request and wait for its answer: all that was sent before has arrived then."""
        if receipts:
            self._channel.basic_qos(0, self._prefetch, a_global=False)
            self._out -= receipts

    @contextmanager
    def _unavailable_on_error(self) -> Iterator[None]:
        try:
            yield
        except SourceUnavailableError:
            self._disconnect()
            raise
        except (AMQPError, OSError) as error:
            self._disconnect()
            said = getattr(error, "reply_text", None) or str(error) or type(error).__name__
            raise SourceUnavailableError(
                f"{self.name}: {said}; check that the broker runs there, and that user, password and virtual "
                "host are right"
            ) from error

    def _beat(self, connection: Any, disconnected: threading.Event) -> None:  # noqa: ANN401 - as above
        """Send heartbeats until the connection ends."""
        while not disconnected.wait((connection.heartbeat or self._heartbeat_seconds) / 2):
            with self._lock:
                if not disconnected.is_set():
                    # The next caller gets the error.
                    with suppress(AMQPError, OSError):
                        connection.send_heartbeat()


def _receives(delivered: Any) -> int:  # noqa: ANN401 - py-amqp has no types
    """The number of deliveries of a message, including this one, as far as the queue has counted."""
    if not delivered.delivery_info["redelivered"]:
        return 1
    headers = delivered.properties.get("application_headers") or {}
    counts: list[int] = [headers[name] for name in _COUNTS if isinstance(headers.get(name), int)]
    return 1 + max([1, *counts])
