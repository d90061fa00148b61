"""Parallels' expandable disk image, which is also the image format of ploop. All fields are little-endian.

Source: QEMU, docs/interop/parallels, sections "Header", "BAT", "Format Extension"; block/parallels.c,
parallels_open.

| offset | bytes | field |
|---|---|---|
| 0 | 16 | magic `WithoutFreeSpace` or `WithouFreSpacExt` |
| 16 | 4 | version, 2 |
| 20 | 8 | numbers of heads and cylinders of the guest's disk |
| 28 | 4 | cluster size in sectors of 512 bytes |
| 32 | 4 | number of entries in the block allocation table (BAT) |
| 36 | 8 | virtual size in sectors; with `WithoutFreeSpace` it has 4 bytes, followed by 4 zero bytes |
| 44 | 4 | in use: 0x746F6E59 while the image is open, 0x312E3276 if closed, 0 if closed by old software |
| 48 | 4 | first sector of the data area; with `WithoutFreeSpace`, 0 means right after the BAT |
| 52 | 4 | flags: bit 0 is set if the image is empty |
| 56 | 8 | offset of the format extension in sectors, 0 if there is none |

The BAT begins at byte 64. The BAT has an entry of 4 bytes for each cluster of the disk: the position of the
cluster in the file, or 0 if the cluster is not allocated. With `WithoutFreeSpace` positions count sectors,
with `WithouFreSpacExt` they count clusters. The format extension begins with 0xAB234CEF23DCEA87 and contains
dirty bitmaps. A reader may ignore all other content of the extension, so Keyhole reads only this magic
number.

Wholeness: the object must contain the highest cluster that the BAT points to. If the BAT is longer than
`MAX_BAT_BYTES`, only its beginning and its end are read.
"""

from collections.abc import Iterator, Mapping

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, over, overlaps
from keyhole.inspectors.region import CaptureRegion

MAGIC = b"WithoutFreeSpace"
EXTENDED_MAGIC = b"WithouFreSpacExt"
HEADER_BYTES = 64
VERSION = 2

#: At most this many bytes are read from the beginning of the BAT: 24,576 entries, which map 24 GiB of the
#: disk with the usual cluster size of 1 MiB.
MAX_BAT_BYTES = 96 * 1024
#: If the BAT is longer than `MAX_BAT_BYTES`, at most this many bytes are read from its end. This many bytes
#: map 8 GiB of the disk.
MAX_BAT_END_BYTES = 32 * 1024
#: QEMU's limits (parallels_open).
MAX_CLUSTER_SECTORS = (2**31 - 1) // 513
MAX_BAT_ENTRIES = (2**31 - 1) // 4

IN_USE, CLOSED, CLOSED_BY_OLD = 0x746F6E59, 0x312E3276, 0
EMPTY = 1
EXTENSION_MAGIC = (0xAB234CEF23DCEA87).to_bytes(8, "little")


class ParallelsInspector(HeaderInspector):
    """Parallels: the header states the virtual size, and the BAT shows whether the image is whole."""

    NAME = "parallels"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC, EXTENDED_MAGIC)

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        #: The BAT entries that are not 0; `None` until the BAT has been read.
        self._clusters: list[int] | None = None

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes that the header states; zero until this field is read."""
        known = self.format_match and len(self.region("header").data) >= 44
        return self._disk_sectors * SECTOR if known else 0

    @property
    def subformat(self) -> str | None:
        """The magic: `WithoutFreeSpace` or `WithouFreSpacExt`."""
        return self.region("header").data[:16].decode("ascii") if self.format_match else None

    def post_process(self) -> None:
        """Declare regions for the BAT and the extension's magic, and parse the BAT once it is captured."""
        if not self._usable:
            return
        if not self.has_region("bat"):
            self._declare()
        if self._clusters is None and self.filled("bat") and self.filled("bat_end"):
            self._read_bat()

    def _declare(self) -> None:
        length = self._bat_end - HEADER_BYTES
        end_length = min(max(0, length - MAX_BAT_BYTES), MAX_BAT_END_BYTES)
        self.new_region("bat", CaptureRegion(HEADER_BYTES, min(length, MAX_BAT_BYTES)))
        self.new_region("bat_end", CaptureRegion(self._bat_end - end_length, end_length))
        if self._u64(56):
            self.new_region("extension", CaptureRegion(self._u64(56) * SECTOR, len(EXTENSION_MAGIC)))

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the whole BAT was read, `SAMPLED` if only a part of it was read.

        It is `UNCHECKED` if the image is in use, or if a cluster is beyond the end of the object.
        """
        if self._size is None or self._clusters is None or self._u32(44) == IN_USE:
            return Wholeness.UNCHECKED
        if self._end > self._size:
            return Wholeness.UNCHECKED
        seen = self._bat_end - HEADER_BYTES <= MAX_BAT_BYTES + MAX_BAT_END_BYTES
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """The version, the cluster size, the number of BAT entries, and the offsets of data and extension."""
        if not self._usable:
            return {}
        facts: dict[str, object] = {
            "version": self._u32(16),
            "cluster_size": self._cluster_bytes,
            "clusters": self._u32(32),
            "data_offset": self._data_sector * SECTOR,
        }
        if self._u64(56):
            facts["extension_offset"] = self._u64(56) * SECTOR
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on the header, and on contradictions between header and BAT."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the Parallels header")]
        if self._u32(16) != VERSION:
            return [found("unknown_features", f"Parallels version {self._u32(16)} is unknown")]
        if not self._usable:
            return [found("structure", "the header's cluster size or number of entries is out of bounds")]
        return [*self._states(), *self._contradictions(), *self._extension(), *self._needs(self._end)]

    def _states(self) -> Iterator[Finding]:
        if self._u32(44) == IN_USE:
            yield found("dirty", "the image was not closed cleanly; run `qemu-img check -r all` on it")
        if self._u32(52) & ~EMPTY:
            yield found("unknown_features", f"flags {self._u32(52) & ~EMPTY:#x} are unknown")

    def _contradictions(self) -> Iterator[Finding]:
        if self._u32(44) not in {IN_USE, CLOSED, CLOSED_BY_OLD}:
            yield found("structure", f"the header's field `in use` has the invalid value {self._u32(44):#x}")
        if not self._extended and self._u32(40):
            yield found("structure", "the virtual size has more than the 32 bits that this format allows")
        if self._u32(32) * self._cluster_sectors < self._disk_sectors:
            yield found("structure", f"the virtual size needs more than {self._u32(32)} clusters")
        yield from self._overlaps()
        if self._extended and self._data_sector % self._cluster_sectors:
            yield found("structure", "the data area does not begin at the start of a cluster")
        if not self._clusters:
            return
        if min(self._clusters) * self._entry_sectors < self._data_sector:
            yield found("structure", "the BAT points to a cluster before the data area")
        if self._u32(52) & EMPTY:
            yield found("structure", "the header states that the image is empty, but it has clusters")

    def _overlaps(self) -> list[Finding]:
        """Return findings on clusters that overlap the header, the BAT, the extension or another cluster."""
        # QEMU can write a cluster to the beginning of the data area and would then overwrite a header or BAT
        # that extends into this area. So compare the header and the BAT with the area's first cluster, even
        # if this cluster is unused.
        data, extension = self._data_sector * SECTOR, self._u64(56) * SECTOR
        parts = [
            Part(0, HEADER_BYTES, "the header"),
            Part(HEADER_BYTES, self._bat_end, "the BAT"),
        ]
        area = [*parts, Part(data, data + self._cluster_bytes, "the data area")]
        if extension:
            parts.append(Part(extension, extension + self._cluster_bytes, "the format extension"))
        unit = self._entry_sectors * SECTOR
        clusters = Blocks("a cluster", self._clusters or (), self._cluster_bytes, unit=unit)
        return [*overlaps(area), *overlaps(parts[1:], clusters), *over(clusters, parts[:1])]

    def _extension(self) -> Iterator[Finding]:
        if not self._u64(56):
            return
        if self._u64(56) < self._data_sector:
            yield found("structure", "the format extension begins before the data area")
        magic = self.captured("extension")
        if len(magic) == len(EXTENSION_MAGIC) and magic != EXTENSION_MAGIC:
            yield found("structure", "there is no format extension at the offset that the header states")

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header has been read and its sizes are within QEMU's limits.

        If not, Keyhole does not use the header's offsets.
        """
        return (
            self.format_match
            and len(self.captured("header")) == HEADER_BYTES
            and self._u32(16) == VERSION
            and 0 < self._cluster_sectors <= MAX_CLUSTER_SECTORS
            and self._u32(32) <= MAX_BAT_ENTRIES
        )

    @property
    def _extended(self) -> bool:
        return self.region("header").data.startswith(EXTENDED_MAGIC)

    @property
    def _cluster_sectors(self) -> int:
        return self._u32(28)

    @property
    def _cluster_bytes(self) -> int:
        return self._cluster_sectors * SECTOR

    @property
    def _disk_sectors(self) -> int:
        return self._u64(36) if self._extended else self._u32(36)

    @property
    def _bat_end(self) -> int:
        return HEADER_BYTES + 4 * self._u32(32)

    @property
    def _data_sector(self) -> int:
        if self._u32(48) or self._extended:
            return self._u32(48)
        return -(-self._bat_end // SECTOR)

    @property
    def _entry_sectors(self) -> int:
        """The length in sectors of the unit in which BAT entries count: one cluster or one sector."""
        return self._cluster_sectors if self._extended else 1

    # The BAT

    def _read_bat(self) -> None:
        """Parse the entries in the captured parts of the BAT."""
        entries = little_endian("I", self.captured("bat") + self.captured("bat_end"))
        self._clusters = [entry for entry in entries if entry]

    @property
    def _end(self) -> int:
        """The minimum length of the object in bytes, according to the header and the BAT."""
        ends = [self._bat_end, self._data_sector * SECTOR]
        if self._clusters:
            ends.append(max(self._clusters) * self._entry_sectors * SECTOR + self._cluster_bytes)
        if self._u64(56):
            ends.append(self._u64(56) * SECTOR + self._cluster_bytes)
        return max(ends)
