"""Views of volumes for tests: of a file, of bytes, of a part of a view, and a view that records reads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.view import View


@dataclass(frozen=True)
class FileView:
    """A whole open file."""

    descriptor: int

    @property
    def size(self) -> int | None:
        return os.fstat(self.descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)


@dataclass(frozen=True)
class BytesView:
    """The first bytes of a volume. The volume can be longer, or its length unknown."""

    known: bytes
    size: int | None

    def read(self, offset: int, length: int) -> bytes:
        return self.known[offset : offset + length]


@dataclass(frozen=True)
class PartView:
    """The parts of another view in some ranges, which are not adjacent."""

    whole: View
    parts: Sequence[ByteRange]
    size: int | None

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

    def read(self, offset: int, length: int) -> bytes:
        self.noted.append(ByteRange(offset, length))
        return self.whole.read(offset, length)
