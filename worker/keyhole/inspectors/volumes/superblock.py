"""How a type of volume is recognised: a magic number in its place, a superblock that agrees with itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keyhole.inspectors.fields import Fields
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.view import View

#: libblkid takes volumes up to this size for floppies, and finds no RAID member on them.
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
    """For formats whose superblock has nothing that can be checked but its magic number."""
    return True


def _no_places(_size: int) -> tuple[Place, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A type of volume. One of its places with the magic number and a sound superblock is enough.

    Attributes:
        name: libblkid's.
        places: Places that are counted from the volume's beginning.
        sound: Whether a superblock with the magic number agrees with itself, as far as any reader wants that:
            libblkid, in any version, or the system whose file system it is. It reads nothing of the view
            but what `reads` and `behind` name, and never takes unknown bytes for good ones.
        intact: Whether one that is sound has its checksum, too, which not all readers look at.
        tail: Places that are counted from the volume's end, by its size in bytes. It is not asked about
            volumes that are smaller than `smallest`.
        smallest: What is smaller, in bytes, is not this.
        reads: What is read beside the places.
        behind: How many bytes from a place's offset on are read, if more than the superblock has.
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
        """Whether what stands at a place, where the magic number is, is this type's superblock."""
        if self.smallest and (view.size is None or view.size < self.smallest):
            return False  # a volume of unknown length may be too short
        superblock = Superblock(view.read(place.offset, place.length))
        return len(superblock) == place.length and self.sound(superblock, place, view)

    def is_intact(self, place: Place, view: View) -> bool:
        """Whether the superblock that stands at a place has its checksum."""
        return self.intact(Superblock(view.read(place.offset, place.length)), place, view)
