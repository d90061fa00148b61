"""kombu's AMQP transport, which says why RabbitMQ does not answer, and does not hurry where it refuses us.

A RabbitMQ that is short of memory or disk stops reading from whoever publishes, and says so once, by
`connection.blocked`, with its reason. py-amqp drops the reason and then waits: the publisher got a timeout
without a word, and waited again for the answer to its goodbye.

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
#: Seconds to wait for an answer of a RabbitMQ that has said so. An alarm that is over sooner is not noticed.
BLOCKED_SECONDS: Final = 3.0


class BlockedError(IrrecoverableConnectionError):  # type: ignore[misc] # py-amqp has no types
    """RabbitMQ takes no messages. kombu would try again for ever if this were a connection that broke."""


class Channel(pyamqp.Channel):
    """A channel whose timeouts tell the reason that RabbitMQ gave."""

    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, **how: Any) -> Any:  # noqa: ANN401 - py-amqp has no types
        """Wait for an answer.

        Raises:
            BlockedError: None came, and RabbitMQ takes nothing; the connection is given up.
            TimeoutError: None came, and nobody said why.
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
    """A connection that keeps the reason for which RabbitMQ does not read from it."""

    Channel = Channel
    _METHODS = {**pyamqp.Connection._METHODS, spec.Connection.Blocked: _BLOCKED}  # noqa: RUF012, SLF001 - py-amqp's table
    #: Why RabbitMQ takes nothing; `None` if it does.
    blocked_reason: str | None = None

    def _on_blocked(self, reason: str) -> None:
        self.blocked_reason = reason
        log.warning("RabbitMQ takes no messages: %s", reason)

    def _on_unblocked(self) -> None:
        self.blocked_reason = None
        log.warning("RabbitMQ takes messages again")

    def blocking_read(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as above
        """Read the next frame; wait less long for it if RabbitMQ takes nothing."""
        if self.blocked_reason is not None:
            timeout = BLOCKED_SECONDS if timeout is None else min(timeout, BLOCKED_SECONDS)
        return super().blocking_read(timeout)

    def close(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as above
        """Close it; without a goodbye if RabbitMQ would not read that."""
        if self.blocked_reason is None:
            super().close(*arguments, **named)
        else:
            self.collect()


class _Refusals:
    """Makes a refused login or virtual host an error of the connection: Celery tries that ever less often.

    py-amqp has it as an error of a channel, after which a worker connects again at once, six times a second.
    """

    Connection = Connection

    def establish_connection(self) -> Any:  # noqa: ANN401 - as above
        """Connect.

        Raises:
            RecoverableConnectionError: The broker refuses the login or the virtual host.
        """
        try:
            return super().establish_connection()  # type: ignore[misc] # of the class beside this one
        except (AccessRefused, NotAllowed) as error:
            raise RecoverableConnectionError(error.reply_text) from error


class Transport(_Refusals, pyamqp.Transport):
    """The transport of `amqp://`."""


class SSLTransport(_Refusals, pyamqp.SSLTransport):
    """The transport of `amqps://`."""
