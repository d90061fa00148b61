"""Apple Sparse Image Format (ASIF), introduced with macOS 26. All fields are big-endian.

Source: Apple has not published a specification. Two projects have described the fields: "ASIF binary
specification" (github.com/huven/asif-format) and dissect.hypervisor, disk/c_asif.py.

| offset | bytes | field of the header |
|---|---|---|
| 0 | 4 | signature `shdw` |
| 4 | 4 | version, 1 |
| 8 | 4 | header size in bytes, 512 |
| 16 | 2 x 8 | offsets of the two directories, in bytes |
| 32 | 16 | UUID |
| 48 | 8 | virtual size in sectors |
| 56 | 8 | maximum size of the disk in sectors |
| 64 | 4 | chunk size in bytes |
| 68 | 2 | sector size in bytes |

A directory begins with a sequence number (u64). A u64 for each table follows: the number of the chunk that
contains the table, or zero if there is no table. The directory with the higher sequence number is in use. The
tables map the chunks of the disk to the chunks of the file.

Wholeness: unchecked. The file stores chunks in any order, and only the tables show which chunk is the last
one in the file. Keyhole does not read the tables, because the tables take about 1 MiB for each 100 GiB of the
disk. If a file is too short for its directories, or for the tables that the directories point to, Keyhole
reports the file as truncated. Keyhole cannot detect other missing chunks.
"""

from collections.abc import Iterator, Mapping
from struct import unpack_from
from uuid import UUID

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion

SIGNATURE = b"shdw"
VERSION = 1
#: Only the first 80 of the header's 512 bytes are read, because no further fields are known.
HEADER_BYTES = 80
DIRECTORIES = 2
#: At most this many directory entries are read. With the usual chunk size of 1 MiB, a table maps 126 GiB of
#: the disk, so this many tables map a disk of 63 TiB.
MAX_TABLES = 512
#: The largest chunk size that Keyhole accepts. All known images have chunks of 1 MiB.
MAX_CHUNK_BYTES = 1 << 30
#: The valid sector sizes in bytes.
SECTOR_SIZES = (512, 1024, 2048, 4096)


class ASIFInspector(HeaderInspector):
    """ASIF: reads the header and the beginning of each directory."""

    NAME = "asif"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (SIGNATURE,)
    BYTE_ORDER = "big"

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes; zero until the header is read, or if a size in the header is invalid."""
        return self._u64(48) * self._sector if self._sizes_make_sense else 0

    def post_process(self) -> None:
        """Request both directories once the header, which contains their offsets, has been read."""
        if self.has_region("directory_0") or not self._tables:
            return
        for number in range(DIRECTORIES):
            region = CaptureRegion(self._u64(16 + 8 * number), 8 + 8 * self._tables)
            self.new_region(f"directory_{number}", region)

    def details(self) -> Mapping[str, object]:
        """The UUID, the chunk size, the sector size and the maximum size of the disk."""
        if not self._readable:
            return {}
        return {
            "uuid": str(UUID(bytes=self.captured("header")[32:48])),
            "chunk_size": self._chunk,
            "sector_size": self._sector,
            "maximum_size": self._u64(56) * self._sector,
        }

    def checks(self) -> list[Finding]:
        """Return findings on the header, on overlaps, and on directories and tables outside the object."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._readable:
            return [found("truncated", "the object ends within the ASIF header")]
        return [*self._states(), *self._overlaps(), *self._lengths()]

    def _states(self) -> Iterator[Finding]:
        version = int.from_bytes(self.captured("header")[4:8], "big")
        if version != VERSION:
            yield found("unknown_features", f"ASIF version {version} is unknown")
        if not self._sizes_make_sense:
            yield found(
                "structure",
                f"chunks of {self._chunk} bytes with sectors of {self._sector} bytes are not valid",
            )
        if self._u64(48) > self._u64(56):
            yield found("structure", "the virtual size is larger than the maximum size in the header")

    def _overlaps(self) -> list[Finding]:
        """Return findings on tables that overlap the header, a directory or another table."""
        directories = [f"directory_{number}" for number in range(DIRECTORIES)]
        held = [self.region(name) for name in directories if self.has_region(name)]
        parts = [Part(one.offset, one.offset + one.length, "a directory") for one in held]
        tables = Blocks("a table", self._active, self._chunk, unit=max(self._chunk, 1))
        return overlaps([Part(0, HEADER_BYTES, "the header"), *parts], tables)

    def _lengths(self) -> Iterator[Finding]:
        if self._size is None:
            return
        for number in range(DIRECTORIES):
            name = f"directory_{number}"
            if self.has_region(name) and self.region(name).offset + 8 > self._size:
                yield found("truncated", f"directory {number} is beyond the end of the object")
        end = (max(self._active, default=0) + 1) * self._chunk
        if self._active and end > self._size:
            yield found("truncated", f"a table ends at byte {end}, but the object ends at byte {self._size}")

    # Header and directories

    @property
    def _active(self) -> tuple[int, ...]:
        """The numbers of the chunks that contain tables, according to the directory in use.

        The result is empty until both directories have been read.
        """
        held = [self.captured(f"directory_{number}") for number in range(DIRECTORIES)]
        if any(len(data) < 8 for data in held):
            return ()
        newest = max(held, key=lambda data: int.from_bytes(data[:8], "big"))
        return tuple(chunk for chunk in unpack_from(f">{len(newest) // 8 - 1}Q", newest, 8) if chunk)

    @property
    def _tables(self) -> int:
        """The number of tables that the disk needs at its current size, but at most `MAX_TABLES`."""
        if not self._sizes_make_sense:
            return 0
        group = 4 * self._sector
        groups = self._chunk // (8 * (group + 1))
        return min(MAX_TABLES, -(-self.virtual_size // (groups * group * self._chunk))) if groups else 0

    @property
    def _sizes_make_sense(self) -> bool:
        if not self._readable or self._sector not in SECTOR_SIZES:
            return False
        return 0 < self._chunk <= MAX_CHUNK_BYTES and self._chunk % self._sector == 0

    @property
    def _readable(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES

    @property
    def _chunk(self) -> int:
        return int.from_bytes(self.captured("header")[64:68], "big")

    @property
    def _sector(self) -> int:
        return int.from_bytes(self.captured("header")[68:70], "big")
