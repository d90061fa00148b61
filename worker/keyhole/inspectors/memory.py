"""Lets the caller limit the memory of inspections: inspectors reserve large amounts of memory before use.

An image can require a large window of a decoder, or a long region. So an inspector reserves memory for each
window, and for each long region together with the objects that it parses from the region. It does not reserve
memory for short regions, because their total length is bounded: the caller adds a fixed amount for all of
them.

    with held_by(share):
        inspection.feed(offset, data)

The caller passes a `Holder`, which grants each reservation. If the holder cannot grant a reservation yet, it
blocks. To end the inspection, the holder raises an exception that is not an `ImageFormatError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Holder(Protocol):
    """Grants memory to one inspection on behalf of the caller."""

    def take(self, length: int) -> int:
        """Reserve `length` more bytes, perhaps after waiting. Return how many bytes were reserved.

        Raises:
            Exception: The inspection must end.
        """

    def give(self, length: int) -> None:
        """Release `length` reserved bytes."""


_current: ContextVar[Holder | None] = ContextVar("holder", default=None)


@contextmanager
def held_by(holder: Holder) -> Iterator[None]:
    """Make this thread's inspections reserve their memory with `holder`."""
    token = _current.set(holder)
    try:
        yield
    finally:
        _current.reset(token)


class Held:
    """The memory reserved for one region or decoder. The reservation can grow."""

    __slots__ = ("_counted", "_holder", "length")

    def __init__(self) -> None:
        self.length = self._counted = 0
        self._holder: Holder | None = None

    def raise_to(self, length: int) -> None:
        """Increase the reservation to `length` bytes. Do nothing if it is already at least that large.

        Raises:
            Exception: The exception that the holder raises to end the inspection.
        """
        more = length - self.length
        holder = self._holder or _current.get()
        if more <= 0 or holder is None:
            return
        self._counted += holder.take(more)
        self._holder = holder
        self.length = length

    def release(self) -> None:
        """Release the whole reservation."""
        if self._holder is not None:
            self._holder.give(self._counted)
        self._holder, self.length, self._counted = None, 0, 0
