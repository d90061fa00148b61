"""Searches a whole disk for a volume, because a volume can fill a disk that has no partitions."""

from collections.abc import Iterator
from typing import Final

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.udf import IDENTIFIERS
from keyhole.inspectors.region import CaptureRegion, TailRegion
from keyhole.inspectors.volumes import volumes
from keyhole.inspectors.volumes.lengths import stated_length
from keyhole.inspectors.volumes.view import RegionsView

#: How many bytes at the disk's front are kept in memory (held) and searched for superblocks. By default, the
#: first GET of a scan fetches these bytes.
FRONT: Final = volumes.FRONT
#: If the object begins with the header of another format, Keyhole searches only the first bytes of the
#: object, up to this offset, for superblocks. btrfs' superblock, which is at 64 KiB, is before this offset.
HEADERS: Final = 68 * 1024
#: The magic of a sparse VMDK. A sparse VMDK begins with its metadata, the "overhead". Guest data can follow
#: after the overhead, within the first 68 KiB. So Keyhole searches only the overhead for superblocks, or the
#: first `LEAST_OVERHEAD` bytes if a header states a shorter overhead. The field `VMDK_OVERHEAD` of the header
#: states the length of the overhead in sectors.
VMDK: Final = b"KDMV"
VMDK_OVERHEAD: Final = slice(64, 72)
LEAST_OVERHEAD: Final = 8192
#: How many bytes at the object's end are searched for superblocks. The superblock of Linux RAID 0.90 is up to
#: 128 KiB before the end.
END_BYTES: Final = 128 * 1024
#: A length in bytes that is large enough for every type of volume. Some methods use this length instead of
#: the object's length, because the object's length may still be unknown.
LONGEST: Final = 2**63
#: The ranges of a disk that can contain superblocks, except the ranges at the disk's front and end.
BEHIND: Final = volumes.far(None)
#: The prefix of the names of the regions that capture the ranges in `BEHIND`.
BETWEEN: Final = "volume_between_"
#: The identifier of an optical disc is in its first volume descriptor, at this offset. `DISCS` contains the
#: identifiers of ISO 9660 and UDF.
DISC_AT: Final = 32_769
DISCS: Final = frozenset(IDENTIFIERS)
#: An image that begins with `OWN_MARK` is a LUKS image, so Keyhole reports the format `luks`. The same bytes
#: are also the mark of the volume that libblkid calls `OWN_NAME`. Keyhole does not report this volume in
#: addition.
OWN_MARK: Final = b"LUKS\xba\xbe"
OWN_NAME: Final = "crypto_LUKS"


class DiskVolume:
    """The volume that fills a disk. The methods' parameter `size` is the object's length; `None`: unknown.

    Args:
        disk: The disk's inspector, in which the regions are declared.
        everywhere: Whether to search all places for superblocks. Callers pass false if the object begins with
            the header of another format. A superblock after the header then belongs to the guest's data, and
            not to the object.
    """

    def __init__(self, disk: FileInspector, *, everywhere: bool) -> None:
        self._disk = disk
        self._everywhere = everywhere
        self._regions: list[CaptureRegion] = []
        # The places at the front that contain magic numbers; `None` until the front is held.
        self._in_front: list[volumes.Marked] | None = None
        # The object's length and the number of held bytes at the last search, and the volumes that this
        # search found.
        self._found: tuple[tuple[int | None, int], tuple[str, ...]] | None = None
        self._declare("volume", CaptureRegion(0, FRONT if everywhere else HEADERS))

    def look_behind(self) -> None:
        """Declare the regions at the end of the disk, and between its front and its end.

        Do nothing if the front is not held yet, or if the front contains a volume or an optical disc.
        """
        if not self._regions[0].complete or self._disk.has_region("volume_end") or self._explained:
            return
        self._declare("volume_end", TailRegion(END_BYTES))
        for number, part in enumerate(BEHIND):
            self._declare(f"{BETWEEN}{number}", CaptureRegion(*part))

    def names(self, size: int | None) -> tuple[str, ...]:
        """Return the volumes that fill the whole disk: the names that libblkid has for their types."""
        if not self._disk.filled("volume"):
            return ()
        # Search again only if more bytes have been read since the last search, or the object's length has
        # become known.
        known = size, sum(region.held for region in self._regions)
        if self._found is None or self._found[0] != known:
            own = not self._everywhere and self._regions[0].data.startswith(OWN_MARK)
            names = volumes.names(self.view(size), self._marked)
            self._found = known, tuple(name for name in names if not own or name != OWN_NAME)
        return self._found[1]

    def mark(self, size: int | None) -> str:
        """Return the superblock of the first volume in `names`, with its offset."""
        names = self.names(size)
        return self._superblock(names[0], size) if names else "volume"

    def length(self, size: int | None) -> int | None:
        """Return the length in bytes that the volume's superblock states, or `None`.

        A disk can have two superblocks: one of a file system, and one of an array or a volume group of which
        the disk is a member. The result is then the length in the second one.
        """
        names = self.names(size)
        return stated_length(names[0], self.view(size)) if names and not volumes.ambivalent(names) else None

    def checks(self, size: int) -> Iterator[Finding]:
        """Yield a finding for contradictory superblocks, for a wrong checksum, and for a truncated volume."""
        names = self.names(size)
        if volumes.ambivalent(names):
            marks = [self._superblock(name, size) for name in names]
            yield found("ambiguous_format", f"the volume has a {' and a '.join(marks)}")
        view = self.view(size)
        for name in volumes.damaged(view) if names else ():
            yield found("checksum_mismatch", f"the {name} superblock {volumes.flaw(name, view)}")
        length = self.length(size)
        if length is not None and length > size:
            yield found("truncated", f"the {names[0]} has {length} bytes, the object has {size}")

    def view(self, size: int | None) -> RegionsView:
        """Return the whole disk as one volume.

        If the object begins with the header of a sparse VMDK, the view ends with the VMDK's metadata, because
        guest data can follow.
        """
        front = b"" if self._everywhere else self._regions[0].data
        if front.startswith(VMDK):
            overhead = int.from_bytes(front[VMDK_OVERHEAD], "little") * SECTOR
            return RegionsView(self._regions, 0, size, max(overhead, LEAST_OVERHEAD))
        return RegionsView(self._regions, 0, size)

    def _superblock(self, name: str, size: int | None) -> str:
        return f"{name} superblock at byte {volumes.offset_of(name, self.view(size))}"

    @property
    def _marked(self) -> list[volumes.Marked]:
        """The places at the front that contain magic numbers. The caller ensures that the front is held."""
        if self._in_front is None:
            self._in_front = volumes.marked(self.view(None).front)
        return self._in_front

    @property
    def _explained(self) -> bool:
        """Whether the front contains a volume, or an optical disc's descriptor, which is at 32 KiB.

        If so, the rest of the disk is not searched. The object's length is not used, because it may still be
        unknown.
        """
        if self._regions[0].at(DISC_AT, 5) in DISCS:
            return True
        front = RegionsView(self._regions[:1], 0, LONGEST)
        return bool(self._marked and volumes.names(front, self._marked))

    def _declare(self, name: str, region: CaptureRegion) -> None:
        self._disk.new_region(name, region)
        self._regions.append(region)
