"""The interface of a source of bytes, and the identity of the object that it reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """The object that was read. `size` is in bytes; the ETag is as the server writes it, quotes included."""

    size: int
    etag: str | None = None
    version_id: str | None = None
    last_modified: datetime | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


class Source(Protocol):
    """Bytes of one object by range. `identity` is known after the first read, and does not change.

    Reads raise only `SourceError`.
    """

    @property
    def identity(self) -> Identity | None:
        """Return the object's identity; `None` before the first read."""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from the absolute `offset` on; fewer only if the object ends."""

    def tail(self, length: int) -> bytes:
        """Return the last bytes of the object: `length` of them, or all if it is shorter."""
