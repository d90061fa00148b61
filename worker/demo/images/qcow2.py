"""qcow2, versions 2 and 3.

Header, at byte 0 (big-endian; QEMU `docs/interop/qcow2`, "Header")::

      0  "QFI" FB                4  version u32
      8  backing name's offset u64                   16  its length u32
     20  cluster bits u32       24  virtual size u64 32  encryption u32: 0 none, 1 AES, 2 LUKS
     36  L1 entries u32         40  L1 offset u64
     48  refcount table offset u64                   56  its clusters u32
     60  snapshots u32          64  snapshot table offset u64
     version 3:
     72  incompatible features u64: 1 dirty, 2 corrupt, 4 data file, 8 compression type, 16 extended L2
     80  compatible u64         88  autoclear u64    96  refcount order u32 = 4 (16 bits)
    100  header length u32     104  compression u8: 0 zlib, 1 zstd

Header extensions follow ("Header extensions": type u32, length u32, data, padding to 8 bytes; type 0 ends
them), then the backing file's name, all in the first cluster. Here the file continues with the refcount
table, refcount blocks, L1 table, L2 tables, snapshots, LUKS header and guest clusters, so its last cluster is
its last used one.

L1 and L2 entries hold an offset, and in bit 63 whether the refcount there is exactly one ("Cluster mapping").
"""

import struct
from collections.abc import Iterable, Sequence

from worker.demo.images.guest import SECTOR, Allocated, block_numbers, pattern
from worker.demo.images.image import Image, round_up
from worker.demo.images.luks import PAYLOAD_SECTOR, luks_header

DATA_FILE, COMPRESSION_TYPE, EXTENDED_L2 = 1 << 2, 1 << 3, 1 << 4
BACKING_FORMAT_EXTENSION = 0xE2792ACA
DATA_FILE_EXTENSION = 0x44415441
ENCRYPTION_EXTENSION = 0x0537BE77

#: What header extension a caller adds: its type and its data.
Extension = tuple[int, bytes]

LUKS = 2
ZSTD = 1
HEADER_LENGTH = {2: 72, 3: 112}
REFCOUNT_SIZE = 2
REFCOUNT_ONE = 1 << 63

#: Every one of an extended entry's 32 subclusters is allocated, none reads as zeros ("Extended L2 Entries").
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
    """A qcow2 image of `virtual_size` bytes whose `allocated` guest clusters hold a pattern.

    With `data_file` the pattern belongs in that file, at the guest's offsets (`guest_disk` makes it), and no
    guest cluster is stored here. `incompatible` adds feature bits; the bits for compression type (zstd) and
    extended L2 change what is written accordingly. `snapshots` share all clusters with the active disk.

    Raises:
        ValueError: version 2 with features of version 3, or a header that does not fit into the first
        cluster.
    """
    incompatible |= DATA_FILE if data_file is not None else 0
    if version < 3 and incompatible:
        raise ValueError("version 2 has no feature bits, and so no data file")
    cluster = 1 << cluster_bits
    entry = 16 if incompatible & EXTENDED_L2 else 8
    per_table = cluster // entry
    guest = block_numbers(allocated, -(-virtual_size // cluster))
    tables = sorted({number // per_table for number in guest})
    l1_entries = -(-virtual_size // (cluster * per_table))
    l1_clusters = max(1, -(-8 * l1_entries // cluster))
    snapshot_clusters = -(-len(_snapshot_table([0] * snapshots, 0, 0)) // cluster)
    luks_clusters = -(-PAYLOAD_SECTOR * SECTOR // cluster) if encryption == LUKS else 0

    shared = 1 + snapshots
    space = _Clusters(
        cluster,
        l1_clusters * shared
        + snapshot_clusters
        + luks_clusters
        + len(tables)
        + (0 if data_file else len(guest)),
    )
    l1 = space.take(l1_clusters)
    l2 = {table: space.take(1, refcount=shared) for table in tables}
    snapshot_l1 = [space.take(l1_clusters) for _ in range(snapshots)]
    snapshot_table = space.take(snapshot_clusters)
    luks_offset = space.take(luks_clusters)
    data = {
        number: number * cluster if data_file is not None else space.take(1, refcount=shared)
        for number in guest
    }

    used_once = REFCOUNT_ONE if not snapshots else 0
    pieces = space.pieces()
    pieces += [(l1 + 8 * table, struct.pack(">Q", at | used_once)) for table, at in l2.items()]
    for copy in snapshot_l1:
        pieces += [(copy + 8 * table, struct.pack(">Q", at)) for table, at in l2.items()]
    for number, at in data.items():
        table, index = divmod(number, per_table)
        l2_entry = struct.pack(">QQ", at | used_once, ALL_SUBCLUSTERS)[:entry]
        pieces.append((l2[table] + entry * index, l2_entry))
    if data_file is None:
        pieces += [(at, pattern(number)) for number, at in data.items()]
    if encryption == LUKS:
        pieces.append((luks_offset, luks_header()))
    pieces.append((snapshot_table, _snapshot_table(snapshot_l1, l1_entries, virtual_size)))

    all_extensions = _extensions(
        backing_format,
        data_file,
        (luks_offset, PAYLOAD_SECTOR * SECTOR) if encryption == LUKS else None,
        extensions,
    )
    name = (backing_file or "").encode()
    header_length = HEADER_LENGTH[version]
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        header_length + len(all_extensions) if name else 0,
        len(name),
        cluster_bits,
        virtual_size,
        encryption,
        l1_entries,
        l1,
        space.table_offset,
        space.table_clusters,
        snapshots,
        snapshot_table if snapshots else 0,
    )
    if version >= 3:
        compression = ZSTD if incompatible & COMPRESSION_TYPE else 0
        header += struct.pack(">QQQIIB7x", incompatible, 0, 0, 4, header_length, compression)
    first_cluster = header + all_extensions + name
    if len(first_cluster) > cluster:
        raise ValueError(f"the header takes {len(first_cluster)} bytes, the first cluster has {cluster}")
    pieces.append((0, first_cluster))
    return Image.of(space.end, pieces)


class _Clusters:
    """The file's clusters in order: the header's, refcount table, refcount blocks, and those that are taken.

    `others` is how many will be taken; it decides how many refcount blocks, and of them how large a table,
    are needed. Those have refcounts, too.
    """

    def __init__(self, cluster: int, others: int) -> None:
        self.cluster = cluster
        self.table_offset = cluster
        self.table_clusters = self.blocks = 1
        while (needed := self._needed(1 + self.table_clusters + self.blocks + others)) != (
            self.table_clusters,
            self.blocks,
        ):
            self.table_clusters, self.blocks = needed
        self._counts = [1] * (1 + self.table_clusters + self.blocks)

    def _needed(self, total: int) -> tuple[int, int]:
        blocks = -(-total * REFCOUNT_SIZE // self.cluster)
        return -(-blocks * 8 // self.cluster), blocks

    @property
    def end(self) -> int:
        """The offset behind the last cluster taken: the file's size."""
        return len(self._counts) * self.cluster

    def take(self, count: int, *, refcount: int = 1) -> int:
        """Take `count` clusters, return the offset of the first."""
        offset = self.end
        self._counts += [refcount] * count
        return offset

    def pieces(self) -> list[tuple[int, bytes]]:
        """The refcount table and the refcounts of all clusters taken so far."""
        first_block = self.table_offset + self.table_clusters * self.cluster
        blocks = range(first_block, first_block + self.blocks * self.cluster, self.cluster)
        return [
            (self.table_offset, struct.pack(f">{self.blocks}Q", *blocks)),
            # The blocks lie behind each other, so the refcounts run on from one to the next.
            (first_block, struct.pack(f">{len(self._counts)}H", *self._counts)),
        ]


def _extensions(
    backing_format: str | None,
    data_file: str | None,
    encryption: tuple[int, int] | None,
    extra: Iterable[Extension],
) -> bytes:
    entries: list[Extension] = []
    if backing_format is not None:
        entries.append((BACKING_FORMAT_EXTENSION, backing_format.encode()))
    if data_file is not None:
        entries.append((DATA_FILE_EXTENSION, data_file.encode()))
    if encryption is not None:
        entries.append((ENCRYPTION_EXTENSION, struct.pack(">QQ", *encryption)))
    entries += extra
    packed = (
        struct.pack(">II", kind, len(data)) + data.ljust(round_up(len(data), 8), b"\0")
        for kind, data in entries
    )
    return b"".join(packed) + struct.pack(">II", 0, 0)


def _snapshot_table(l1_offsets: Sequence[int], l1_entries: int, virtual_size: int) -> bytes:
    """One entry for each snapshot, padded to 8 bytes ("Snapshots")."""
    table = b""
    for number, offset in enumerate(l1_offsets, start=1):
        identity, name = str(number).encode(), b"snapshot %d" % number
        extra = struct.pack(">QQ", 0, virtual_size)
        counts = (len(identity), len(name), SNAPSHOT_TIME, 0, 0, 0, len(extra))
        table += struct.pack(">QIHHIIQII", offset, l1_entries, *counts) + extra + identity + name
        table = table.ljust(round_up(len(table), 8), b"\0")
    return table
