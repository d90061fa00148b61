"""One half of a polyglot: the bytes that its readers need, and the offsets of these bytes.

A part's zeros are free space: readers do not read these bytes when they detect the format. Two parts fit into
one object if their other bytes do not overlap.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from keyhole.builders import Image

#: A run of zeros that is shorter than this belongs to the structure around it.
SHORTEST_GAP = 16
GAP = re.compile(rb"\0{%d,}" % SHORTEST_GAP)


def runs(offset: int, data: bytes) -> Iterable[tuple[int, bytes]]:
    """The pieces of some bytes between long runs of zeros."""
    start = 0
    for gap in GAP.finditer(data):
        if gap.start() > start:
            yield offset + start, data[start : gap.start()]
        start = gap.end()
    if data[start:].strip(b"\0"):
        yield offset + start, data[start:]


@dataclass(frozen=True)
class Part:
    """The bytes of an object that one format needs.

    Attributes:
        name: The name in test ids.
        size: The minimum length of the object.
        front: Bytes at an offset from the front.
        end: Bytes at a negative offset, which is relative to the end.
        soft: Bytes at an offset from the front that are written unless the other part has bytes there.
        seal: Changes free fields so that checksums over the other part's bytes are right.
        moves: Whether readers also find the part after other data.
    """

    name: str
    size: int
    front: tuple[tuple[int, bytes], ...] = ()
    end: tuple[tuple[int, bytes], ...] = ()
    soft: tuple[tuple[int, bytes], ...] = ()
    seal: Callable[[Image], Image] = field(default=lambda image: image)
    moves: bool = False

    @classmethod
    def of(cls, name: str, image: Image, footer: int = 0, *, moves: bool = False) -> "Part":
        """A part made from an image. The last `footer` bytes are placed at the end of the object."""
        body = image.size - footer
        front = [run for at, data in image.truncated(body).pieces for run in runs(at, data)]
        end = [(at - footer, data) for at, data in runs(0, image.read(body, footer))]
        return cls(name, image.size, tuple(front), tuple(end), moves=moves)

    def placed(self, size: int, at: int = 0) -> list[tuple[int, bytes]]:
        """The part's bytes in an object of this length, if the part begins at an offset."""
        return [
            *((at + offset, data) for offset, data in self.front),
            *((size + offset, data) for offset, data in self.end),
        ]


def alone(part: Part) -> Image:
    """An object that consists of one part."""
    image = Image.of(part.size, part.placed(part.size))
    return part.seal(_with_soft(image, part, part.placed(part.size)))


def over(first: Part, second: Part) -> Image | None:
    """Both parts at the front, each in the other's free space. `None` if they overlap."""
    size = max(first.size, second.size)
    return _together(first, second, size, 0)


def behind(first: Part, second: Part) -> Image | None:
    """The second part after the end of the first part. `None` if that is not possible."""
    if not second.moves or first.end:
        return None
    at = -(-first.size // 512) * 512
    return _together(first, second, at + second.size, at)


def _together(first: Part, second: Part, size: int, at: int) -> Image | None:
    pieces = sorted([*first.placed(size), *second.placed(size, at)])
    if pieces[0][0] < 0 or any(
        offset + len(data) > following for (offset, data), (following, _) in pairwise(pieces)
    ):
        return None
    image = Image.of(size, pieces)
    for part in (first, second):
        image = _with_soft(image, part, pieces)
    return second.seal(first.seal(image)) if not at else first.seal(image)


def _with_soft(image: Image, part: Part, pieces: list[tuple[int, bytes]]) -> Image:
    """The image, with a part's soft bytes wherever `pieces` has no bytes."""
    for start, data in part.soft:
        taken = [
            (at, at + len(other))
            for at, other in pieces
            if at < start + len(data) and at + len(other) > start
        ]
        position = start
        for begin, end in [*sorted(taken), (start + len(data), 0)]:
            if begin > position:
                image = image.patched(position, data[position - start : begin - start])
            position = max(position, end)
    return image
