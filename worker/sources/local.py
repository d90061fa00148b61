"""Bytes by range from a file on this machine, or from anything that can seek."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from worker.sources.errors import UnreadableError
from worker.sources.meter import Meter
from worker.sources.source import Identity


class FileSource:
    """A seekable binary file. Counted like S3, one read one request."""

    def __init__(self, file: BinaryIO, meter: Meter, *, last_modified: datetime | None = None) -> None:
        self._file = file
        self._meter = meter
        try:
            self._identity = Identity(size=file.seek(0, os.SEEK_END), last_modified=last_modified)
        except OSError as error:
            raise UnreadableError("unreadable_file", f"cannot seek: {error.strerror}") from error

    @property
    def identity(self) -> Identity:
        """The file's size and, if it was opened by path, when it was last modified."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on; see `Source.read`."""
        self._meter.request(length)
        try:
            self._file.seek(offset)
            data = self._file.read(length)
        except OSError as error:
            raise UnreadableError("unreadable_file", f"cannot read: {error.strerror}") from error
        self._meter.received(len(data))
        return data

    def tail(self, length: int) -> bytes:
        """The last bytes of the file; see `Source.tail`."""
        return self.read(max(0, self._identity.size - length), length)


def open_local(path: Path, meter: Meter) -> FileSource:
    """Open a regular file or a block device for reading by range. The caller need not close it.

    Raises:
        UnreadableError: It is not there, not readable, or neither a file nor a block device.
    """
    if not (path.is_file() or path.is_block_device()):
        reason = "unreadable_file" if path.exists() else "not_found"
        raise UnreadableError(reason, f"{path} is no file" if path.exists() else f"{path} does not exist")
    try:
        file = path.open("rb", buffering=0)
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise UnreadableError("unreadable_file", f"cannot open {path}: {error.strerror}") from error
    return FileSource(file, meter, last_modified=modified)
