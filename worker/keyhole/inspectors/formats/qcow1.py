r"""QEMU's first copy-on-write format, qcow version 1. All fields are big-endian.

Source: QEMU, block/qcow.c, struct QCowHeader, qcow_open, get_cluster_offset, decompress_cluster.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `QFI\xfb` |
| 4 | 4 | version, 1 |
| 8 | 8 | offset of the backing file's name, 0 if there is none |
| 16 | 4 | length of the backing file's name in bytes, at most 1,023 |
| 20 | 4 | time of the last modification |
| 24 | 8 | virtual size in bytes |
| 32 | 1 | cluster bits, 9 to 16: a cluster has 2^bits bytes |
| 33 | 1 | L2 bits, 6 to 13: an L2 table has 2^bits entries |
| 36 | 4 | encryption method: 0 none, 1 AES |
| 40 | 8 | offset of the L1 table |

Entries of both tables have 8 bytes. An L1 entry is the offset of an L2 table, or 0 if there is no L2 table.
An L2 entry is the offset of a cluster, or 0 if the cluster is not allocated. If bit 63 of an L2 entry is set,
the cluster is compressed. The entry then also contains the length of the compressed data in bytes. If the
field "cluster bits" is n, the n bits below bit 63 contain the length. The remaining bits are the offset of
the compressed data.

Wholeness: QEMU appends clusters and tables to the file. So the L2 table at the highest offset most probably
points to the last cluster of the file. Keyhole reads only this L2 table. If the image has no other L2
table, its wholeness is proven; otherwise it is sampled.
"""

from collections.abc import Iterator, Mapping

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, big_endian, used_blocks
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

MAGIC = b"QFI\xfb\0\0\0\1"
HEADER_BYTES = 48

#: QEMU's limit for the length of a backing file's name (qcow_open).
MAX_NAME_BYTES = 1023
#: A backing file's name that ends after this offset is not read. QEMU writes the name right after the header.
MAX_NAME_END = 64 * 1024
#: At most this many bytes are read from the beginning of the L1 table: 16,384 entries, which map 32 GiB of
#: the disk in QEMU's layout.
MAX_L1_BYTES = 128 * 1024
#: If the L1 table is longer than `MAX_L1_BYTES`, at most this many bytes are read from its end. This many
#: bytes map 16 GiB of the disk.
MAX_L1_END_BYTES = 64 * 1024
#: The end of the L1 table is read only if the table begins at or before this offset. A table that begins
#: later is unusual, because QEMU writes the table right after the backing file's name. Reading the end of
#: such a table would need an additional range request.
MAX_L1_START = 64 * 1024
#: QEMU's limit for the L1 table (qcow_open: INT_MAX bytes).
MAX_L1_ENTRIES = (2**31 - 1) // 8

AES = 1
COMPRESSED = 1 << 63


class QcowV1Inspector(HeaderInspector):
    """QEMU qcow version 1: the header states the virtual size.

    The L1 table and the highest L2 table show whether the image is whole.
    """

    NAME = "qcow"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC,)
    BYTE_ORDER = "big"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._l2_offsets: list[int] = []
        #: The offset and length in bytes of each cluster that the L2 table points to; `None` until this table
        #: has been read.
        self._clusters: list[tuple[int, int]] | None = None

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes, rounded down to whole sectors; zero until the header is read."""
        known = self.format_match and len(self.region("header").data) >= 32
        return self._u64(24) // SECTOR * SECTOR if known else 0

    def post_process(self) -> None:
        """Declare regions for the backing file's name and the L1 table, and then for the highest L2 table."""
        if not self._usable:
            return
        if not self.has_region("l1"):
            start, length = self._u64(40), self._l1_bytes
            self.new_region("l1", CaptureRegion(start, min(length, MAX_L1_BYTES)))
            end_length = self._l1_held - min(length, MAX_L1_BYTES)
            self.new_region("l1_end", CaptureRegion(start + length - end_length, end_length))
            if self._name_followed:
                self.new_region("backing_name", CaptureRegion(self._u64(8), self._u32(16)))
        if self.filled("l1") and self.filled("l1_end") and not self.has_region("l2"):
            table = self.captured("l1") + self.captured("l1_end")
            self._l2_offsets = [
                offset for _, block in used_blocks(table) for offset in big_endian("Q", block) if offset
            ]
            highest = max(self._l2_offsets, default=0)
            self.new_region("l2", CaptureRegion(highest, self._l2_bytes if highest else 0))
        if self.filled("l2") and self._clusters is None:
            self._clusters = list(self._read_clusters())

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if all tables were read, `SAMPLED` if some tables were not read.

        It is `UNCHECKED` if a table or a cluster is beyond the end of the object.
        """
        if self._clusters is None or self._size is None or self._end > self._size:
            return Wholeness.UNCHECKED
        seen = self._l1_held == self._l1_bytes and len(self._l2_offsets) <= 1
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """The version, the cluster size, the entries in an L2 table, the encryption and the backing file."""
        if not self._usable:
            return {}
        facts: dict[str, object] = {
            "version": 1,
            "cluster_size": self._cluster_bytes,
            "l2_entries": self._l2_bytes // 8,
        }
        if self._u32(36):
            facts["encryption"] = "aes" if self._u32(36) == AES else str(self._u32(36))
        if self._u64(8):
            facts["backing_file"] = printable(self._backing_name)
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on the backing file, on encryption, and on contradictions in the image."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the qcow header")]
        if not self._usable:
            return [found("structure", "the header's size, cluster bits or L2 bits are out of bounds")]
        return [*self._states(), *self._contradictions(), *self._needs(self._end)]

    def _states(self) -> Iterator[Finding]:
        if self._u64(8):
            name = printable(self._backing_name)
            yield found("backing_file", f"opening the image also opens its backing file {name!r}")
        if self._u32(36) == AES:
            yield found("encrypted", "the content is encrypted (aes)")
        elif self._u32(36):
            yield found("unknown_features", f"encryption method {self._u32(36)} is unknown")

    def _contradictions(self) -> Iterator[Finding]:
        if self._u64(8) and not self._name_followed:
            yield found("structure", "the backing file's name has an invalid offset or length")
        if self._u64(24) % SECTOR:
            yield found("structure", f"the virtual size of {self._u64(24)} bytes is not a multiple of 512")
        yield from self._overlaps()
        whole = self._cluster_bytes
        # The data of a compressed cluster can begin at any byte, and are shorter than a cluster. So the
        # length shows which clusters are not compressed. Only uncompressed clusters are checked.
        if any(offset % SECTOR and length == whole for offset, length in self._clusters or ()):
            yield found("structure", "a cluster does not begin at a sector boundary")

    def _overlaps(self) -> list[Finding]:
        """Return findings on clusters that overlap the header, the name, a table or another cluster."""
        parts = [
            Part(0, HEADER_BYTES, "the header"),
            Part(self._u64(40), self._u64(40) + self._l1_bytes, "the L1 table"),
        ]
        if self._name_followed:
            parts.append(Part(self._u64(8), self._u64(8) + self._u32(16), "the backing file's name"))
        whole, clusters = self._cluster_bytes, self._clusters or []
        return overlaps(
            parts,
            Blocks("an L2 table", self._l2_offsets, self._l2_bytes),
            Blocks("a cluster", (offset for offset, length in clusters if length == whole), whole),
            # Compressed clusters have different lengths, but all blocks of a `Blocks` object have the same
            # length. This length is 1 here, so only overlaps of the first bytes of compressed clusters are
            # found.
            Blocks("a compressed cluster", (offset for offset, length in clusters if length != whole), 1),
        )

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header has been read and its sizes are within QEMU's limits.

        If not, Keyhole does not use the header's offsets.
        """
        return (
            self.format_match
            and len(self.captured("header")) == HEADER_BYTES
            and 9 <= self._cluster_bits <= 16
            and 6 <= self._u8(33) <= 13
            and self._u64(24) > 1
            and self._l1_bytes <= 8 * MAX_L1_ENTRIES
        )

    @property
    def _cluster_bits(self) -> int:
        return self._u8(32)

    @property
    def _cluster_bytes(self) -> int:
        return 1 << self._cluster_bits

    @property
    def _l2_bytes(self) -> int:
        return 8 << self._u8(33)

    @property
    def _l1_bytes(self) -> int:
        return 8 * -(-self._u64(24) >> (self._cluster_bits + self._u8(33)))

    @property
    def _l1_held(self) -> int:
        """How many bytes of the L1 table are read."""
        most = MAX_L1_BYTES + (MAX_L1_END_BYTES if self._u64(40) <= MAX_L1_START else 0)
        return min(self._l1_bytes, most)

    @property
    def _name_followed(self) -> bool:
        """Whether the backing file's name has a valid offset and length.

        If not, Keyhole does not read the name.
        """
        offset, length = self._u64(8), self._u32(16)
        in_place = offset >= HEADER_BYTES and offset + length <= MAX_NAME_END
        return 0 < length <= MAX_NAME_BYTES and in_place

    @property
    def _backing_name(self) -> bytes:
        return self.captured("backing_name") if self.has_region("backing_name") else b""

    def _u8(self, offset: int) -> int:
        return self.region("header").data[offset]

    # The L2 table

    def _read_clusters(self) -> Iterator[tuple[int, int]]:
        """Yield the offset and length in bytes of each cluster that the L2 table points to."""
        cluster_bytes, length_shift = self._cluster_bytes, 63 - self._cluster_bits
        for _, block in used_blocks(self.captured("l2")):
            for entry in big_endian("Q", block):
                if entry & COMPRESSED:
                    yield entry & ((1 << length_shift) - 1), entry >> length_shift & (cluster_bytes - 1)
                elif entry:
                    yield entry, cluster_bytes

    @property
    def _end(self) -> int:
        """The minimum length of the object in bytes, according to the header and the tables."""
        ends = [offset + length for offset, length in self._clusters or ()]
        ends.append(self._u64(40) + self._l1_bytes)
        if self._l2_offsets:
            ends.append(max(self._l2_offsets) + self._l2_bytes)
        if self._name_followed:
            ends.append(self._u64(8) + self._u32(16))
        return max(ends)
