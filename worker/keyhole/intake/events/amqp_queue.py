"""An AMQP queue of events: its address, and the exchange that it is bound to.

A queue is used as its owner declared it. If its address names an exchange, Keyhole declares a durable queue
and binds it to the exchange:

- Ceph's RGW publishes to a topic exchange, which must exist, with the topic's name as routing key. With an
  exchange type in the address, Keyhole declares that exchange as well.
- MinIO declares the exchange of its configuration when it publishes.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed  # type: ignore[import-untyped] # kombu's driver; it has no types

from keyhole.intake.events.source import SourceUnavailableError


@dataclass(frozen=True)
class Binding:
    """The exchange and routing key of a queue. With `declare`, the exchange is declared with that type."""

    exchange: str
    routing_key: str
    declare: str | None = None


@dataclass(frozen=True)
class AmqpQueue:
    """A queue's address. The default port is 5672, with TLS 5671. Certificates are verified."""

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
        """The address without user and password, for logs and errors."""
        place = f"{self.host}:{self.port}" if self.port else self.host
        vhost = "" if self.vhost == "/" else "/" + quote(self.vhost, safe="")
        return f"amqp{'s' if self.tls else ''}://{place}{vhost}/{quote(self.queue, safe='')}"


def prepare(connection: Any, address: AmqpQueue) -> None:  # noqa: ANN401 - py-amqp has no types
    """Check that a queue exists. If its address has a binding, declare the queue and bind it.

    Raises:
        SourceUnavailableError: There is no such queue, or no such exchange; the message says what to do.
    """
    queue, binding = address.queue, address.binding
    has_queue = _exists(connection, lambda channel: channel.queue_declare(queue, passive=True))
    if binding is None:
        if not has_queue:
            raise SourceUnavailableError(
                f"{address.name}: there is no such queue; declare it and bind it to the exchange that the "
                "events go to, or add ?exchange=NAME&routing_key=KEY to have Keyhole do so (the key is "
                "the topic's name for Ceph, the routing_key of its settings for MinIO)"
            )
        return
    exchange = binding.exchange
    has_exchange = _exists(connection, lambda channel: channel.exchange_declare(exchange, "", passive=True))
    if not has_exchange and binding.declare is None:
        raise SourceUnavailableError(
            f"{address.name}: there is no exchange {exchange!r}; for Ceph add &exchange_type=topic to have "
            "Keyhole declare it, durable; MinIO declares its own when it publishes"
        )
    with connection.channel() as channel:
        if not has_exchange:
            channel.exchange_declare(exchange, binding.declare, durable=True, auto_delete=False)
        if not has_queue:
            channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.queue_bind(queue, exchange, binding.routing_key)


def describe(connection: Any, address: AmqpQueue) -> str:  # noqa: ANN401 - as above
    """Return how many messages wait and how many consumers listen, and check that the queue can be read.

    Nothing is declared and no message is taken.

    Raises:
        SourceUnavailableError: The user may not read the queue, or neither queue nor exchange exists.
    """
    binding = address.binding
    with suppress(NotFound):
        found = connection.channel().queue_declare(address.queue, passive=True)
        if connection.server_properties.get("product") == "RabbitMQ":
            _check_read_permission(connection, address)
        return f"{found.message_count:,} waiting, {found.consumer_count:,} listening"
    if binding is None or not (binding.declare or _has_exchange(connection, binding)):
        raise SourceUnavailableError(f"{address.name}: there is no such queue, or no exchange to bind it to")
    return "no such queue yet; `keyhole listen` declares it, and binds it to its exchange"


def _check_read_permission(connection: Any, address: AmqpQueue) -> None:  # noqa: ANN401 - as above
    """Raise if this user may not read the queue.

    A consumer with an invalid priority is refused, so no message is taken. RabbitMQ checks the permission
    first.
    """
    try:
        connection.channel().basic_consume(address.queue, arguments={"x-priority": "none"})
    except PreconditionFailed:
        pass
    except AccessRefused as error:
        raise SourceUnavailableError(
            f"{address.name}: the user may not read it ({error.reply_text}); give it the read permission"
        ) from error


def _has_exchange(connection: Any, binding: Binding) -> bool:  # noqa: ANN401 - as above
    with suppress(NotFound):
        connection.channel().exchange_declare(binding.exchange, "", passive=True)
        return True
    return False


def _exists(connection: Any, declare: Callable[[Any], object]) -> bool:  # noqa: ANN401 - as above
    """Whether a passive declaration succeeds. It closes the channel if it does not."""
    with connection.channel() as channel:
        try:
            declare(channel)
        except NotFound:
            return False
        return True
