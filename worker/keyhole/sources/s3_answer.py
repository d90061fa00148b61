"""The request and the answer of one ranged GET, for both S3 clients."""

from dataclasses import dataclass

from keyhole.sources.errors import ObjectChangedError
from keyhole.sources.source import Identity


@dataclass(frozen=True, slots=True)
class Span:
    """A byte range of a GET: `length` bytes from `offset` on; the last `length` if `offset` is `None`."""

    offset: int | None
    length: int

    @property
    def header(self) -> str:
        """Return the span as the value of HTTP's `Range`."""
        if self.offset is None:
            return f"bytes=-{self.length}"
        return f"bytes={self.offset}-{self.offset + self.length - 1}"

    def placed(self, size: int) -> tuple[int, int]:
        """Return the offset and the length of the span's bytes in an object of `size` bytes."""
        offset = max(0, size - self.length) if self.offset is None else min(self.offset, size)
        return offset, min(self.length, size - offset)


@dataclass(frozen=True, slots=True)
class Pin:
    """The one object that all GETs must read.

    Args:
        version_id: Its version, if it was asked for or is known.
        etag: Its ETag, once known. Every answer must have it.
        size: Its size in bytes, once known.
        states_etag: Whether requests state the ETag as `If-Match`. Not all servers know that.
        heeds_ranges: Whether the server has answered with a range before. Then sending the whole object is a
            failure of the server.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    states_etag: bool = True
    heeds_ranges: bool = False

    @property
    def if_match(self) -> str | None:
        """Return the value of `If-Match`; `None` for a weak ETag, which never matches (RFC 9110, 8.8.3.2)."""
        stated = self.etag if self.states_etag else None
        return None if stated is None or stated.startswith("W/") else stated

    def check(self, identity: Identity) -> None:
        """Compare an answer's object with the pinned one.

        Raises:
            ObjectChangedError: It is another object.
        """
        if self.size is not None and (self.size, self.etag) != (identity.size, identity.etag):
            raise ObjectChangedError


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a span, their offset, and the object that they belong to.

    `took_if_match` is false if the server refused any `If-Match`. `heeds_range` is true if the server sent
    only the span, and not the whole object.
    """

    offset: int
    data: bytes
    identity: Identity
    took_if_match: bool = True
    heeds_range: bool = False
