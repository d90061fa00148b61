"""The redolog image of the emulator Bochs. All fields are little-endian.

Source: QEMU, block/bochs.c, struct bochs_header, bochs_open, seek_to_sector.

| offset | bytes | field |
|---|---|---|
| 0 | 32 | magic `Bochs Virtual HD Image` and zeros |
| 32 | 16 | type `Redolog` and zeros |
| 48 | 16 | subtype `Growing`, `Undoable` or `Volatile` and zeros |
| 64 | 4 | version 0x00010000 or 0x00020000 |
| 68 | 4 | header size in bytes, which is also the offset of the catalog |
| 72 | 4 | number of entries in the catalog |
| 76 | 4 | size of an extent's bitmap in bytes |
| 80 | 4 | size of an extent in bytes, a power of 2 from 512 bytes to 8 MiB |
| 84 or 88 | 8 | virtual size in bytes: at 84 in version 1, at 88 in version 2 |

The disk is divided into extents. The catalog has an entry of 4 bytes for each extent of the disk: the
extent's number among the stored extents, or 0xFFFFFFFF if the extent is not stored. The stored extents follow
the catalog. A bitmap precedes each stored extent. Bitmap and extent each occupy a whole number of sectors.

Wholeness: the object must contain the highest extent that the catalog points to. If the catalog is longer
than `MAX_CATALOG_BYTES`, only its beginning and its end are read.
"""

from collections.abc import Iterator, Mapping

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

MAGIC = b"Bochs Virtual HD Image".ljust(32, b"\0")
#: The part of the magic that Keyhole compares: the text and its terminating zero.
MAGIC_TEXT = MAGIC.rstrip(b"\0") + b"\0"
HEADER_BYTES = 512

#: At most this many bytes are read from the beginning of the catalog: 24,576 entries.
MAX_CATALOG_BYTES = 96 * 1024
#: If the catalog is longer than `MAX_CATALOG_BYTES`, at most this many bytes are read from its end.
#: `MAX_CATALOG_BYTES` and `MAX_CATALOG_END_BYTES` together are as long as the catalog that Bochs' tool
#: bximage writes for a disk of 8 GiB.
MAX_CATALOG_END_BYTES = 32 * 1024
#: QEMU's limits (bochs_open). A disk of this many extents has 8 TiB if an extent has 8 MiB.
MAX_CATALOG_ENTRIES = 0x100000
EXTENT_SIZES = frozenset(1 << bits for bits in range(9, 24))

REDOLOG = b"Redolog"
GROWING = b"Growing"
#: Subtypes of files that contain only the differences from a base image.
DIFFERENCES = frozenset({b"Undoable", b"Volatile"})
VERSION_NAMES = {0x00010000: "1.0", 0x00020000: "2.0"}
NOT_ALLOCATED = 0xFFFFFFFF


class BochsInspector(HeaderInspector):
    """Bochs redolog: the header states the virtual size, and the catalog shows whether the image is whole."""

    NAME = "bochs"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC_TEXT,)

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        #: The highest extent number in the catalog plus one; `None` until the catalog has been read.
        self._extents: int | None = None
        #: Whether two entries of the catalog point to the same extent.
        self._doubled = False

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes, rounded down to whole sectors; zero until the header is read."""
        known = self.format_match and len(self.region("header").data) >= 96
        return self._disk_bytes // SECTOR * SECTOR if known else 0

    @property
    def subformat(self) -> str | None:
        """`growing`, `undoable` or `volatile`."""
        known = self.format_match and self._text(48) in {GROWING, *DIFFERENCES}
        return self._text(48).decode("ascii").lower() if known else None

    def post_process(self) -> None:
        """Declare regions for the catalog's beginning and end, and parse both once they are captured."""
        if not self._usable:
            return
        if not self.has_region("catalog"):
            length = 4 * self._u32(72)
            end_length = min(max(0, length - MAX_CATALOG_BYTES), MAX_CATALOG_END_BYTES)
            self.new_region("catalog", CaptureRegion(self._u32(68), min(length, MAX_CATALOG_BYTES)))
            self.new_region("catalog_end", CaptureRegion(self._data_offset - end_length, end_length))
        if self._extents is None and self.filled("catalog") and self.filled("catalog_end"):
            self._read_catalog()

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the whole catalog was read, `SAMPLED` if only a part of it was read.

        It is `UNCHECKED` if an extent is beyond the end of the object.
        """
        if self._size is None or self._extents is None or self._end > self._size:
            return Wholeness.UNCHECKED
        seen = 4 * self._u32(72) <= MAX_CATALOG_BYTES + MAX_CATALOG_END_BYTES
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """The type, the subtype, the version, the extent size and the number of catalog entries."""
        if not self.format_match or len(self.captured("header")) < HEADER_BYTES:
            return {}
        return {
            "type": printable(self._text(32)),
            "subtype": printable(self._text(48)),
            "version": VERSION_NAMES.get(self._u32(64), f"{self._u32(64):#010x}"),
            "extent_size": self._u32(80),
            "extents": self._u32(72),
        }

    def checks(self) -> list[Finding]:
        """Return findings on the header, and on contradictions between header and catalog."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the Bochs header")]
        unknown = list(self._unknowns())
        if unknown:
            return unknown
        if not self._usable:
            return [found("structure", "the size of the header, catalog, bitmap or extents is out of bounds")]
        return [*self._states(), *self._contradictions(), *self._needs(self._end)]

    def _unknowns(self) -> Iterator[Finding]:
        kind, subtype = self._text(32), self._text(48)
        if kind != REDOLOG or subtype not in {GROWING, *DIFFERENCES}:
            names = f"{printable(kind)} {printable(subtype)}"
            yield found("unknown_features", f"the Bochs image type {names!r} is unknown")
        if self._u32(64) not in VERSION_NAMES:
            yield found("unknown_features", f"Bochs image version {self._u32(64):#010x} is unknown")

    def _states(self) -> Iterator[Finding]:
        if self._text(48) in DIFFERENCES:
            yield found(
                "parent_image", f"this {self.subformat} redolog stores only the differences from a base image"
            )

    def _contradictions(self) -> Iterator[Finding]:
        if self._disk_bytes % SECTOR:
            yield found("structure", f"the virtual size of {self._disk_bytes} bytes is not a multiple of 512")
        if self._u32(72) * self._u32(80) < self.virtual_size:
            yield found("structure", f"the virtual size needs more than {self._u32(72)} extents")
        if self._u32(76) * 8 * SECTOR < self._u32(80):
            yield found("structure", "an extent's bitmap is too short for its sectors")
        if self._extents is not None and self._extents > self._u32(72):
            numbers = f"extent number {self._extents - 1}, but there are {self._u32(72)} extents"
            yield found("structure", f"the catalog points to {numbers}")
        if self._doubled:
            yield found("metadata_overlap", "two entries of the catalog point to the same extent")

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header has been read and its sizes are within QEMU's limits.

        If not, Keyhole does not use the header's offsets.
        """
        return (
            self.format_match
            and len(self.captured("header")) == HEADER_BYTES
            and not list(self._unknowns())
            and self._u32(68) >= HEADER_BYTES
            and self._u32(72) <= MAX_CATALOG_ENTRIES
            # QEMU stores the offset of the extents in 32 bits.
            and self._data_offset < 1 << 32
            and self._u32(76) > 0
            and self._u32(80) in EXTENT_SIZES
        )

    @property
    def _disk_bytes(self) -> int:
        at = 84 if VERSION_NAMES.get(self._u32(64)) == "1.0" else 88
        return int.from_bytes(self.region("header").data[at : at + 8], "little")

    @property
    def _data_offset(self) -> int:
        return self._u32(68) + 4 * self._u32(72)

    def _text(self, offset: int) -> bytes:
        """Return the zero-terminated text of at most 16 bytes at an offset in the header."""
        return self.region("header").data[offset : offset + 16].split(b"\0", 1)[0]

    # The catalog

    def _read_catalog(self) -> None:
        """Parse the entries in the captured parts of the catalog."""
        entries = little_endian("I", self.captured("catalog") + self.captured("catalog_end"))
        different = set(entries) - {NOT_ALLOCATED}
        self._extents = max(different, default=-1) + 1
        self._doubled = len(different) < len(entries) - entries.count(NOT_ALLOCATED)

    @property
    def _end(self) -> int:
        """The minimum length of the object in bytes, according to the header and the catalog."""
        sectors = -(-self._u32(76) // SECTOR) + -(-self._u32(80) // SECTOR)
        return self._data_offset + (self._extents or 0) * sectors * SECTOR
