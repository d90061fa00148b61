r"""The header of a qcow2, versions 2 and 3, and the header extensions after it. All fields are big-endian.

Source: QEMU, docs/interop/qcow2.txt, sections "Header" and "Header extensions"; limits: block/qcow2.h.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `QFI\xfb` |
| 4 | 4 | version, 2 or 3 |
| 8 | 8 | offset of the backing file's name, 0 if there is none |
| 16 | 4 | length of the backing file's name in bytes, at most 1,023 |
| 20 | 4 | cluster bits, 9 to 21: a cluster has 2^bits bytes |
| 24 | 8 | virtual size in bytes |
| 32 | 4 | encryption method: 0 none, 1 AES, 2 LUKS |
| 36 | 4 | number of entries in the active L1 table |
| 40 | 8 | offset of the active L1 table |
| 48 | 8 | offset of the refcount table |
| 56 | 4 | number of clusters in the refcount table |
| 60 | 4 | number of snapshots |
| 64 | 8 | offset of the snapshot table |
| 72 | 8 | v3: incompatible features: bit 0 dirty, 1 corrupt, 2 data file, 3 compression type, 4 extended L2 |
| 80 | 8 | v3: compatible features |
| 88 | 8 | v3: autoclear features: bit 1 the data file is raw |
| 96 | 4 | v3: refcount order, at most 6: a refcount has 2^order bits; the order of v2 is 4 |
| 100 | 4 | v3: header length in bytes |
| 104 | 1 | v3, if the header is longer than 104 bytes: compression type: 0 deflate, 1 zstd |

Header extensions follow the header, which has 72 bytes in v2. Each extension has a type (u32), a length (u32)
and data padded to a multiple of 8 bytes. Type 0 marks the end of the extensions.
"""

from struct import Struct, unpack_from
from typing import NamedTuple, Self

from keyhole.inspectors.region import ByteRange

MAGIC = b"QFI\xfb"
#: The number of header bytes that are read. QEMU writes 112 bytes.
HEADER_BYTES = 512
#: The length of the header in version 2, and its minimum length in version 3.
HEADER_BYTES_V2, HEADER_BYTES_V3 = 72, 104
FIELDS, FIELDS_V3 = Struct(">4xIQIIQIIQQIIQ"), Struct(">QQQII")
#: The values that version 2 implies for the fields of version 3: no features, refcounts of 16 bits.
FIELDS_IN_V2 = (0, 0, 0, 4, HEADER_BYTES_V2)

#: The specification's limit for the length of a backing file's name.
MAX_NAME_BYTES = 1023
#: At most this many bytes of header extensions are read. The area for extensions begins after the header. The
#: area ends where the backing file's name begins, or at the end of the first cluster if the name is not in
#: this cluster. QEMU writes less than 1 KiB of extensions.
MAX_EXTENSION_BYTES = 16 * 1024
#: At most this many extensions are read. QEMU writes at most six kinds of extension, each kind once.
MAX_EXTENSIONS = 32

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
#: An autoclear feature: the data file is a raw image of the disk.
RAW_DATA_FILE = 1 << 1


class Header(NamedTuple):
    """The fields of a header. Fields that version 2 lacks have the values that version 2 implies."""

    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    disk_bytes: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshots: int
    snapshot_table_offset: int
    incompatible: int
    compatible: int
    autoclear: int
    refcount_order: int
    length: int
    compression: int

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Return the header at the start of `raw`, or `None` if `raw` ends within the header."""
        if len(raw) < HEADER_BYTES_V2:
            return None
        fields = FIELDS.unpack_from(raw)
        if fields[0] == 2:
            return cls._make((*fields, *FIELDS_IN_V2, 0))
        if len(raw) < HEADER_BYTES_V3:
            return None
        later = FIELDS_V3.unpack_from(raw, HEADER_BYTES_V2)
        stated = later[-1] > HEADER_BYTES_V3 and len(raw) > HEADER_BYTES_V3
        return cls._make((*fields, *later, raw[HEADER_BYTES_V3] if stated else 0))

    @property
    def in_bounds(self) -> bool:
        """Whether the sizes are within the format's limits, so that the tables can be located."""
        least = HEADER_BYTES_V2 if self.version == 2 else HEADER_BYTES_V3
        return (
            9 <= self.cluster_bits <= 21
            and self.refcount_order <= 6
            and least <= self.length <= self.cluster_bytes
        )

    @property
    def cluster_bytes(self) -> int:
        """The cluster size in bytes."""
        return 1 << self.cluster_bits

    @property
    def refcount_bits(self) -> int:
        """The width of a refcount in bits."""
        return 1 << self.refcount_order

    @property
    def extended(self) -> bool:
        """Whether entries of L2 tables have 16 bytes instead of 8."""
        return bool(self.incompatible & EXTENDED_L2)

    @property
    def has_data(self) -> bool:
        """Whether the disk's clusters are in this file and not in an external data file."""
        return not self.incompatible & DATA_FILE

    @property
    def refcounts_right(self) -> bool:
        """Whether the refcounts are reliable: the image is marked neither dirty nor corrupt."""
        return not self.incompatible & (DIRTY | CORRUPT)

    @property
    def backing_name(self) -> ByteRange:
        """The range of the backing file's name, cut to the longest name that the format allows."""
        return ByteRange(self.backing_offset, min(self.backing_length, MAX_NAME_BYTES))

    @property
    def extensions(self) -> ByteRange:
        """The range of the header extensions, cut to the part that is read."""
        end = self.cluster_bytes
        if self.length < self.backing_offset < end:
            end = self.backing_offset
        return ByteRange(self.length, min(end - self.length, MAX_EXTENSION_BYTES))

    @property
    def l1_table(self) -> ByteRange:
        """The range of the active L1 table."""
        return ByteRange(self.l1_offset, 8 * self.l1_entries)

    @property
    def bytes_per_l1_entry(self) -> int:
        """The number of bytes of the disk that one L1 entry maps."""
        return self.cluster_bytes // (16 if self.extended else 8) * self.cluster_bytes

    @property
    def l1_entries_needed(self) -> int:
        """The number of L1 entries that a disk of this virtual size needs."""
        return -(-self.disk_bytes // self.bytes_per_l1_entry)

    @property
    def refcount_table(self) -> ByteRange:
        """The range of the refcount table."""
        return ByteRange(self.refcount_table_offset, self.refcount_table_clusters * self.cluster_bytes)


class Extensions(NamedTuple):
    """The header extensions.

    Attributes:
        entries: A pair (type, data) for each extension.
        ended: Whether the list of extensions ends correctly: with the end marker or, as QEMU also accepts, at
            the end of the area for extensions. If an extension is longer than the rest of the area, readers
            differ in which extensions they see.
    """

    entries: tuple[tuple[int, bytes], ...]
    ended: bool

    @classmethod
    def parse(cls, area: bytes, length: int) -> Self:
        """Return the extensions in `area`.

        Args:
            area: The bytes of the area for extensions; fewer than `length` if the object ends within it.
            length: The length of the area in bytes.
        """
        entries: list[tuple[int, bytes]] = []
        position = 0
        while position + 8 <= len(area) and len(entries) < MAX_EXTENSIONS:
            kind, size = unpack_from(">II", area, position)
            position += 8
            if position + size > length:
                return cls(tuple(entries), ended=False)
            if not kind:
                return cls(tuple(entries), ended=True)
            entries.append((kind, area[position : position + size]))
            position += -(-size // 8) * 8
        # If the object ends within the area, another check reports this, so the missing bytes are not an
        # error here.
        short = len(area) < length and len(entries) < MAX_EXTENSIONS
        return cls(tuple(entries), short or length <= position < MAX_EXTENSION_BYTES)
