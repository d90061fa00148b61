"""Memory: what holds much asks first whoever runs the inspection, and says when it holds it no more.

The small regions of an image are not asked for: they are bounded, and the caller reckons with them. Asked for
is what an image can make large: the windows of decoders, and long regions with what is made of them.

    with held_by(share):
        inspection.feed(offset, data)

The caller may let the inspection wait, or raise to end it. What it raises is not an `ImageFormatError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Holder(Protocol):
    """Who answers for the memory of one inspection."""

    def take(self, length: int) -> int:
        """Let so many bytes more be held, now or after a while, or raise. Returns how many are counted."""

    def give(self, length: int) -> None:
        """Take back as many."""


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
    """Bytes that one thing holds, of which it may come to need more."""

    __slots__ = ("_counted", "_holder", "length")

    def __init__(self) -> None:
        self.length = self._counted = 0
        self._holder: Holder | None = None

    def raise_to(self, length: int) -> None:
        """Hold so many bytes, or as many as are held already if that is more.

        Raises:
            Exception: Whatever the holder raises to end the inspection.
        """
        more = length - self.length
        holder = self._holder or _current.get()
        if more <= 0 or holder is None:
            return
        self._counted += holder.take(more)
        self._holder = holder
        self.length = length

    def release(self) -> None:
        """Hold nothing any more."""
        if self._holder is not None:
            self._holder.give(self._counted)
        self._holder, self.length, self._counted = None, 0, 0
