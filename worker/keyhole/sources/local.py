"""Reads ranges of a file on this machine, or of another seekable stream."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISBLK, S_ISREG
from typing import BinaryIO
from weakref import finalize

from keyhole.inspectors.region import ByteRange
from keyhole.reasons import Reason
from keyhole.sources.errors import ObjectChangedError, UnreadableError
from keyhole.sources.meter import Meter
from keyhole.sources.source import Identity


class FileSource:
    """A source that reads a seekable binary file. Each read counts as one request, as with S3."""

    def __init__(self, file: BinaryIO, meter: Meter, *, last_modified: datetime | None = None) -> None:
        self._file = file
        self._meter = meter
        try:
            self._identity = Identity(size=file.seek(0, os.SEEK_END), last_modified=last_modified)
        except OSError as error:
            raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot seek: {error.strerror}") from error

    @property
    def identity(self) -> Identity:
        """Return the file's size and, if the file was opened by path, the time of the last modification."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on; see `Source.read`."""
        self._meter.request(length)
        wanted = max(0, min(length, self._identity.size - offset))
        try:
            self._file.seek(offset)
            data = self._file.read(wanted)
            while len(data) < wanted and (piece := self._file.read(wanted - len(data))):
                data += piece
        except OSError as error:
            raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot read: {error.strerror}") from error
        self._meter.received(len(data))
        if len(data) < wanted:
            raise ObjectChangedError("the file became shorter while it was read")
        return data

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Yield the bytes of each range, one after the other."""
        for part in parts:
            yield self.read(part.offset, part.length)

    def tail(self, length: int) -> bytes:
        """Return the last bytes of the file; see `Source.tail`."""
        return self.read(max(0, self._identity.size - length), length)


def open_local(path: Path, meter: Meter) -> FileSource:
    """Open a regular file or a block device. The file is closed when the source is garbage collected.

    Raises:
        UnreadableError: The path is missing, not readable, or neither a regular file nor a block device.
    """
    try:
        known = path.stat()
        if not (S_ISREG(known.st_mode) or S_ISBLK(known.st_mode)):
            raise UnreadableError(Reason.UNREADABLE_FILE, f"{path} is not a file")
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # ValueError means that the path contains a NUL, which no file name can contain.
        raise UnreadableError(Reason.NOT_FOUND, f"{path} does not exist") from error
    except OSError as error:
        raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot open {path}: {error.strerror}") from error
    source = FileSource(file, meter, last_modified=datetime.fromtimestamp(known.st_mtime, UTC))
    finalize(source, file.close)
    return source
