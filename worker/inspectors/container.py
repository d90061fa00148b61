"""What containers have in common: members that lie in them, each of which is an inspection of its own.

A member is a stretch of the container, or what a decoder makes of it. Its inspection wants bytes by the
member's own offsets; the container says where these lie in the object, and hands on what comes.

- Members are declared as regions are (`new_member`), from what is captured, and are shown the piece that
  passes at that moment. They are kept until the end: their facts are the container's.
- A container in a container is a member as any other, down to `MAX_DEPTH`.
- The number of members that are inspected is bounded, and with it what is held in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.inspectors.base import FileInspector
from worker.inspectors.facts import Member, Wholeness
from worker.inspectors.region import ByteRange

if TYPE_CHECKING:
    from worker.inspectors.inspection import Inspection

#: A disk in an archive in a compressed archive in an image's layer; nobody packs deeper by accident.
MAX_DEPTH = 4
#: Members that are inspected. An appliance has a handful of disks; a container image some dozen layers.
MAX_MEMBERS = 1000


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a member: where it lies in the member, and in the container (`None`: a hole of zeros)."""

    offset: int
    length: int
    container_offset: int | None


class PlacedMember:
    """A member whose bytes lie in the container as they are.

    Args:
        name: As the container calls it.
        size: The member's length in bytes.
        extents: Where its bytes lie, in ascending order and without a gap.
        inspection: What looks at it.
    """

    def __init__(self, name: str, size: int, extents: Sequence[Extent], inspection: "Inspection") -> None:
        self.name = name
        self.size = size
        self.extents = extents
        self.inspection = inspection
        inspection.finish(size)
        self._fill_holes()

    @property
    def offset(self) -> int | None:
        """Where it begins in the container; `None` if it begins with a hole."""
        return self.extents[0].container_offset if self.extents else None

    def feed(self, offset: int, data: bytes) -> None:
        """Hand on what belongs to the member, of bytes of the container that begin at `offset`."""
        for extent in self.extents:
            if extent.container_offset is None:
                continue
            start = max(offset, extent.container_offset)
            end = min(offset + len(data), extent.container_offset + extent.length)
            if start < end:
                at = extent.offset + start - extent.container_offset
                self.inspection.feed(at, data[start - offset : end - offset])
        self._fill_holes()

    def missing(self) -> Iterator[ByteRange]:
        """The ranges of the container that the inspection wants."""
        for wanted in self.inspection.missing():
            for extent in self.extents:
                start = max(wanted.offset, extent.offset)
                end = min(wanted.end, extent.offset + extent.length)
                if start < end and extent.container_offset is not None:
                    yield ByteRange(extent.container_offset + start - extent.offset, end - start)

    @property
    def complete(self) -> bool:
        """Whether the inspection has all that it wants."""
        return self.inspection.complete

    def _fill_holes(self) -> None:
        """Give the inspection the zeros that it wants. Each time it may want more, as often as it may ask."""
        holes = [extent for extent in self.extents if extent.container_offset is None]
        while holes:
            given = False
            for wanted in self.inspection.missing():
                for hole in holes:
                    start = max(wanted.offset, hole.offset)
                    end = min(wanted.end, hole.offset + hole.length)
                    if start < end:
                        self.inspection.feed(start, bytes(end - start))
                        given = True
            if not given:
                return


class ContainerInspector(FileInspector):
    """A container: what it is itself, and its members."""

    def __init__(self, tracing: bool = False, depth: int = 0) -> None:
        super().__init__(tracing)
        self._depth = depth
        self._members: list[PlacedMember] = []

    # What subclasses call

    def new_member(self, name: str, size: int, extents: Sequence[Extent]) -> PlacedMember:
        """Declare a member whose bytes lie in the container; a whole one is a single extent."""
        member = PlacedMember(name, size, extents, self.new_inspection())
        self._members.append(member)
        return member

    def new_inspection(self) -> "Inspection":
        """An inspection of something inside."""
        # An inspection looks for containers, and a container holds inspections.
        from worker.inspectors.inspection import Inspection  # noqa: PLC0415

        return Inspection(depth=self._depth + 1)

    @property
    def full(self) -> bool:
        """Whether no further member is inspected."""
        return len(self._members) >= MAX_MEMBERS

    @property
    def too_deep(self) -> bool:
        """Whether what lies inside is not looked into: containers in containers have an end."""
        return self._depth >= MAX_DEPTH

    # What goes in

    def feed(self, offset: int, data: bytes) -> None:
        """Present bytes from anywhere; see `FileInspector.feed`. Members are shown them, too."""
        known = len(self._members)
        for member in self._members:
            member.feed(offset, data)
        super().feed(offset, data)
        # What was declared just now is shown the piece, which may make the container declare more.
        while known < len(self._members):
            fresh = self._members[known:]
            known = len(self._members)
            for member in fresh:
                member.feed(offset, data)
            super().feed(offset, data)

    def missing(self) -> list[ByteRange]:
        """What the container and its members want."""
        return [*super().missing(), *(part for member in self._members for part in member.missing())]

    @property
    def complete(self) -> bool:
        """Whether the container and all its members have what they want."""
        return super().complete and all(member.complete for member in self._members)

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each region holds in memory, those of members as `name/region`."""
        inside = {
            f"{number}/{name}": held
            for number, member in enumerate(self._members)
            for name, held in member.inspection.context_info.items()
        }
        return {**super().context_info, **inside}

    # What comes out

    def members(self) -> tuple[Member, ...]:
        """The members that were inspected, in their order."""
        return tuple(
            Member(member.name, member.offset, member.size, member.inspection.facts())
            for member in self._members
        )

    @property
    def virtual_size(self) -> int:
        """The sizes of all members' disks together; zero if one is unknown, or there is none."""
        sizes = [member.facts.virtual_size for member in self.members() if member.facts.format]
        return sum(size for size in sizes if size) if all(sizes) else 0

    @property
    def wholeness(self) -> Wholeness:
        """That of the members is told by them; the container is as whole as its own marks say."""
        return Wholeness.UNCHECKED
