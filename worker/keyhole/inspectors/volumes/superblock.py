"""Recognises a type of volume by a magic number in its place and a superblock that agrees with itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keyhole.inspectors.fields import Fields
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.view import View

#: libblkid takes volumes up to this size for floppies, and recognises no RAID member on them.
FLOPPY = 1440 * 1024


class Superblock(Fields):
    """The bytes of a superblock."""

    __slots__ = ()


class Place(NamedTuple):
    """Where a superblock may stand: `length` bytes from `offset`, the magic number `at` bytes into them."""

    offset: int
    length: int
    magic: bytes
    at: int = 0


def _nothing_more(_superblock: Superblock, _place: Place, _view: View) -> bool:
    """Accept a superblock that has nothing else to check than its magic number."""
    return True


def _no_places(_size: int) -> tuple[Place, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A type of volume. A volume has it if one place has the magic number and a sound superblock.

    Attributes:
        name: libblkid's name for the type.
        places: Places that are counted from the volume's beginning.
        sound: Whether a superblock with the magic number agrees with itself, as far as any reader checks
            that: libblkid, in any version, or the system whose file system it is. It reads no other bytes of
            the view than `reads` and `behind` name, and never accepts unknown bytes as correct.
        intact: Whether a sound superblock also has the right checksum, which not all readers check.
        tail: Returns the places that are counted from the volume's end, for the volume's size in bytes. It
            is not called for volumes that are smaller than `smallest`.
        smallest: The least size of such a volume in bytes.
        reads: Ranges that are read besides the places.
        behind: How many bytes are read from a place's offset on, if that is more than the superblock has.
    """

    name: str
    places: tuple[Place, ...]
    sound: Callable[[Superblock, Place, View], bool] = _nothing_more
    tail: Callable[[int], tuple[Place, ...]] = _no_places
    smallest: int = 0
    reads: tuple[ByteRange, ...] = ()
    behind: int = 0
    intact: Callable[[Superblock, Place, View], bool] = _nothing_more

    def ends(self, size: int | None) -> tuple[Place, ...]:
        """The places counted from the end of a volume of `size` bytes; none while that is unknown."""
        return self.tail(size) if size is not None and size >= self.smallest else ()

    def holds(self, place: Place, view: View) -> bool:
        """Whether a place that has the magic number holds a superblock of this type."""
        if self.smallest and (view.size is None or view.size < self.smallest):
            return False  # a volume of unknown length may be too short
        superblock = Superblock(view.read(place.offset, place.length))
        return len(superblock) == place.length and self.sound(superblock, place, view)

    def is_intact(self, place: Place, view: View) -> bool:
        """Whether the superblock at a place has the right checksum."""
        return self.intact(Superblock(view.read(place.offset, place.length)), place, view)
