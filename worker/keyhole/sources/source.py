"""What a source of bytes promises, and what it knows of the object that it reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object was read. `size` in bytes; the ETag as the server writes it, quotes included."""

    size: int
    etag: str | None = None
    version_id: str | None = None
    last_modified: datetime | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


class Source(Protocol):
    """Bytes of one object by range. After the first read `identity` is known and stays the same.

    Every read raises `SourceError` and nothing else.
    """

    @property
    def identity(self) -> Identity | None:
        """Which object it is; `None` before the first read."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from the absolute `offset` on; fewer than `length` only where the object ends."""

    def tail(self, length: int) -> bytes:
        """The last bytes of the object: `length` of them, or all if it is shorter."""
