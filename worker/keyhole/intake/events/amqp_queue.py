"""The address of an AMQP queue, and the exchange to which the queue is bound.

If the queue exists, Keyhole uses it and does not change its properties. If the queue is missing and the
address names an exchange, Keyhole declares the queue as durable and binds it to the exchange:

- Ceph's RGW publishes to a topic exchange, with the name of the Ceph topic as routing key. If the address has
  an exchange type, Keyhole also declares the exchange. Otherwise, the exchange must already exist.
- MinIO declares the exchange from its configuration when it publishes its first event.
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
    """The exchange and the routing key of a queue.

    `declare` is the type with which Keyhole declares a missing exchange; `None`: Keyhole does not declare the
    exchange.
    """

    exchange: str
    routing_key: str
    declare: str | None = None


@dataclass(frozen=True)
class AmqpQueue:
    """The address of a queue. The default port is 5672, or 5671 with TLS. Certificates are verified."""

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
        """The address without user and password, for logs and error messages."""
        place = f"{self.host}:{self.port}" if self.port else self.host
        vhost = "" if self.vhost == "/" else "/" + quote(self.vhost, safe="")
        return f"amqp{'s' if self.tls else ''}://{place}{vhost}/{quote(self.queue, safe='')}"


def prepare(connection: Any, address: AmqpQueue) -> None:  # noqa: ANN401 - py-amqp has no types
    """Check that the queue exists.

    If the address has a binding, declare the queue if it is missing, and bind it to the exchange.

    Raises:
        SourceUnavailableError: The queue or the exchange does not exist. The error message states what the
            operator must do.
    """
    queue, binding = address.queue, address.binding
    has_queue = _exists(connection, lambda channel: channel.queue_declare(queue, passive=True))
    if binding is None:
        if not has_queue:
            raise SourceUnavailableError(
                f"{address.name}: there is no such queue; declare it and bind it to the exchange of the "
                "events, or add ?exchange=NAME&routing_key=KEY, so that Keyhole does this (for Ceph, the key "
                "is the topic's name; for MinIO, it is the setting routing_key)"
            )
        return
    exchange = binding.exchange
    has_exchange = _exists(connection, lambda channel: channel.exchange_declare(exchange, "", passive=True))
    if not has_exchange and binding.declare is None:
        raise SourceUnavailableError(
            f"{address.name}: there is no exchange {exchange!r}; for Ceph, add &exchange_type=topic, so that "
            "Keyhole declares it as durable; MinIO declares its exchange when it publishes an event"
        )
    with connection.channel() as channel:
        if not has_exchange:
            channel.exchange_declare(exchange, binding.declare, durable=True, auto_delete=False)
        if not has_queue:
            channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.queue_bind(queue, exchange, binding.routing_key)


def describe(connection: Any, address: AmqpQueue) -> str:  # noqa: ANN401 - as above
    """Return a text with the numbers of waiting messages and of consumers, and check the permission to read.

    This function declares nothing and receives no message.

    Raises:
        SourceUnavailableError: The user lacks the permission to read the queue, or the queue does not exist
            and Keyhole cannot declare it, because the exchange does not exist.
    """
    binding = address.binding
    with suppress(NotFound):
        found = connection.channel().queue_declare(address.queue, passive=True)
        if connection.server_properties.get("product") == "RabbitMQ":
            _check_read_permission(connection, address)
        return f"{found.message_count:,} waiting, {found.consumer_count:,} listening"
    if binding is None or not (binding.declare or _has_exchange(connection, binding)):
        raise SourceUnavailableError(f"{address.name}: there is no such queue, or no exchange to bind it to")
    return "the queue does not exist yet; `keyhole listen` declares it and binds it to its exchange"


def _check_read_permission(connection: Any, address: AmqpQueue) -> None:  # noqa: ANN401 - as above
    """Raise `SourceUnavailableError` if this user lacks the permission to read the queue.

    To check the permission, this function requests a consumer with an invalid priority. RabbitMQ checks the
    permission first, and then refuses the invalid priority. So RabbitMQ delivers no message, even if the user
    has the permission.
    """
    try:
        connection.channel().basic_consume(address.queue, arguments={"x-priority": "none"})
    except PreconditionFailed:
        pass
    except AccessRefused as error:
        raise SourceUnavailableError(
            f"{address.name}: the user cannot read it ({error.reply_text}); give the user read permission"
        ) from error


def _has_exchange(connection: Any, binding: Binding) -> bool:  # noqa: ANN401 - as above
    with suppress(NotFound):
        connection.channel().exchange_declare(binding.exchange, "", passive=True)
        return True
    return False


def _exists(connection: Any, declare: Callable[[Any], object]) -> bool:  # noqa: ANN401 - as above
    """Send a passive declaration, and return whether the queue or the exchange exists.

    If the queue or the exchange does not exist, the broker closes the channel.
    """
    with connection.channel() as channel:
        try:
            declare(channel)
        except NotFound:
            return False
        return True
