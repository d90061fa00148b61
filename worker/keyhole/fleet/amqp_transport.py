"""Extends kombu's AMQP transport: says why RabbitMQ does not answer, and retries refused logins slowly.

A RabbitMQ that is short of memory or disk stops reading from publishers, and gives its reason once, in
`connection.blocked`. py-amqp drops the reason and waits: its publisher gets a timeout without a
message, and waits again when it closes the connection.

Source: rabbitmq.com, "Blocked Connection Notifications".
"""

import logging
from typing import Any, Final

from amqp import spec  # type: ignore[import-untyped] # kombu's driver; it has no types
from amqp.exceptions import (  # type: ignore[import-untyped] # the same
    AccessRefused,
    IrrecoverableConnectionError,
    NotAllowed,
    RecoverableConnectionError,
)
from kombu.transport import pyamqp

log = logging.getLogger(__name__)

#: `connection.blocked` has one argument, a short string: the reason.
_BLOCKED: Final = spec.method(spec.Connection.Blocked, "s")
#: Seconds to wait for an answer of a blocked RabbitMQ. Publishers do not notice shorter alarms.
BLOCKED_SECONDS: Final = 3.0


class BlockedError(IrrecoverableConnectionError):  # type: ignore[misc] # py-amqp has no types
    """RabbitMQ takes no messages. kombu would retry forever if this were a recoverable error."""


class Channel(pyamqp.Channel):
    """A channel whose timeout errors contain the reason that RabbitMQ gave."""

    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, **how: Any) -> Any:  # noqa: ANN401 - py-amqp has no types
        """Wait for an answer.

        Raises:
            BlockedError: No answer came, and RabbitMQ is blocked; the connection is closed.
            TimeoutError: No answer came, for an unknown reason.
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
                f"RabbitMQ takes no messages: {reason}; see `rabbitmqctl status`, it does when that is over"
            ) from error


class Connection(pyamqp.Connection):
    """A connection that keeps the reason why RabbitMQ does not read from it."""

    Channel = Channel
    _METHODS = {**pyamqp.Connection._METHODS, spec.Connection.Blocked: _BLOCKED}  # noqa: RUF012, SLF001 - py-amqp's table
    #: Why RabbitMQ is blocked; `None` if it is not.
    blocked_reason: str | None = None

    def _on_blocked(self, reason: str) -> None:
        self.blocked_reason = reason
        log.warning("RabbitMQ takes no messages: %s", reason)

    def _on_unblocked(self) -> None:
        self.blocked_reason = None
        log.warning("RabbitMQ takes messages again")

    def blocking_read(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as above
        """Read the next frame, with a shorter timeout if RabbitMQ is blocked."""
        if self.blocked_reason is not None:
            timeout = BLOCKED_SECONDS if timeout is None else min(timeout, BLOCKED_SECONDS)
        return super().blocking_read(timeout)

    def close(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as above
        """Close the connection; without the closing handshake if RabbitMQ is blocked."""
        if self.blocked_reason is None:
            super().close(*arguments, **named)
        else:
            self.collect()


class _Refusals:
    """Turns a refused login or virtual host into a connection error, which Celery retries with back-off.

    py-amqp raises a channel error instead, and a worker then connects again at once, six times a second.
    """

    Connection = Connection

    def establish_connection(self) -> Any:  # noqa: ANN401 - as above
        """Connect.

        Raises:
            RecoverableConnectionError: The broker refuses the login or the virtual host.
        """
        try:
            return super().establish_connection()  # type: ignore[misc] # of the other base class
        except (AccessRefused, NotAllowed) as error:
            raise RecoverableConnectionError(error.reply_text) from error


class Transport(_Refusals, pyamqp.Transport):
    """The transport of `amqp://`."""


class SSLTransport(_Refusals, pyamqp.SSLTransport):
    """The transport of `amqps://`."""
