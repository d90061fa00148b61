"""The interface between the listener and a queue. Other modules implement it for SQS, AMQP and Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyhole.errors import KeyholeError


@dataclass(frozen=True, slots=True)
class Message:
    """A received message.

    Args:
        body: The bytes of the message.
        receipt: An opaque value that the source needs to acknowledge the message.
        receives: The number of deliveries of the message, including this delivery, so at least 1. Some queues
            do not count all deliveries, so the number may be too low.
        traceparent: The trace context of the sender (W3C Trace Context), if the message states one.
    """

    body: bytes
    receipt: object
    receives: int = 1
    traceparent: str | None = None


class SourceUnavailableError(KeyholeError):
    """The queue cannot be reached or refuses access. The queue will deliver unacknowledged messages again."""


class LookDeniedError(SourceUnavailableError):
    """Keyhole lacks the permission to read the queue's status.

    Keyhole may nevertheless have the permission to receive messages.
    """


class MessageSource(Protocol):
    """A queue that delivers each message at least once. Only one thread can use a source."""

    #: The queue's address without user and password, for logs and messages.
    name: str

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait up to `wait_seconds` for the first message.

        Raises:
            SourceUnavailableError: The queue cannot be reached.
        """

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages, which deletes them.

        Raises:
            SourceUnavailableError: The queue cannot be reached. The queue will deliver the messages again.
        """

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue, which delivers them again, to this or to another listener.

        Raises:
            SourceUnavailableError: The queue cannot be reached. The queue will deliver the messages again
                later.
        """

    def look(self) -> str:
        """Return the status of the queue in words, without taking a message or changing the queue.

        Raises:
            SourceUnavailableError: The queue cannot be reached, or does not exist.
            LookDeniedError: Keyhole lacks the permission to read the status.
        """

    def close(self) -> None:
        """Return unacknowledged messages to the queue, and disconnect."""
