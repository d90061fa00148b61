"""The interface of a source of bytes, and the identity of the object that it reads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyhole.inspectors.region import ByteRange


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of an object. `size` is in bytes. `etag` is the server's text, with its quotes."""

    size: int
    etag: str | None = None
    version_id: str | None = None
    last_modified: datetime | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


class Source(Protocol):
    """Reads ranges of one object.

    `identity` is known after the first read and does not change. `read` raises only `SourceError`.
    """

    @property
    def identity(self) -> Identity | None:
        """Return the object's identity; `None` before the first read."""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from the absolute `offset` on; fewer only if the object ends earlier."""

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Yield the bytes of each range, in order; several ranges may be fetched at once."""
