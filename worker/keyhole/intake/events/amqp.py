"""Messages from a queue of an AMQP 0-9-1 broker, RabbitMQ for one, to which Ceph and MinIO publish.

The queue exists already, as its owner declared it. Or, where the address names an exchange, a durable one is
declared and bound: Ceph's RGW publishes to a topic exchange, which must exist, with the topic's name as
routing key; MinIO declares the exchange of its configuration when it publishes. What they publish while no
queue is bound is gone. So is, when the broker restarts, what they did not publish as persistent: Ceph does
with `amqp-ack-level=broker`, MinIO with `delivery_mode=2`.

- A message is acknowledged by whoever has taken over its work, and until then the broker keeps it. What an
  ended connection leaves unacknowledged is delivered again.
- Acknowledgements are followed by a question, so that they have arrived when the call returns.
- A message is given back by `basic.nack`. RabbitMQ's quorum queues count deliveries, and by default drop a
  message after 20 (4.0 and later; from 4.3 on they don't count what is given back). Classic queues count
  nothing: a message was there before or wasn't.
- Heartbeats are sent by a thread while nobody waits here for messages, so the listener may be busy for as
  long as it likes (and as the broker's `consumer_timeout` does, 30 minutes).

One thread uses it, in the process that made the first call.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from amqp import spec  # type: ignore[import-untyped] # kombu's driver; it has no types
from amqp.exceptions import AccessRefused, AMQPError, NotFound, PreconditionFailed  # type: ignore[import-untyped] # the same
from kombu.connection import Connection

from keyhole.intake.events.source import Message, SourceUnavailableError

#: Seconds between heartbeats that we ask for. The broker gives a connection up after two.
HEARTBEAT_SECONDS: Final = 30
#: Seconds for a connection, and for an answer: a broker that is silent for so long is down.
_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 30
#: Seconds for the messages behind the first one: they come in one burst.
_BURST_SECONDS: Final = 0.02
#: What the protocol has 16 bits for.
_LARGEST_PREFETCH: Final = 0xFFFF
#: Headers by which quorum queues count the deliveries before this one, the first from RabbitMQ 4.3 on.
_COUNTS: Final = ("x-acquired-count", "x-delivery-count")


@dataclass(frozen=True)
class Binding:
    """Where the queue gets its messages from; `declare` is the type that the exchange is declared with."""

    exchange: str
    routing_key: str
    declare: str | None = None


@dataclass(frozen=True)
class AmqpQueue:
    """A queue's address. `port` is by default 5672, with TLS 5671; certificates are verified."""

    host: str
    queue: str
    vhost: str = "/"
    port: int | None = None
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: bool = False
    binding: Binding | None = None

    @property
    def name(self) -> str:
        """The address for people and logs: without user and password."""
        place = f"{self.host}:{self.port}" if self.port else self.host
        vhost = "" if self.vhost == "/" else "/" + quote(self.vhost, safe="")
        return f"amqp{'s' if self.tls else ''}://{place}{vhost}/{quote(self.queue, safe='')}"


class _Receipt(NamedTuple):
    """A delivery's number, which means something on its own connection alone."""

    connection: int
    delivery_tag: int


class AmqpSource:
    """The messages of one queue; a `source.MessageSource`. It connects at the first `receive`.

    `client_name` is how the broker shows the connection to people. With `answer_seconds` it waits no
    longer than that for the broker.
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
        # Held by whoever uses the connection: the caller, or the thread that sends heartbeats.
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
        #: What the caller has of this connection.
        self._out: set[_Receipt] = set()

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Up to `limit` messages; waits for the first no longer than so many seconds.

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
        """Delete messages whose work is taken over.

        Raises:
            SourceUnavailableError: The connection is lost, or was since they were received; they will be
                delivered again.
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
        """Return messages to the queue, about where they were.

        Raises:
            SourceUnavailableError: The connection is lost, which gives them back as well.
        """
        with self._lock, self._unavailable_on_error():
            ours = self._still_out(messages)
            for receipt in ours:
                # py-amqp has no function for it. Bits: not all up to this one; to be queued again.
                self._channel.send_method(spec.Basic.Nack, "Lbb", (receipt.delivery_tag, False, True))
            self._settle(ours)

    def look(self) -> str:
        """Say how many messages wait and how many listen, without taking any, and that they can be read.

        Raises:
            SourceUnavailableError: The broker does not answer or refuses, or there is no such queue.
        """
        with self._lock, self._unavailable_on_error():
            connection = self._open()
            try:
                return self._look(connection)
            finally:
                connection.collect()

    def _look(self, connection: Any) -> str:  # noqa: ANN401 - py-amqp has no types
        queue, binding = self._address.queue, self._address.binding
        with suppress(NotFound):
            found = connection.channel().queue_declare(queue, passive=True)
            if connection.server_properties.get("product") == "RabbitMQ":
                self._try_to_read(connection)
            return f"{found.message_count:,} waiting, {found.consumer_count:,} listening"
        if binding is None or not (binding.declare or self._has_exchange(connection, binding)):
            raise SourceUnavailableError(f"{self.name}: there is no such queue, or no exchange to bind it to")
        return "no such queue yet; `keyhole listen` declares it, and binds it to its exchange"

    def _try_to_read(self, connection: Any) -> None:  # noqa: ANN401 - as above
        """See that this user may read. The consumer is refused, as its priority is none; no message is taken.

        RabbitMQ looks at the permission first.
        """
        try:
            connection.channel().basic_consume(self._address.queue, arguments={"x-priority": "none"})
        except PreconditionFailed:
            pass
        except AccessRefused as error:
            raise SourceUnavailableError(
                f"{self.name}: the user may not read it ({error.reply_text}); give it the read permission"
            ) from error

    @staticmethod
    def _has_exchange(connection: Any, binding: Binding) -> bool:  # noqa: ANN401 - as above
        with suppress(NotFound):
            connection.channel().exchange_declare(binding.exchange, "", passive=True)
            return True
        return False

    def close(self) -> None:
        """Disconnect, which gives back what was received and not acknowledged."""
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
        self._find_queue()
        self._channel = self._connection.channel()
        # A body is what was sent, whatever encoding its sender says.
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
            # With a name to compare, py-amqp verifies the certificate and the name.
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
        """Drop the connection, and all that is known of it."""
        self._disconnected.set()
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._channel = self._consumer = None
        self._prefetch = 0
        self._arrived.clear()
        self._out.clear()

    def _find_queue(self) -> None:
        """See that there is the queue; with a binding, that there is the exchange, and bind it."""
        queue, binding = self._address.queue, self._address.binding
        found = self._exists(lambda channel: channel.queue_declare(queue, passive=True))
        if binding is None:
            if not found:
                raise SourceUnavailableError(
                    f"{self.name}: there is no such queue; declare it and bind it to the exchange that the "
                    "events go to, or add ?exchange=NAME&routing_key=KEY to have Keyhole do so (the key is "
                    "the topic's name for Ceph, the routing_key of its settings for MinIO)"
                )
            return
        exchange = binding.exchange
        has_exchange = self._exists(lambda channel: channel.exchange_declare(exchange, "", passive=True))
        if not has_exchange and binding.declare is None:
            raise SourceUnavailableError(
                f"{self.name}: there is no exchange {exchange!r}; for Ceph add &exchange_type=topic to have "
                "Keyhole declare it, durable; MinIO declares its own when it publishes"
            )
        with self._connection.channel() as channel:
            if not has_exchange:
                channel.exchange_declare(exchange, binding.declare, durable=True, auto_delete=False)
            if not found:
                channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.queue_bind(queue, exchange, binding.routing_key)

    def _exists(self, ask: Callable[[Any], object]) -> bool:  # a channel: py-amqp has no types
        with self._connection.channel() as channel:
            try:
                ask(channel)
            except NotFound:
                return False
            return True

    def _make_room(self, limit: int) -> None:
        """Have the broker send up to `limit` messages beyond those that the caller has."""
        wanted = min(limit + len(self._out), _LARGEST_PREFETCH)
        if self._prefetch >= wanted:
            return
        # It counts for consumers that begin after it.
        self._channel.basic_qos(0, wanted, a_global=False)
        if self._consumer is not None:
            self._channel.basic_cancel(self._consumer)
        self._consumer = self._channel.basic_consume(self._address.queue, callback=self._take_in)
        self._prefetch = wanted

    def _take_in(self, delivered: Any) -> None:  # noqa: ANN401 - py-amqp has no types
        receipt = _Receipt(self._connections, delivered.delivery_tag)
        # py-amqp gives bytes, but of an empty body an empty text.
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
        """Take in what comes next; false if nothing came."""
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError as error:
            # The socket's own (the other end is gone) is one, too, and has a number.
            if error.errno is not None:
                raise
            return False
        return True

    def _still_out(self, messages: Sequence[Message]) -> set[_Receipt]:
        """The receipts among those of the messages that are of this connection, and not settled yet."""
        return self._out.intersection(cast("_Receipt", message.receipt) for message in messages)

    def _settle(self, receipts: set[_Receipt]) -> None:
        """Ask something, as the answer comes after what was sent before has arrived."""
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
        """Tell the broker now and then that we are there."""
        while not disconnected.wait((connection.heartbeat or self._heartbeat_seconds) / 2):
            with self._lock:
                if not disconnected.is_set():
                    # Whoever uses it next finds out as well.
                    with suppress(AMQPError, OSError):
                        connection.send_heartbeat()


def _receives(delivered: Any) -> int:  # noqa: ANN401 - py-amqp has no types
    """How often a message was delivered, this time included: once, or as often as the queue has counted."""
    if not delivered.delivery_info["redelivered"]:
        return 1
    headers = delivered.properties.get("application_headers") or {}
    counts: list[int] = [headers[name] for name in _COUNTS if isinstance(headers.get(name), int)]
    return 1 + max([1, *counts])
