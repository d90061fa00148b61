"""Apple's disk images, UDIF (".dmg"). All fields are big-endian.

Sources: libyal, libmodi, "Mac OS disk image types", section "UDIF resource file". The search for the trailer
follows QEMU, block/dmg.c, dmg_find_koly_offset.

The file begins with data. It is an image if it ends with a trailer of 512 bytes; up to 511 bytes of padding
may follow the trailer.

| offset | bytes | field of the trailer |
|---|---|---|
| 0 | 4 | signature `koly` |
| 4 | 4 | version, 4 |
| 8 | 4 | size of the trailer, 512 |
| 24 | 8 | offset of the data fork; its length is at 32 |
| 40 | 8 | offset of the resource fork, its length is at 48; zero if there is a property list |
| 56 | 4 | number of this segment; the number of segments is at 60 |
| 64 | 16 | UUID that all segments share |
| 216 | 8 | offset of the XML property list that maps the disk's blocks; its length is at 224 |
| 492 | 8 | virtual size in sectors of 512 bytes |

A writable image (UDRW) has no trailer: it is a raw disk. The trailer of an encrypted image cannot be seen, so
such an image is not recognised.

The property list maps the disk's sectors (`dmg_map`). Its tables must map as many sectors as the trailer
states, and must point only into the data fork. Old images have a resource fork instead of the property list;
it is not read.

Wholeness: the trailer is written last and states where each part ends. All parts must lie before the trailer,
the property list must be where the trailer says, and the data of all chunks must lie in the data fork.
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

SIGNATURE = b"koly"
VERSION = 4
#: The first bytes of a whole trailer: signature, version, size. A trailer that is cut off is only recognised
#: by all of these, because the four letters of the signature are not enough.
TRAILER_START = SIGNATURE + VERSION.to_bytes(4, "big") + DMG_TRAILER_BYTES.to_bytes(4, "big")
#: QEMU keeps a disk's size in a signed 64-bit number of bytes.
MAX_SECTORS = (2**63 - 1) // SECTOR

#: The trailer's fields that hold the offsets of the parts.
DATA_FORK, RESOURCE_FORK, PLIST = 24, 40, 216
PLIST_STARTS = (b"<?xml", b"<!DOC", b"<plis")


class Trailer(NamedTuple):
    """The trailer, or the beginning of one that is cut off, and its offset in the object."""

    offset: int
    data: bytes

    def number(self, at: int, length: int = 8) -> int:
        """The big-endian number at an offset within the trailer."""
        return int.from_bytes(self.data[at : at + length], "big")

    def part(self, at: int) -> ByteRange:
        """The part of the file whose offset is at `at` in the trailer; its length follows."""
        return ByteRange(self.number(at), self.number(at + 8))


class DMGInspector(FileInspector):
    """Apple UDIF: a trailer within the last 1023 bytes, and the property list that it points to."""

    NAME = "dmg"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._map: BlockMap | None = None
        self.new_region("tail", TailRegion(DMG_SEARCHED_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - the same for all formats
        """Always false: a DMG is not recognised by its first bytes."""
        return False

    @property
    def format_match(self) -> bool:
        """Whether there is a trailer in the last 1023 bytes."""
        return self._trailer is not None

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
        """Whether the object's first bytes are those of the disk, stored as they are."""
        first = self._map.first if self._map is not None else None
        return first is not None and (first.kind, first.sector, first.data.offset) == (RAW, 0, 0)

    @property
    def begins_compressed(self) -> str | None:
        """The compression of the object's first bytes, if they are the first data of the disk."""
        first = self._map.first if self._map is not None else None
        return COMPRESSED.get(first.kind) if first is not None and first.data.offset == 0 else None

    def explains(self, other: FileInspector) -> bool:
        """Whether `other` recognises the content of the disk, or the disk's first compressed data.

        If the trailer points nowhere, it is unknown whether the object's first bytes are the disk's.
        """
        if other.LAYER in {Layer.DISK, Layer.DISC}:
            return self.is_bare or not self.stands
        return other.LAYER is Layer.COMPRESSED and self.stands and self.begins_compressed == str(other)

    def is_remnant_in(self, other: FileInspector) -> bool:
        """Whether the trailer is cut off or points nowhere because `other` stored it without compression."""
        return not self.stands and (other.IS_CONTAINER or self.is_cut)

    def defers(self, other: FileInspector) -> bool:
        """Whether the stream `other` may be the disk's first data, which is unknown until the map is read."""
        return other.LAYER is Layer.COMPRESSED and (not self.complete or self.explains(other))

    @property
    def virtual_size(self) -> int:
        """The trailer's sector count, in bytes; zero if it is too large or the trailer is not whole."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return 0
        sectors = trailer.number(492)
        return sectors * SECTOR if sectors <= MAX_SECTORS else 0

    def post_process(self) -> None:
        """Declare the property list once the trailer is held, and parse the map once the list is held."""
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
        """Proven if all parts that the trailer names lie before it, and the property list was parsed."""
        trailer = self._trailer
        if trailer is None or len(trailer.data) < DMG_TRAILER_BYTES:
            return Wholeness.UNCHECKED
        whole = self._map is not None and not any(self._parts(trailer))
        return Wholeness.PROVEN if whole else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """Segments, the lengths of the data fork and the property list, and facts from the block map."""
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
        """Findings on the trailer, and on the parts that it names."""
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
                "the others are other files",
            )
        if trailer.number(8, 4) != DMG_TRAILER_BYTES:
            yield found("structure", f"the DMG trailer states a size of {trailer.number(8, 4)} bytes")
        if not 0 < trailer.number(492) <= MAX_SECTORS:
            yield found("structure", f"no disk has {trailer.number(492)} sectors")
        last = self.captured("tail")[-DMG_TRAILER_BYTES:]
        if last.startswith(SIGNATURE) and trailer.offset != self.actual_size - DMG_TRAILER_BYTES:
            yield found("structure", "there are two DMG trailers, and readers differ in which they take")

    def _parts(self, trailer: Trailer) -> Iterator[Finding]:
        """Findings on the parts that the trailer names."""
        parts = {
            "data fork": trailer.part(DATA_FORK),
            "resource fork": trailer.part(RESOURCE_FORK),
            "property list": trailer.part(PLIST),
        }
        for name, part in parts.items():
            if part.length and part.end > trailer.offset:
                yield found(
                    "truncated", f"the {name} ends at byte {part.end}, behind the trailer at {trailer.offset}"
                )
        if not parts["property list"].length and not parts["resource fork"].length:
            yield found("structure", "neither a property list nor a resource fork maps the disk's blocks")
        if self.filled("plist") and not self.captured("plist").startswith(PLIST_STARTS):
            yield found("structure", "the property list is not where the trailer says")

    def _mapped(self, trailer: Trailer) -> Iterator[Finding]:
        """Findings on the block map, or on a map that Keyhole does not read."""
        if trailer.part(RESOURCE_FORK).length:
            yield found(
                "unsupported_subformat",
                "Keyhole does not read the resource fork, which maps the disk's blocks for some readers",
            )
        if trailer.part(PLIST).length > MAX_PLIST_BYTES:
            yield found(
                "unsupported_subformat", f"a property list of more than {MAX_PLIST_BYTES} bytes is not read"
            )
        if self._map is not None:
            yield from self._map.checks(trailer.number(492), trailer.part(DATA_FORK))

    # The trailer

    @property
    def _trailer(self) -> Trailer | None:
        """The trailer that QEMU uses: the first whole one in the tail, or else one that is cut off."""
        tail = self.captured("tail")
        at = tail.find(SIGNATURE, 0, max(0, len(tail) - DMG_TRAILER_BYTES) + len(SIGNATURE))
        if at < 0 or len(tail) < DMG_TRAILER_BYTES:
            at = tail.find(TRAILER_START)
        if at < 0:
            return None
        return Trailer(self.actual_size - len(tail) + at, tail[at : at + DMG_TRAILER_BYTES])
