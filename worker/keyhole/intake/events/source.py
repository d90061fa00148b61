"""The port through which the listener receives messages; sources for SQS, AMQP and Redis implement it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyhole.errors import KeyholeError


@dataclass(frozen=True, slots=True)
class Message:
    """A received message.

    Args:
        body: Its bytes.
        receipt: An opaque value by which the source acknowledges it.
        receives: The number of its deliveries, including this one, as far as the queue counts; at least 1.
    """

    body: bytes
    receipt: object
    receives: int = 1


class SourceUnavailableError(KeyholeError):
    """The queue cannot be reached, or refuses. Unacknowledged messages will be delivered again."""


class LookDeniedError(SourceUnavailableError):
    """Keyhole may not read the status of the queue, but may be allowed to listen."""


class MessageSource(Protocol):
    """Messages from a queue, at least once each. One thread uses it."""

    #: The queue's address for people and logs: without user and password.
    name: str

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait for the first one for up to `wait_seconds`.

        Raises:
            SourceUnavailableError: The queue cannot be reached.
        """

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages, which deletes them.

        Raises:
            SourceUnavailableError: The queue cannot be reached; they will be delivered again.
        """

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue, which delivers them again to any listener.

        Raises:
            SourceUnavailableError: The queue cannot be reached; they will be delivered again all the same.
        """

    def look(self) -> str:
        """Return the status of the queue in words, without taking or changing anything.

        Raises:
            SourceUnavailableError: The queue cannot be reached, or does not exist.
            LookDeniedError: Its status may not be read.
        """

    def close(self) -> None:
        """Give back unacknowledged messages, and disconnect."""
