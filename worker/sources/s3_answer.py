"""One ranged GET: what is asked and what is answered, whoever asks it."""

from dataclasses import dataclass

from worker.sources.source import Identity


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
    """What every GET of one object states, so that no other can answer: ETag and version, once known."""

    bucket: str
    key: str
    version_id: str | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a span, where they begin, and the object that they are of."""

    offset: int
    data: bytes
    identity: Identity
