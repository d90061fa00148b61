"""Views of volumes for tests: of a file, bytes, an image, or a part of a view, and one that records reads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from keyhole.builders import Image
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.view import View
from keyhole.inspectors.volumes.volumes import FRONT


@dataclass(frozen=True)
class FileView:
    """A whole open file."""

    descriptor: int

    @property
    def size(self) -> int | None:
        return os.fstat(self.descriptor).st_size

    @property
    def front(self) -> bytes:
        return self.read(0, FRONT)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)


@dataclass(frozen=True)
class BytesView:
    """The first bytes of a volume. The volume can be longer, or its length unknown."""

    known: bytes
    size: int | None

    @property
    def front(self) -> bytes:
        return self.known

    def read(self, offset: int, length: int) -> bytes:
        return self.known[offset : offset + length]


@dataclass(frozen=True)
class ImageView:
    """A whole image."""

    image: Image

    @property
    def size(self) -> int | None:
        return self.image.size

    @property
    def front(self) -> bytes:
        return self.read(0, FRONT)

    def read(self, offset: int, length: int) -> bytes:
        return self.image.read(offset, length)


@dataclass(frozen=True)
class PartView:
    """The parts of another view in some ranges, which are not adjacent."""

    whole: View
    parts: Sequence[ByteRange]
    size: int | None

    @property
    def front(self) -> bytes:
        return self.read(0, FRONT)

    def read(self, offset: int, length: int) -> bytes:
        for part in self.parts:
            if part.offset <= offset < part.end:
                return self.whole.read(offset, min(length, part.end - offset))
        return b""


@dataclass(frozen=True)
class ChangedView:
    """Another view with one byte changed."""

    whole: View
    at: int
    byte: int

    @property
    def size(self) -> int | None:
        return self.whole.size

    @property
    def front(self) -> bytes:
        return self.read(0, len(self.whole.front))

    def read(self, offset: int, length: int) -> bytes:
        data, within = self.whole.read(offset, length), self.at - offset
        if not 0 <= within < len(data):
            return data
        return data[:within] + bytes([self.byte]) + data[within + 1 :]


@dataclass(frozen=True)
class NotingView:
    """Another view, with a record of the reads."""

    whole: View
    noted: list[ByteRange] = field(default_factory=list)

    @property
    def size(self) -> int | None:
        return self.whole.size

    @property
    def front(self) -> bytes:
        """No bytes, so that every byte is read, and recorded."""
        return b""

    def read(self, offset: int, length: int) -> bytes:
        self.noted.append(ByteRange(offset, length))
        return self.whole.read(offset, length)
