"""The interface of all sinks, and the error that a sink raises if an event cannot be sent."""

from typing import TYPE_CHECKING, Final, Protocol

from keyhole.errors import KeyholeError

if TYPE_CHECKING:
    from keyhole.results.sinks.event import Event

#: The names of the sinks that receive events.
EVENT_SINKS: Final = ("sns", "eventbridge", "sqs", "webhook")


class DeliveryError(KeyholeError):
    """An event could not be delivered, or the receiver did not confirm the event.

    Args:
        reason: A code for the cause.
        message: The error message: what failed, and what to do.
        is_final: Whether another attempt would fail in the same way. If so, Keyhole does not try again.
        retry_after: The number of seconds that the receiver asks Keyhole to wait before the next attempt.
    """

    def __init__(self, reason: str, message: str, *, is_final: bool = False, retry_after: float = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_final = is_final
        self.retry_after = retry_after


class Sink(Protocol):
    """A receiver of events. Several threads can call its methods at the same time."""

    def send(self, event: "Event") -> None:
        """Send an event, and return when the receiver has confirmed it.

        Raises:
            DeliveryError: The receiver did not confirm the event. Nevertheless, the receiver may have
                received the event.
        """

    def check(self) -> str:
        """Check whether events can be sent, as far as this is possible without sending an event.

        Return a sentence about the result.

        Raises:
            DeliveryError: Events cannot be sent. If the reason is `unchecked`, the receiver denied only the
                check, so it may still accept events.
        """
