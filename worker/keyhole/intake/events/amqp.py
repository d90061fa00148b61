"""Receives messages from a queue of an AMQP 0-9-1 broker such as RabbitMQ, to which Ceph and MinIO publish.

If Ceph or MinIO publishes a message before a queue is bound to the exchange, the broker drops the message.
When the broker restarts, it loses messages that are not persistent. Messages from Ceph are persistent if the
Ceph topic has `amqp-ack-level=broker`, and messages from MinIO are persistent if MinIO's setting is
`delivery_mode=2`.

- The broker stores a message until the consumer acknowledges it. If the connection ends before the
  acknowledgement, the broker delivers the message again.
- AMQP does not confirm acknowledgements. So Keyhole sends a request after the acknowledgements. If the broker
  responds to this request, it has also received the acknowledgements.
- Keyhole gives a message back with `basic.nack`. RabbitMQ's quorum queues count the deliveries of a message.
  From RabbitMQ 4.0 on, a quorum queue drops a message after 20 deliveries, unless its owner sets another
  limit. From RabbitMQ 4.3 on, a quorum queue does not count a delivery that ended with a nack. Classic queues
  only report whether a message was delivered before.
- While the listener handles messages, a separate thread sends heartbeats, so that the broker does not close
  the connection. The listener must acknowledge a message before the broker's `consumer_timeout` ends. By
  default, this timeout is 30 minutes.

A source must be used by one thread only, in the process that made the first call.
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
from keyhole.tracing.tracer import TRACEPARENT

#: The heartbeat interval, in seconds, that Keyhole proposes to the broker. The broker closes a connection
#: after two missing heartbeats.
HEARTBEAT_SECONDS: Final = 30
#: Timeouts in seconds for connecting and for a response. If a timeout expires, the broker is treated as
#: unavailable.
_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 30
#: Seconds to wait for further messages after the first message. The broker sends all waiting messages at
#: once, so they arrive within this time.
_BURST_SECONDS: Final = 0.02
#: The largest prefetch count, which is a number of 16 bits in the protocol.
_LARGEST_PREFETCH: Final = 0xFFFF
#: The headers that state how often a quorum queue has delivered the message before. Only RabbitMQ 4.3 and
#: later versions send the first header.
_COUNTS: Final = ("x-acquired-count", "x-delivery-count")


class _Receipt(NamedTuple):
    """The identity of a delivery.

    `delivery_tag` is only valid on the connection that delivered the message.
    """

    connection: int
    delivery_tag: int


class AmqpSource:
    """A `source.MessageSource` for one queue. The source connects at the first `receive`.

    `client_name` is the connection's name in the broker's management interface. `answer_seconds` replaces the
    timeouts for connecting and for a response.
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
        # The caller and the heartbeat thread hold this lock while they use the connection.
        self._lock = threading.Lock()
        self._disconnected = threading.Event()
        self._heart: threading.Thread | None = None
        self._connections = 0
        # py-amqp has no type annotations.
        self._connection: Any = None
        self._channel: Any = None
        self._consumer: str | None = None
        self._prefetch = 0
        self._arrived: deque[tuple[_Receipt, Message]] = deque()
        #: The messages of this connection that the caller has neither acknowledged nor given back.
        self._out: set[_Receipt] = set()

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait up to `wait_seconds` for the first message.

        Raises:
            SourceUnavailableError: The broker does not respond or refuses access. The next call connects
                again.
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
            SourceUnavailableError: The connection was lost after the messages were received. The broker will
                deliver the messages again.
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
                f"{self.name}: the connection was lost; the broker will deliver {lost} messages again"
            )

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue.

        The broker puts the messages back near their original position in the queue.

        Raises:
            SourceUnavailableError: The connection was lost. The broker returns the messages to the queue when
                it notices the loss.
        """
        with self._lock, self._unavailable_on_error():
            ours = self._still_out(messages)
            for receipt in ours:
                # py-amqp has no function for `basic.nack`. The last two arguments of `basic.nack` are the
                # bits `multiple` and `requeue`.
                self._channel.send_method(spec.Basic.Nack, "Lbb", (receipt.delivery_tag, False, True))
            self._settle(ours)

    def look(self) -> str:
        """Return the numbers of waiting messages and of consumers, without receiving a message.

        Raises:
            SourceUnavailableError: The broker does not respond or refuses access, or the queue does not
                exist.
        """
        with self._lock, self._unavailable_on_error():
            connection = self._open()
            try:
                return describe(connection, self._address)
            finally:
                connection.collect()

    def close(self) -> None:
        """Disconnect. The broker then returns unacknowledged messages to the queue."""
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
        # Do not decode bodies, even if the sender's headers name an encoding.
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
            # py-amqp verifies the certificate and its host name only if the caller passes the host name.
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
        """Close the connection and clear its state."""
        self._disconnected.set()
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._channel = self._consumer = None
        self._prefetch = 0
        self._arrived.clear()
        self._out.clear()

    def _make_room(self, limit: int) -> None:
        """Raise the prefetch count, if necessary, to `limit` plus the number of unacknowledged messages."""
        wanted = min(limit + len(self._out), _LARGEST_PREFETCH)
        if self._prefetch >= wanted:
            return
        # A new prefetch count applies only to consumers that start afterwards, so start a new consumer.
        self._channel.basic_qos(0, wanted, a_global=False)
        if self._consumer is not None:
            self._channel.basic_cancel(self._consumer)
        self._consumer = self._channel.basic_consume(self._address.queue, callback=self._take_in)
        self._prefetch = wanted

    def _take_in(self, delivered: Any) -> None:  # noqa: ANN401 - py-amqp has no types
        receipt = _Receipt(self._connections, delivered.delivery_tag)
        # py-amqp returns bodies as bytes, except an empty body, which is an empty str.
        parent = (delivered.properties.get("application_headers") or {}).get(TRACEPARENT)
        message = Message(
            delivered.body or b"",
            receipt,
            _receives(delivered),
            parent if isinstance(parent, str) else None,
        )
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
        """Receive the next frames; return false after a timeout."""
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError as error:
            # If the error has no errno, it only means that no frame arrived in time. The errno ETIMEDOUT
            # means that the broker does not respond.
            if error.errno is not None:
                raise
            return False
        return True

    def _still_out(self, messages: Sequence[Message]) -> set[_Receipt]:
        """Return the receipts from this connection whose messages are neither acknowledged nor given back."""
        return self._out.intersection(cast("_Receipt", message.receipt) for message in messages)

    def _settle(self, receipts: set[_Receipt]) -> None:
        """Send a request, and wait for the response.

        The response proves that the broker has received all earlier commands.
        """
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
                f"{self.name}: {said}; check that the broker is running at this address, and that user, "
                "password and virtual host are correct"
            ) from error

    def _beat(self, connection: Any, disconnected: threading.Event) -> None:  # noqa: ANN401 - as above
        """Send heartbeats until the connection ends."""
        while not disconnected.wait((connection.heartbeat or self._heartbeat_seconds) / 2):
            with self._lock:
                if not disconnected.is_set():
                    # Ignore an error here: the next call on the connection will fail, too.
                    with suppress(AMQPError, OSError):
                        connection.send_heartbeat()


def _receives(delivered: Any) -> int:  # noqa: ANN401 - py-amqp has no types
    """Return the number of deliveries of a message, including this delivery.

    If the queue does not count deliveries, the result is 1 for the first delivery, and 2 for each later
    delivery.
    """
    if not delivered.delivery_info["redelivered"]:
        return 1
    headers = delivered.properties.get("application_headers") or {}
    counts: list[int] = [headers[name] for name in _COUNTS if isinstance(headers.get(name), int)]
    return 1 + max([1, *counts])
