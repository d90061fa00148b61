"""Memory: code that needs much memory asks the caller first, and tells it when the memory is free again.

Code does not ask for small regions: they are bounded, and the caller allows for them. It asks for the windows
of decoders, and for long regions with what is made of them, because an image can make these large.

    with held_by(share):
        inspection.feed(offset, data)

The caller may let the inspection wait, or raise to end it. Its exception is not an `ImageFormatError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Holder(Protocol):
    """The caller's account of one inspection's memory."""

    def take(self, length: int) -> int:
        """Allow `length` more bytes, perhaps after waiting, or raise. Return how many bytes were counted."""

    def give(self, length: int) -> None:
        """Take back `length` bytes."""


_current: ContextVar[Holder | None] = ContextVar("holder", default=None)


@contextmanager
def held_by(holder: Holder) -> Iterator[None]:
    """Have this thread's inspections ask `holder`."""
    token = _current.set(holder)
    try:
        yield
    finally:
        _current.reset(token)


class Held:
    """The memory of one user, which may need more later."""

    __slots__ = ("_counted", "_holder", "length")

    def __init__(self) -> None:
        self.length = self._counted = 0
        self._holder: Holder | None = None

    def raise_to(self, length: int) -> None:
        """Ask for memory so that `length` bytes are held in all. Do nothing if as many are held already.

        Raises:
            Exception: The holder raised it to end the inspection.
        """
        more = length - self.length
        holder = self._holder or _current.get()
        if more <= 0 or holder is None:
            return
        self._counted += holder.take(more)
        self._holder = holder
        self.length = length

    def release(self) -> None:
        """Release all memory."""
        if self._holder is not None:
            self._holder.give(self._counted)
        self._holder, self.length, self._counted = None, 0, 0
