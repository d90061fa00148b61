"""Builds qcow2 images, versions 2 and 3.

Header, at byte 0 (big-endian; QEMU `docs/interop/qcow2`, "Header")::

      0  "QFI" FB                4  version u32
      8  backing name's offset u64                   16  backing name's length u32
     20  cluster bits u32       24  virtual size u64 32  encryption u32: 0 none, 1 AES, 2 LUKS
     36  L1 entries u32         40  L1 offset u64
     48  refcount table offset u64                   56  refcount table's clusters u32
     60  snapshots u32          64  snapshot table offset u64
     version 3:
     72  incompatible features u64: 1 dirty, 2 corrupt, 4 data file, 8 compression type, 16 extended L2
     80  compatible u64         88  autoclear u64    96  refcount order u32 = 4 (16 bits)
    100  header length u32     104  compression u8: 0 zlib, 1 zstd

After the header come the header extensions and the name of the backing file. The header, the extensions and
the name are all in the first cluster. A header extension (section "Header extensions") is: type u32, length
u32, data, padding to 8 bytes. An extension of type 0 is the last extension. This builder then writes the
refcount table, the refcount blocks, the L1 table, the L2 tables, the snapshots, the LUKS header and the guest
clusters. The file has no free clusters.

An L1 entry contains the offset of an L2 table, and an L2 entry contains the offset of a guest cluster. Bit 63
of an entry is set if the refcount of the cluster at the entry's offset is exactly one (section "Cluster
mapping").
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up
from keyhole.builders.luks import PAYLOAD_SECTOR, luks_header

DATA_FILE, COMPRESSION_TYPE, EXTENDED_L2 = 1 << 2, 1 << 3, 1 << 4
BACKING_FORMAT_EXTENSION = 0xE2792ACA
DATA_FILE_EXTENSION = 0x44415441
ENCRYPTION_EXTENSION = 0x0537BE77
END_OF_EXTENSIONS = (0, b"")

#: A header extension that a caller adds: its type and its data.
Extension = tuple[int, bytes]

LUKS = 2
ZSTD = 1
HEADER_LENGTH = {2: 72, 3: 112}
#: The base-2 logarithm of the refcount's size in bits: a refcount has 1 << 4 bits.
REFCOUNT_ORDER = 4
REFCOUNT_SIZE = 2
REFCOUNT_ONE = 1 << 63

#: The bitmap of an extended L2 entry: all 32 subclusters are allocated, and none of them reads as zeros
#: (section "Extended L2 Entries").
ALL_SUBCLUSTERS = 0xFFFFFFFF

#: 1 January 2024, in seconds since 1970.
SNAPSHOT_TIME = 1704067200


def qcow2(  # noqa: PLR0913 - each keyword is one independent fact of the header
    virtual_size: int,
    *,
    version: int = 3,
    cluster_bits: int = 16,
    allocated: Allocated = 0,
    backing_file: str | None = None,
    backing_format: str | None = None,
    data_file: str | None = None,
    incompatible: int = 0,
    snapshots: int = 0,
    encryption: int = 0,
    extensions: Sequence[Extension] = (),
) -> Image:
    """Return a qcow2 image of `virtual_size` bytes that stores the `allocated` guest clusters.

    The first sector of each stored guest cluster contains a test pattern. With `data_file`, the image stores
    no guest cluster, because the data file stores the guest clusters, at the same offsets as on the virtual
    disk. `guest_disk` returns the content of such a data file. `incompatible` is a set of feature bits. If
    the bit for the compression type is set, the header states zstd. If the bit for extended L2 entries is
    set, the L2 entries have 16 bytes. `snapshots` is the number of snapshots. All snapshots share their
    clusters with the active disk.

    Raises:
        ValueError: The image needs feature bits, which version 2 does not have, or the header does not fit
            into the first cluster.
    """
    incompatible |= DATA_FILE if data_file is not None else 0
    if version < 3 and incompatible:
        raise ValueError("version 2 has no feature bits, and so no data file")
    disk = _Disk(virtual_size, 1 << cluster_bits, 16 if incompatible & EXTENDED_L2 else 8)
    numbers = block_numbers(allocated, ceil_div(virtual_size, disk.cluster))
    stored = numbers if data_file is None else ()
    tables = sorted({number // disk.table_entries for number in numbers})
    users = 1 + snapshots
    snapshots_size = len(_snapshot_table([0] * snapshots, disk))
    luks_size = PAYLOAD_SECTOR * SECTOR if encryption == LUKS else 0

    sizes = [disk.l1_size] * users + [snapshots_size, luks_size]
    space = _Clusters(disk.cluster, [*sizes, *[disk.cluster] * (len(tables) + len(stored))])
    l1, *l1_copies = (space.take(disk.l1_size) for _ in range(users))
    l2 = {table: space.take(disk.cluster, refcount=users) for table in tables}
    snapshot_table = space.take(snapshots_size)
    luks_offset = space.take(luks_size)
    places = {number: space.take(disk.cluster, refcount=users) for number in stored}

    used_once = 0 if snapshots else REFCOUNT_ONE
    mapping = places if data_file is None else {number: number * disk.cluster for number in numbers}
    header = _Header(
        version=version,
        cluster_bits=cluster_bits,
        encryption=encryption,
        disk=disk,
        l1=l1,
        refcount_table=(space.table_offset, space.table_clusters),
        snapshots=(snapshots, snapshot_table),
        incompatible=incompatible,
        extensions=(
            *_text_extension(BACKING_FORMAT_EXTENSION, backing_format),
            *_text_extension(DATA_FILE_EXTENSION, data_file),
            *([(ENCRYPTION_EXTENSION, struct.pack(">QQ", luks_offset, luks_size))] if luks_size else []),
            *extensions,
        ),
        backing_file=backing_file or "",
    )
    pieces = [
        (0, header.packed()),
        *space.refcounts(),
        *disk.l1_entries(l1, l2, used_once),
        *(entry for copy in l1_copies for entry in disk.l1_entries(copy, l2, 0)),
        *disk.l2_entries(l2, mapping, used_once),
        (snapshot_table, _snapshot_table(l1_copies, disk)),
        (luks_offset, luks_header() if luks_size else b""),
        *((offset, pattern(number)) for number, offset in places.items()),
    ]
    return Image.of(space.end, pieces)


@dataclass(frozen=True, slots=True)
class _Disk:
    """The virtual disk and its tables. The fields are the sizes of disk, cluster and L2 entry in bytes."""

    virtual_size: int
    cluster: int
    l2_entry: int

    @property
    def table_entries(self) -> int:
        """The number of guest clusters that one L2 table maps."""
        return self.cluster // self.l2_entry

    @property
    def l1_count(self) -> int:
        """The number of entries in the L1 table."""
        return ceil_div(self.virtual_size, self.cluster * self.table_entries)

    @property
    def l1_size(self) -> int:
        """The size of the L1 table in bytes."""
        return 8 * self.l1_count

    def l1_entries(self, l1: int, l2: Mapping[int, int], flags: int) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces for the L1 table at `l1`. `l2` maps the number of each L2 table to its offset."""
        for table, offset in l2.items():
            yield l1 + 8 * table, struct.pack(">Q", offset | flags)

    def l2_entries(
        self, l2: Mapping[int, int], clusters: Mapping[int, int], flags: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces for the L2 entries. `clusters` maps the number of each cluster to its offset."""
        for number, offset in clusters.items():
            table, index = divmod(number, self.table_entries)
            entry = struct.pack(">QQ", offset | flags, ALL_SUBCLUSTERS)
            yield l2[table] + self.l2_entry * index, entry[: self.l2_entry]


class _Clusters:
    """Allocates the clusters of the file.

    The order is: the header, the refcount table, the refcount blocks, then the clusters that `take` returns.
    `sizes` are the sizes in bytes of all structures for which the caller will take clusters. The number of
    refcount blocks and the size of the refcount table depend on these sizes. The refcount table and the
    refcount blocks are also counted, because their clusters have refcounts, too.
    """

    def __init__(self, cluster: int, sizes: Sequence[int]) -> None:
        self.cluster = cluster
        self.table_offset = cluster
        self.table_clusters = self.blocks = 1
        others = 1 + sum(map(self._clusters, sizes))
        while True:
            blocks = self._clusters(REFCOUNT_SIZE * (others + self.table_clusters + self.blocks))
            table_clusters = self._clusters(8 * blocks)
            if (table_clusters, blocks) == (self.table_clusters, self.blocks):
                break
            self.table_clusters, self.blocks = table_clusters, blocks
        self._counts = [1] * (1 + self.table_clusters + self.blocks)

    @property
    def end(self) -> int:
        """The offset at which the last cluster ends: the size of the file."""
        return len(self._counts) * self.cluster

    def take(self, size: int, *, refcount: int = 1) -> int:
        """Take clusters for `size` bytes, and return the offset of the first cluster."""
        offset = self.end
        self._counts += [refcount] * self._clusters(size)
        return offset

    def refcounts(self) -> list[tuple[int, bytes]]:
        """Return the pieces for the refcount table and for the refcounts of all clusters taken so far."""
        first = self.table_offset + self.table_clusters * self.cluster
        blocks = range(first, first + self.blocks * self.cluster, self.cluster)
        return [
            (self.table_offset, struct.pack(f">{self.blocks}Q", *blocks)),
            # The blocks are contiguous, so all refcounts form one piece.
            (first, struct.pack(f">{len(self._counts)}H", *self._counts)),
        ]

    def _clusters(self, size: int) -> int:
        return ceil_div(size, self.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The content of the file's first cluster.

    `refcount_table` is a pair: the offset of the refcount table, and the length of the table in clusters.
    `snapshots` is also a pair: the number of snapshots, and the offset of the snapshot table.
    """

    version: int
    cluster_bits: int
    encryption: int
    disk: _Disk
    l1: int
    refcount_table: tuple[int, int]
    snapshots: tuple[int, int]
    incompatible: int
    extensions: Sequence[Extension]
    backing_file: str

    def packed(self) -> bytes:
        """Return the bytes of the header, the extensions and the backing file's name."""
        length = HEADER_LENGTH[self.version]
        extensions = b"".join(
            struct.pack(">II", kind, len(data)) + data.ljust(round_up(len(data), 8), b"\0")
            for kind, data in (*self.extensions, END_OF_EXTENSIONS)
        )
        name = self.backing_file.encode()
        header = struct.pack(
            ">4sIQIIQIIQQIIQ",
            b"QFI\xfb",
            self.version,
            length + len(extensions) if name else 0,
            len(name),
            self.cluster_bits,
            self.disk.virtual_size,
            self.encryption,
            self.disk.l1_count,
            self.l1,
            *self.refcount_table,
            *(self.snapshots if self.snapshots[0] else (0, 0)),
        )
        if self.version >= 3:
            compression = ZSTD if self.incompatible & COMPRESSION_TYPE else 0
            header += struct.pack(">QQQIIB7x", self.incompatible, 0, 0, REFCOUNT_ORDER, length, compression)
        packed = header + extensions + name
        if len(packed) > self.disk.cluster:
            raise ValueError(
                f"the header takes {len(packed)} bytes, the first cluster has {self.disk.cluster}"
            )
        return packed


def _text_extension(kind: int, text: str | None) -> list[Extension]:
    return [] if text is None else [(kind, text.encode())]


def _snapshot_table(l1_offsets: Sequence[int], disk: _Disk) -> bytes:
    """Return the snapshot table: one entry for each snapshot, padded to 8 bytes (section "Snapshots")."""
    table = b""
    for number, offset in enumerate(l1_offsets, start=1):
        identity, name = str(number).encode(), b"snapshot %d" % number
        extra = struct.pack(">QQ", 0, disk.virtual_size)
        counts = (len(identity), len(name), SNAPSHOT_TIME, 0, 0, 0, len(extra))
        table += struct.pack(">QIHHIIQII", offset, disk.l1_count, *counts) + extra + identity + name
        table = table.ljust(round_up(len(table), 8), b"\0")
    return table
