"""Describes how a type of volume is recognised: by a magic number and consistent fields in a superblock."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keyhole.inspectors.fields import Fields
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.view import View

#: libblkid treats volumes of at most this many bytes as floppies, and recognises no RAID members on floppies.
FLOPPY = 1440 * 1024


class Superblock(Fields):
    """The bytes of a superblock, with the methods of `Fields` to read its fields."""

    __slots__ = ()


class Place(NamedTuple):
    """A possible place of a superblock in a volume.

    Attributes:
        offset: The superblock's offset from the beginning of the volume, in bytes.
        length: The superblock's length in bytes.
        magic: The magic number.
        at: The offset of the magic number within the superblock.
    """

    offset: int
    length: int
    magic: bytes
    at: int = 0


def _nothing_more(_superblock: Superblock, _place: Place, _view: View) -> bool:
    """Return true for every superblock. A type uses this function if only its magic number is checked."""
    return True


def _no_places(_size: int) -> tuple[Place, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A type of volume.

    A volume has this type if at least one of the places contains the magic number and a sound superblock.

    Attributes:
        name: libblkid's name for the type.
        places: The possible places whose offsets do not depend on the volume's size.
        sound: Returns whether the fields of a superblock with the magic number are consistent. It checks
            every field that libblkid or the operating system checks before it accepts such a volume. It reads
            only the superblock, and the bytes that the attributes `reads` and `behind` (below) add. It must
            return false if it needs bytes that have not been read yet.
        intact: Returns whether a sound superblock also has the correct checksum. Some readers check the
            checksum, and some do not.
        tail: Returns the places near the end of a volume of the given size in bytes. It is not called for
            volumes that are smaller than `smallest`.
        smallest: The minimum size of a volume of this type in bytes.
        reads: Ranges that `sound` and `intact` read in addition to the superblocks.
        first: The bytes with which an intact superblock begins, if the checksum alone does not prove them.
        possible: A test that every volume of this type passes and that takes less time than reading the
            superblock. It is useful for a type without a magic number, whose `magic` is empty and so matches
            everywhere: without the test, Keyhole would check a superblock in every volume.
        behind: The number of bytes, from a place's offset on, that `sound` and `intact` read. It is zero if
            they read no more than the superblock.
    """

    name: str
    places: tuple[Place, ...]
    sound: Callable[[Superblock, Place, View], bool] = _nothing_more
    tail: Callable[[int], tuple[Place, ...]] = _no_places
    smallest: int = 0
    reads: tuple[ByteRange, ...] = ()
    behind: int = 0
    intact: Callable[[Superblock, Place, View], bool] = _nothing_more
    first: bytes = b""
    possible: Callable[[View], bool] | None = None

    def ends(self, size: int | None) -> tuple[Place, ...]:
        """Return the places near the end of a volume of `size` bytes; none if the size is `None`."""
        return self.tail(size) if size is not None and size >= self.smallest else ()

    def holds(self, place: Place, view: View) -> bool:
        """Return whether a place that contains the magic number contains a sound superblock of this type."""
        if self.smallest and (view.size is None or view.size < self.smallest):
            return False  # the size is unknown, or it is too small for this type
        if self.possible is not None and not self.possible(view):
            return False
        superblock = Superblock(view.read(place.offset, place.length))
        return len(superblock) == place.length and self.sound(superblock, place, view)

    def is_intact(self, place: Place, view: View) -> bool:
        """Return whether the superblock at a place has the correct checksum, and begins as it must."""
        superblock = Superblock(view.read(place.offset, place.length))
        return superblock.startswith(self.first) and self.intact(superblock, place, view)
