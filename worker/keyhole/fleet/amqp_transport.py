"""kombu's AMQP transport, extended: it reports why RabbitMQ blocks, and retries refused logins slowly.

A RabbitMQ that runs out of memory or disk stops reading from publishers. It sends the reason once, in the
AMQP method `connection.blocked`, but py-amqp discards this reason. With kombu's own transport, a publisher
therefore waits for its timeout, gets an error without a message, and waits again when it closes the
connection. This transport stores the reason, waits for a shorter time, and raises an error that contains the
reason.

Source: rabbitmq.com, "Blocked Connection Notifications".
"""

import logging
from typing import Any, Final

from amqp import spec  # type: ignore[import-untyped] # kombu's driver; it has no types
from amqp.exceptions import (  # type: ignore[import-untyped] # as above
    AccessRefused,
    IrrecoverableConnectionError,
    NotAllowed,
    RecoverableConnectionError,
)
from kombu.transport import pyamqp

log = logging.getLogger(__name__)

#: The method `connection.blocked` with its argument: the reason, which is a short string.
_BLOCKED: Final = spec.method(spec.Connection.Blocked, "s")
#: Seconds to wait for an answer from a blocked RabbitMQ. If RabbitMQ unblocks sooner, publishing succeeds.
BLOCKED_SECONDS: Final = 3.0


class BlockedError(IrrecoverableConnectionError):  # type: ignore[misc] # py-amqp has no types
    """RabbitMQ accepts no messages.

    The error is irrecoverable, because kombu would retry forever after a recoverable error.
    """


class Channel(pyamqp.Channel):
    """A channel whose errors state why RabbitMQ is blocked."""

    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, **how: Any) -> Any:  # noqa: ANN401 - py-amqp has no types
        """Wait for an answer from RabbitMQ.

        Raises:
            BlockedError: No answer came, because RabbitMQ is blocked. The connection is now closed.
            TimeoutError: No answer came, and RabbitMQ has stated no reason.
        """
        connection = self.connection
        try:
            return super().wait(method, callback, timeout, **how)
        except TimeoutError as error:
            reason = getattr(connection, "blocked_reason", None)
            if reason is None:
                raise
            connection.collect()
            raise BlockedError(
                f"RabbitMQ accepts no messages until this is resolved: {reason}; see `rabbitmqctl status`"
            ) from error


class Connection(pyamqp.Connection):
    """A connection that remembers why RabbitMQ is blocked."""

    Channel = Channel
    _METHODS = {**pyamqp.Connection._METHODS, spec.Connection.Blocked: _BLOCKED}  # noqa: RUF012, SLF001 - extends a table of py-amqp
    #: Why RabbitMQ is blocked; `None` if RabbitMQ is not blocked.
    blocked_reason: str | None = None

    def _on_blocked(self, reason: str) -> None:
        self.blocked_reason = reason
        log.warning("RabbitMQ accepts no messages: %s", reason)

    def _on_unblocked(self) -> None:
        self.blocked_reason = None
        log.warning("RabbitMQ accepts messages again")

    def blocking_read(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as above
        """Read the next frame, with a shorter timeout if RabbitMQ is blocked."""
        if self.blocked_reason is not None:
            timeout = BLOCKED_SECONDS if timeout is None else min(timeout, BLOCKED_SECONDS)
        return super().blocking_read(timeout)

    def close(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as above
        """Close the connection. If RabbitMQ is blocked, close it without the handshake."""
        if self.blocked_reason is None:
            super().close(*arguments, **named)
        else:
            self.collect()


class _Refusals:
    """Raises a connection error, not a channel error, if the broker refuses a login or a virtual host.

    py-amqp itself raises a channel error. After a channel error, a worker connects again without a pause,
    about six times per second. After a connection error, Celery connects again with back-off.
    """

    Connection = Connection

    def establish_connection(self) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker.

        Raises:
            RecoverableConnectionError: The broker refuses the login or the virtual host.
        """
        try:
            return super().establish_connection()  # type: ignore[misc] # defined in the other base class
        except (AccessRefused, NotAllowed) as error:
            raise RecoverableConnectionError(error.reply_text) from error


class Transport(_Refusals, pyamqp.Transport):
    """The transport for `amqp://` URLs."""


class SSLTransport(_Refusals, pyamqp.SSLTransport):
    """The transport for `amqps://` URLs."""
