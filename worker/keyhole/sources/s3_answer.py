"""One ranged GET: what is asked and what is answered, whoever asks it."""

from dataclasses import dataclass

from keyhole.sources.errors import ObjectChangedError
from keyhole.sources.source import Identity


@dataclass(frozen=True, slots=True)
class Span:
    """A byte range of a GET: `length` bytes from `offset` on, or where that is `None` the last `length`."""

    offset: int | None
    length: int

    @property
    def header(self) -> str:
        """The span as the value of HTTP's `Range`."""
        if self.offset is None:
            return f"bytes=-{self.length}"
        return f"bytes={self.offset}-{self.offset + self.length - 1}"

    def placed(self, size: int) -> tuple[int, int]:
        """First byte and length of what an object of `size` bytes has of the span."""
        offset = max(0, size - self.length) if self.offset is None else min(self.offset, size)
        return offset, min(self.length, size - offset)


@dataclass(frozen=True, slots=True)
class Pin:
    """The one object that all GETs are of.

    Args:
        version_id: Its version, once known or if it was asked for.
        etag: Its ETag, once known. Every answer must have it.
        size: Its size in bytes, once known.
        states_etag: Whether requests state the ETag as `If-Match`. Not all servers know that.
        heeds_ranges: Whether the server has answered with a range before, so that it is a fault of the server
            if it sends the whole object.
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
        """The value of `If-Match`. A weak ETag never matches there (RFC 9110, 8.8.3.2), so it has none."""
        stated = self.etag if self.states_etag else None
        return None if stated is None or stated.startswith("W/") else stated

    def check(self, identity: Identity) -> None:
        """Compare an answer's object with the pinned one.

        Raises:
            ObjectChangedError: It is another.
        """
        if self.size is not None and (self.size, self.etag) != (identity.size, identity.etag):
            raise ObjectChangedError


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a span, where they begin, and the object that they are of.

    `took_if_match` is false where the server refused `If-Match` itself, whatever its value. `heeds_range` is
    true where the server sent the span alone, and not the whole object.
    """

    offset: int
    data: bytes
    identity: Identity
    took_if_match: bool = True
    heeds_range: bool = False
