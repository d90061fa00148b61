"""Apple's disk images, UDIF (".dmg"). All fields are big-endian.

Sources: libyal, libmodi, "Mac OS disk image types", section "UDIF resource file". The search for the trailer
follows QEMU, block/dmg.c, dmg_find_koly_offset.

The file begins with data and ends with a trailer of 512 bytes. Up to 511 bytes of padding may follow the
trailer.

| offset | bytes | field of the trailer |
|---|---|---|
| 0 | 4 | signature `koly` |
| 4 | 4 | version, 4 |
| 8 | 4 | size of the trailer, 512 |
| 24 | 8 + 8 | offset and length of the data fork |
| 40 | 8 + 8 | offset and length of the resource fork; zero if there is a property list |
| 56 | 4 + 4 | number of this segment, number of segments |
| 64 | 16 | UUID that all segments share |
| 216 | 8 + 8 | offset and length of the XML property list that maps the disk's blocks |
| 492 | 8 | virtual size in sectors of 512 bytes |

A writable image (UDRW) has no trailer: it is a raw disk. The trailer of an encrypted image is encrypted, too,
so Keyhole does not recognise encrypted images.

The property list contains tables that map the disk's sectors; see the module `dmg_map`. The tables must map
as many sectors as the trailer states, and must point only to data in the data fork. Old images have a
resource fork instead of the property list. Keyhole does not read the resource fork.

Wholeness: the trailer is written last and states where each part of the file ends. All parts must be before
the trailer, the property list must be at the offset that the trailer states, and the data of all chunks must
be in the data fork.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats import dmg_map
from keyhole.inspectors.formats.dmg_map import COMPRESSED, MAX_PLIST_BYTES, RAW, BlockMap
from keyhole.inspectors.readers import DMG_SEARCHED_BYTES, DMG_TRAILER_BYTES
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.remembered import Remembered

SIGNATURE = b"koly"
VERSION = 4
#: The first bytes of a trailer: signature, version and size. If the trailer is cut off, Keyhole recognises it
#: only if all of these bytes are present, because the four letters of the signature can occur by chance.
TRAILER_START = SIGNATURE + VERSION.to_bytes(4, "big") + DMG_TRAILER_BYTES.to_bytes(4, "big")
#: QEMU stores a disk's size in bytes as a signed 64-bit integer.
MAX_SECTORS = (2**63 - 1) // SECTOR

#: The positions of the fields in the trailer that state the offsets of the file's parts.
DATA_FORK, RESOURCE_FORK, PLIST = 24, 40, 216
PLIST_STARTS = (b"<?xml", b"<!DOC", b"<plis")


class Trailer(NamedTuple):
    """The trailer and its offset in the object.

    If the trailer is cut off, `data` contains only the beginning of the trailer.
    """

    offset: int
    data: bytes

    def number(self, at: int, length: int = 8) -> int:
        """Return the big-endian number at an offset within the trailer."""
        return int.from_bytes(self.data[at : at + length], "big")

    def part(self, at: int) -> ByteRange:
        """Return the range of a part of the file. The trailer states the part's offset and length at `at`."""
        return ByteRange(self.number(at), self.number(at + 8))


class DMGInspector(FileInspector):
    """Apple UDIF: reads the trailer within the last 1023 bytes, and the property list."""

    NAME = "dmg"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._map: BlockMap | None = None
        self.new_region("tail", TailRegion(DMG_SEARCHED_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - the base class has this parameter
        """Return false, because the first bytes do not show that an object is a DMG."""
        return False

    @property
    def format_match(self) -> bool:
        """Whether the last 1023 bytes contain a trailer."""
        return self._trailer is not None

    @property
    def mark(self) -> str:
        """The trailer."""
        return f"trailer at byte {self._trailer.offset}" if self._trailer is not None else "trailer"

    @property
    def is_cut(self) -> bool:
        """Whether the object ends within the trailer."""
        return self._trailer is not None and len(self._trailer.data) < DMG_TRAILER_BYTES

    @property
    def stands(self) -> bool:
        """Whether the trailer is whole, and points to a resource fork or to a map with block tables."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return False
        return bool(trailer.part(RESOURCE_FORK).length) or (self._map is not None and self._map.tables > 0)

    @property
    def is_bare(self) -> bool:
        """Whether the object begins with the disk's first bytes, uncompressed."""
        first = self._map.first if self._map is not None else None
        return first is not None and (first.kind, first.sector, first.data.offset) == (RAW, 0, 0)

    @property
    def begins_compressed(self) -> str | None:
        """The compression of the object's first bytes, if these bytes are the first data of the disk."""
        first = self._map.first if self._map is not None else None
        return COMPRESSED.get(first.kind) if first is not None and first.data.offset == 0 else None

    def explains(self, other: FileInspector) -> bool:
        """Return whether `other` recognises the content of the disk, or the disk's first compressed data.

        If the trailer is cut off or does not point to a map, it is unknown whether the object begins with the
        disk's first bytes. In this case, the result is true for every partition table and every volume.
        """
        if other.LAYER in {Layer.DISK, Layer.DISC}:
            return self.is_bare or not self.stands
        return other.LAYER is Layer.COMPRESSED and self.stands and self.begins_compressed == str(other)

    def is_remnant_in(self, other: FileInspector) -> bool:
        """Return whether the trailer belongs to data that `other` stores without compression.

        Keyhole assumes this if the trailer is cut off, or if `other` is a container and the trailer does not
        point to a map.
        """
        return not self.stands and (other.IS_CONTAINER or self.is_cut)

    def defers(self, other: FileInspector) -> bool:
        """Return whether the compressed stream that `other` recognises may be the disk's first data.

        Until the map has been read, the result is true for every compressed stream.
        """
        return other.LAYER is Layer.COMPRESSED and (not self.complete or self.explains(other))

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes; zero if it is too large, or if the trailer is cut off."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return 0
        sectors = trailer.number(492)
        return sectors * SECTOR if sectors <= MAX_SECTORS else 0

    def post_process(self) -> None:
        """Declare a region for the property list once the trailer is read, then parse the property list."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return
        plist = trailer.part(PLIST)
        if plist.length and plist.end <= trailer.offset and not self.has_region("plist"):
            self.new_region("plist", CaptureRegion(plist.offset, min(plist.length, MAX_PLIST_BYTES)))
        if self._map is None and self.filled("plist") and plist.length <= MAX_PLIST_BYTES:
            text = self.captured("plist")
            if text.startswith(PLIST_STARTS):
                self._map = dmg_map.parse(text, trailer.part(DATA_FORK).offset)

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if no part ends after the trailer's beginning, and the property list was parsed."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return Wholeness.UNCHECKED
        whole = self._map is not None and not any(self._parts(trailer))
        return Wholeness.PROVEN if whole else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """The segments, the lengths of data fork and property list, and facts from the block map."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return {}
        facts = {
            "segment": trailer.number(56, 4),
            "segments": trailer.number(60, 4),
            "segment_id": str(UUID(bytes=trailer.data[64:80])),
            "data_fork_bytes": trailer.number(32),
            "property_list_bytes": trailer.number(224),
        }
        if self._map is not None:
            kinds = {chunk.kind for chunk in self._map.chunks}
            facts["block_tables"] = self._map.tables
            facts["chunks"] = len(self._map.chunks)
            facts["compression"] = sorted(COMPRESSED[kind] for kind in kinds if kind in COMPRESSED)
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on the trailer, on the parts of the file that it names, and on the block map."""
        trailer = self._trailer
        if trailer is None:
            return []
        if len(trailer.data) < DMG_TRAILER_BYTES:
            return [found("truncated", "the object ends within the DMG trailer")]
        return [*self._states(trailer), *self._parts(trailer), *self._mapped(trailer)]

    def _states(self, trailer: Trailer) -> Iterator[Finding]:
        if trailer.number(4, 4) != VERSION:
            yield found("unknown_features", f"DMG version {trailer.number(4, 4)} is unknown")
        if trailer.number(60, 4) > 1:
            yield found(
                "data_file",
                f"this is segment {trailer.number(56, 4)} of {trailer.number(60, 4)}; "
                "the other segments are separate files",
            )
        if trailer.number(8, 4) != DMG_TRAILER_BYTES:
            yield found("structure", f"the DMG trailer states a size of {trailer.number(8, 4)} bytes")
        if not 0 < trailer.number(492) <= MAX_SECTORS:
            yield found("structure", f"the trailer states an impossible size: {trailer.number(492)} sectors")
        last = self.captured("tail")[-DMG_TRAILER_BYTES:]
        if last.startswith(SIGNATURE) and trailer.offset != self.actual_size - DMG_TRAILER_BYTES:
            yield found("structure", "there are two DMG trailers, and readers differ in which one they use")

    def _parts(self, trailer: Trailer) -> Iterator[Finding]:
        """Yield findings on the parts of the file that the trailer names."""
        parts = {
            "data fork": trailer.part(DATA_FORK),
            "resource fork": trailer.part(RESOURCE_FORK),
            "property list": trailer.part(PLIST),
        }
        for name, part in parts.items():
            if part.length and part.end > trailer.offset:
                yield found(
                    "truncated",
                    f"the {name} ends at byte {part.end}, after the trailer's offset {trailer.offset}",
                )
        if not parts["property list"].length and not parts["resource fork"].length:
            yield found("structure", "the trailer names neither a property list nor a resource fork")
        if self.filled("plist") and not self.captured("plist").startswith(PLIST_STARTS):
            yield found("structure", "there is no property list at the offset that the trailer states")

    def _mapped(self, trailer: Trailer) -> Iterator[Finding]:
        """Yield findings on the block map, and on maps that Keyhole does not read."""
        if trailer.part(RESOURCE_FORK).length:
            yield found(
                "unsupported_subformat",
                "some readers use the map of the disk in the resource fork, which Keyhole does not read",
            )
        if trailer.part(PLIST).length > MAX_PLIST_BYTES:
            yield found(
                "unsupported_subformat",
                f"Keyhole does not read property lists of more than {MAX_PLIST_BYTES} bytes",
            )
        if self._map is not None:
            yield from self._map.checks(trailer.number(492), trailer.part(DATA_FORK))

    # The trailer

    @Remembered
    def _trailer(self) -> Trailer | None:
        """The first complete trailer in the tail, as in QEMU. If there is none, a trailer that is cut off."""
        tail = self.captured("tail")
        at = tail.find(SIGNATURE, 0, max(0, len(tail) - DMG_TRAILER_BYTES) + len(SIGNATURE))
        if at < 0 or len(tail) < DMG_TRAILER_BYTES:
            at = tail.find(TRAILER_START)
        if at < 0:
            return None
        return Trailer(self.actual_size - len(tail) + at, tail[at : at + DMG_TRAILER_BYTES])
