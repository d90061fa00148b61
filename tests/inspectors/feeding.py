"""Feeds an image to an inspection or to one inspector: by whole ranges, as a stream, or in pieces."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.inspectors import FileInspector, ImageFormatError, Inspection

MIB = 1024**2


class Single:
    """One inspector, run as an `Inspection` runs it. `ImageFormatError` is a result too."""

    def __init__(self, inspector: FileInspector) -> None:
        self.inspector = inspector
        self.error: str | None = None

    def feed(self, offset: int, data: bytes) -> None:
        self._try(lambda: self.inspector.feed(offset, data))

    def finish(self, size: int) -> None:
        self._try(lambda: self.inspector.finish(size))

    def _try(self, call: Callable[[], None]) -> None:
        if self.error is None:
            try:
                call()
            except ImageFormatError as error:
                self.error = str(error)

    def missing(self) -> list[tuple[int, int]]:
        return [] if self.error else [(gap.offset, gap.length) for gap in self.inspector.missing()]

    def facts(self) -> object:
        one = self.inspector
        known = (
            one.virtual_size,
            one.subformat,
            one.content,
            one.wholeness,
            dict(one.details()),
            one.checks(),
        )
        return (one.format_match, self.error) if self.error else (one.format_match, known)


Run = Inspection | Single
AnyRun = TypeVar("AnyRun", Inspection, Single)
Draw = Callable[[st.SearchStrategy[Any]], Any]


def fetch(run: AnyRun, image: Image) -> AnyRun:
    """Feed the missing ranges until none is missing."""
    for _ in range(100):
        missing = run.missing()
        if not missing:
            return run
        offset, length = missing[0]
        run.feed(offset, image.read(offset, length))
    raise AssertionError(f"it never has enough: {run.missing()}")


def told_at_once(run: AnyRun, image: Image) -> AnyRun:
    """Feed the length first, then each missing range as a whole. This is the reference for the other ways."""
    run.finish(image.size)
    return fetch(run, image)


def streamed(run: AnyRun, image: Image, draw: Draw) -> AnyRun:
    """Feed the image from front to end in chunks of a random size, then the length and the missed ranges."""
    size = draw(st.sampled_from([4093, 16 * 1024, 64 * 1024, 100_003, MIB, 16 * MIB]))
    for offset in range(0, image.size, size):
        run.feed(offset, image.read(offset, min(size, image.size - offset)))
    run.finish(image.size)
    return fetch(run, image)


def scattered(run: AnyRun, image: Image, draw: Draw) -> AnyRun:
    """Feed pieces in any order, some twice, with the length between two of them. Then feed the rest."""
    cuts: list[int] = draw(
        st.lists(st.integers(0, min(image.size, 6 * MIB)), max_size=8).map(lambda at: sorted({0, *at}))
    )
    spans: list[tuple[int, int]] = [(start, end - start) for start, end in pairwise(cuts)]
    order: list[tuple[int, int]] = draw(st.permutations([*spans, *spans[:2]]))
    told = draw(st.integers(0, len(order)))
    for number, (offset, length) in enumerate(order):
        if number == told:
            run.finish(image.size)
        run.feed(offset, image.read(offset, length))
    run.finish(image.size)
    return fetch(run, image)


def crumbled(run: AnyRun, image: Image, draw: Draw) -> AnyRun:
    """Feed one part of a missing range at a time, from its end or its middle, with the bytes around it."""
    late = draw(st.booleans())
    if not late:
        run.finish(image.size)
    for number in range(400):
        missing = run.missing()
        if not missing:
            break
        offset, length = missing[number % len(missing)]
        part = max(1, length // draw(st.integers(1, 3)))
        start = max(0, offset + length - part - draw(st.integers(0, 20)))
        run.feed(start, image.read(start, min(part + 40, max(0, image.size - start))))
        if start >= image.size:
            run.finish(image.size)
    run.finish(image.size)
    return fetch(run, image)


WAYS = [streamed, scattered, crumbled]
