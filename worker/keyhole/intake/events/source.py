"""What a queue of messages promises to the listener."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyhole.errors import KeyholeError


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received.

    Args:
        body: Its bytes, whatever they are.
        receipt: What the source needs to acknowledge it; opaque.
        receives: How often it was delivered, this time included, as far as anybody counts; at least 1.
    """

    body: bytes
    receipt: object
    receives: int = 1


class SourceUnavailableError(KeyholeError):
    """The queue cannot be reached, or refuses; what is unacknowledged will be delivered again."""


class LookDeniedError(SourceUnavailableError):
    """The queue may not be looked at, which tells nothing of whether it may be listened to."""


class MessageSource(Protocol):
    """Messages from a queue, at least once each. One thread uses it."""

    #: The queue's address for people and logs: without user and password.
    name: str

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Up to `limit` messages; waits for the first no longer than so many seconds.

        Raises:
            SourceUnavailableError: It cannot be asked.
        """

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Delete messages whose work is taken over.

        Raises:
            SourceUnavailableError: It cannot be told; they will be delivered again.
        """

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue, to be delivered again, to us or to another.

        Raises:
            SourceUnavailableError: It cannot be told; they will be delivered again all the same.
        """

    def look(self) -> str:
        """Say what is there, without taking or changing anything.

        Raises:
            SourceUnavailableError: It cannot be asked, or there is no such queue.
            LookDeniedError: It may not be looked at.
        """

    def close(self) -> None:
        """Give back what was received and not acknowledged, and disconnect."""
