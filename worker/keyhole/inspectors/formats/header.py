"""The base class of inspectors for formats whose header begins at the object's first byte."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.region import CaptureRegion


class HeaderInspector(FileInspector):
    """The base class of inspectors for formats whose header begins at the object's first byte.

    Each subclass states the length of the header, which is the region `header`, and the format's signatures.
    """

    #: The length of the region `header` in bytes.
    HEADER_LENGTH: ClassVar[int]
    #: Every object of this format begins with one of these.
    SIGNATURES: ClassVar[tuple[bytes, ...]] = ()

    #: The byte order of the header's integers.
    BYTE_ORDER: ClassVar[Literal["little", "big"]] = "little"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, self.HEADER_LENGTH))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether an object that begins with `prefix` has one of the format's signatures."""
        return prefix.startswith(cls.SIGNATURES)

    @property
    def format_match(self) -> bool:
        """Whether the object begins with the format's signature."""
        return self.matches_prefix(self.region("header").data)

    def _needs(self, end: int) -> Iterator[Finding]:
        """Yield a finding if the object's length is known and is less than `end` bytes."""
        if self._size is not None and end > self._size:
            yield found("truncated", f"the image needs {end} bytes, the object has {self._size}")

    def _u16(self, at: int) -> int:
        """Return the unsigned 16-bit integer at offset `at` of the header."""
        return int.from_bytes(self.region("header").data[at : at + 2], self.BYTE_ORDER)

    def _u32(self, at: int) -> int:
        """Return the unsigned 32-bit integer at offset `at` of the header."""
        return int.from_bytes(self.region("header").data[at : at + 4], self.BYTE_ORDER)

    def _u64(self, at: int) -> int:
        """Return the unsigned 64-bit integer at offset `at` of the header."""
        return int.from_bytes(self.region("header").data[at : at + 8], self.BYTE_ORDER)
