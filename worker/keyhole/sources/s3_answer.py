"""The request and the response of one ranged GET, in the form that both S3 clients use."""

from dataclasses import dataclass

from keyhole.sources.errors import ObjectChangedError
from keyhole.sources.source import Identity


@dataclass(frozen=True, slots=True)
class Span:
    """The byte range of a GET: the `length` bytes from `offset` on."""

    offset: int
    length: int

    @property
    def header(self) -> str:
        """Return the value of the HTTP header `Range` for this span."""
        return f"bytes={self.offset}-{self.offset + self.length - 1}"

    def placed(self, size: int) -> tuple[int, int]:
        """Return the offset and the length of the span's bytes in an object of `size` bytes."""
        offset = min(self.offset, size)
        return offset, min(self.length, size - offset)


@dataclass(frozen=True, slots=True)
class Pin:
    """The object that all GETs of a source must read (the pinned object).

    Args:
        version_id: The object's version; `None` until it is known.
        etag: The object's ETag; `None` until it is known. Once it is known, all responses must have this
            ETag.
        size: The object's size in bytes; `None` until it is known.
        states_etag: Whether requests state the ETag in `If-Match`. Not all servers support this header.
        heeds_ranges: Whether an earlier response had only the requested range. If so, a response with the
            whole object is a failure of the server.
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
        """Return the value of `If-Match`; `None` for no header.

        A weak ETag is not stated, because it never matches (RFC 9110, 8.8.3.2).
        """
        stated = self.etag if self.states_etag else None
        return None if stated is None or stated.startswith("W/") else stated

    def check(self, identity: Identity) -> None:
        """Compare the object of a response with the pinned object.

        Raises:
            ObjectChangedError: The response is from another object.
        """
        if self.size is not None and (self.size, self.etag) != (identity.size, identity.etag):
            raise ObjectChangedError


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a span, their offset, and the identity of the object.

    `took_if_match` is false if the server does not support `If-Match`. `heeds_range` is true if the server
    sent only the span and not the whole object.
    """

    offset: int
    data: bytes
    identity: Identity
    took_if_match: bool = True
    heeds_range: bool = False
