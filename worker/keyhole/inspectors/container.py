"""The base of containers: objects that contain members, each with an inspection of its own.

A member is a range of the container, or a decoder's output. Its inspection asks for bytes by the member's own
offsets. The container knows where these lie in the object, and passes on the bytes that arrive.

- The container declares members like regions (`new_member`), from captured bytes, and shows them the current
  piece.
- A member is settled once its inspection has all that it wants. The container then keeps the member's facts,
  if it counts it as a member (`keeps`), and drops the inspection.
- A container in a container is a member like any other, down to `inside.MAX_DEPTH`.
- The number of members that are inspected at once is bounded (`busy`), and so is the number of members that
  are kept (`full`). Both bound the memory. Deferring an inspection does not change its result.
- The inspection learns the member's length once all of the member is known to lie inside the object, or once
  the object's length is known. If the member is cut off, the inspection sees the part that is there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.effort import spend
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.inside import Inside, Look
from keyhole.inspectors.region import ByteRange

#: The most members that are kept. An appliance has a handful of disks, a container image some dozen layers.
MAX_MEMBERS = 1000
#: The most members that are inspected at once. A scan has two or three open: a request for a disk's end also
#: brings the front of the next disk.
MAX_OPEN = 32
#: More than `FEW_OPEN` members are inspected at once only while all of them hold fewer than `MAX_OPEN_BYTES`.
FEW_OPEN, MAX_OPEN_BYTES = 4, 2 * 1024**2
#: How many first bytes of a member are kept if the member was not recognised.
FRONT_BYTES = 4096
#: The largest total size of all disks: a larger one does not fit into 64 bits.
MAX_VIRTUAL_SIZE = 2**64 - 1


class PlacedMember:
    """A member whose bytes are stored in the container unchanged.

    Args:
        name: The name that the container gives it.
        extents: Where its bytes lie.
        inspection: The inspection of its bytes.
    """

    def __init__(self, name: str, extents: ExtentMap, inspection: Look) -> None:
        self.name = name
        self.inspection = inspection
        self._extents = extents
        self._length: int | None = None
        # The facts, cached until bytes arrive, because callers and outer containers ask for them often.
        self._known: Member | None = None

    def feed(self, offset: int, data: bytes) -> None:
        """Take bytes of the container that begin at `offset`, and pass on those that are the member's."""
        self._known = None
        for part in self._extents.placed(offset, offset + len(data)):
            start = part.place - offset
            self.inspection.feed(part.offset, data[start : start + part.length])

    def reach(self, highest: int, size: int | None) -> None:
        """Take note of the container's length: `size` bytes or, while that is unknown, at least `highest`."""
        self._known = None
        available = self._extents.available(highest if size is None else size)
        if self._length is None and (size is not None or available == self._extents.size):
            self._length = available
            self.inspection.finish(available)
        self._fill_holes(available)

    def missing(self) -> Iterator[ByteRange]:
        """The ranges of the container that the inspection wants."""
        for wanted in self.inspection.missing():
            for part in self._extents.within(wanted.offset, wanted.end):
                yield ByteRange(part.place, part.length)

    @property
    def complete(self) -> bool:
        """Whether the inspection has all that it wants."""
        return self._length is not None and self.inspection.complete

    def known(self) -> Member:
        """The member with its facts as they are known now."""
        if self._known is None:
            self._known = self._told()
        return self._known

    def _told(self) -> Member:
        facts = self.inspection.facts()
        facts = replace(facts, first_bytes=facts.first_bytes[:FRONT_BYTES])
        return Member(self.name, self._extents.place, self._extents.size, facts)

    def _fill_holes(self, available: int) -> None:
        """Show the inspection the zeros of holes, until it wants no more of them.

        If the member is cut off, holes after the cut are not shown.
        """
        given = self._extents.sparse
        while given:
            given = False
            for wanted in self.inspection.missing():
                for start, end in self._extents.holes(wanted.offset, min(wanted.end, available)):
                    self.inspection.feed(start, bytes(end - start))
                    given = True


class ContainerInspector(FileInspector):
    """The inspector of a container, with the inspections of its members.

    Args:
        tracing: Passed on to the members' inspections, too.
        inside: How its members may be inspected.
    """

    IS_CONTAINER = True

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing)
        self.inside = inside or Inside()
        self.thorough = self.inside.thorough
        self._count = 0
        # By the members' numbers, in whose order members are reported.
        self._open: dict[int, PlacedMember] = {}
        self._kept: dict[int, Member] = {}
        self._fresh: dict[int, PlacedMember] = {}

    # What subclasses call

    def new_member(self, name: str, extents: ExtentMap) -> int:
        """Declare a member whose bytes are stored in the container unchanged, and number it, from 0."""
        return self.add_member(PlacedMember(name, extents, self.inside.look()))

    def add_member(self, member: PlacedMember) -> int:
        """Declare a member, and number it."""
        number = self._count
        self._count += 1
        self._open[number] = self._fresh[number] = member
        return number

    def skip_member(self) -> int:
        """Number a member that is not inspected."""
        self._count += 1
        return self._count - 1

    def take(self, name: str) -> bytes:
        """Return the bytes of a filled region and forget the region, so that it may be declared again."""
        data = self.captured(name)
        del self._regions[name]
        if name in self._asked_for:
            self._asked_for.pop(name).release()
        return data

    @property
    def busy(self) -> bool:
        """Whether the next member must wait until an earlier one is settled."""
        many = len(self._open) >= MAX_OPEN or (bool(self._open) and self._most >= MAX_MEMBERS)
        return many or self.holds_much or (len(self._open) >= FEW_OPEN and self._open_bytes >= MAX_OPEN_BYTES)

    @property
    def _open_bytes(self) -> int:
        """How many bytes the open members hold."""
        return sum(sum(member.inspection.context_info.values()) for member in self._open.values())

    @property
    def full(self) -> bool:
        """Whether the container has as many members as may be kept."""
        return self._most >= MAX_MEMBERS

    @property
    def holds_much(self) -> bool:
        """Whether a member is being decompressed. That takes much memory, so it is done one at a time."""
        return any(member.inspection.holds_much for member in self._open.values())

    # What subclasses override

    def keeps(self, member: Member) -> bool:  # noqa: ARG002 - for subclasses that look at it
        """Whether a settled file counts as a member."""
        return True

    # What goes in

    def feed(self, offset: int, data: bytes) -> None:
        """Present bytes from anywhere, also to the members; see `FileInspector.feed`."""
        if not data:
            return
        self._highest = max(self._highest, offset + len(data))
        self._show(self._open, offset, data)
        while True:
            self._fresh = {}
            super().feed(offset, data)
            if not self._fresh:
                return
            # Show the piece to the members declared just now. Once they are settled, more may be declared.
            self._show(self._fresh, offset, data)

    def finish(self, size: int | None = None) -> None:
        """Set the object's length; see `FileInspector.finish`. It also settles the members' lengths."""
        super().finish(size)
        while self._settle(self._open):
            super().finish(size)

    def close(self) -> None:
        """Release the memory of the container and its members; see `FileInspector.close`."""
        super().close()
        for member in self._open.values():
            member.inspection.close()

    def missing(self) -> list[ByteRange]:
        """The ranges that the container and its members want."""
        return [*super().missing(), *(part for member in self._open.values() for part in member.missing())]

    @property
    def complete(self) -> bool:
        """Whether the container and all its members have what they want."""
        return super().complete and not self._open

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each region holds in memory; members' regions are named `number/region`."""
        inside = {
            f"{number}/{name}": held
            for number, member in self._open.items()
            for name, held in member.inspection.context_info.items()
        }
        return {**super().context_info, **inside}

    # What comes out

    def members(self) -> tuple[Member, ...]:
        """The members, in their order, including those that are not fully inspected yet."""
        return tuple(self._numbered().values())

    @property
    def virtual_size(self) -> int:
        """The total size of all members' disks; zero if the size of one is unknown, or there is no disk."""
        return _total(member.facts.virtual_size for member in self.members() if member.facts.format)

    def other_sizes(self) -> Mapping[str, int]:
        """Return the virtual size for each reader that sees another size for some member's disk."""
        facts = [member.facts for member in self.members() if member.facts.format]
        readers = sorted({reader for one in facts for reader in one.other_sizes})
        return {reader: _total(one.virtual_size_by(reader) for one in facts) for reader in readers}

    @property
    def wholeness(self) -> Wholeness:
        """Whether the container itself is whole. Each member has a wholeness of its own."""
        return Wholeness.UNCHECKED

    # How it works

    def _numbered(self) -> dict[int, Member]:
        """The members by their numbers."""
        unsettled = ((number, member.known()) for number, member in self._open.items())
        known = {**self._kept, **{number: member for number, member in unsettled if self.keeps(member)}}
        return {number: known[number] for number in sorted(known)}

    @property
    def _most(self) -> int:
        """How many members there would be if all open ones were kept."""
        return len(self._kept) + len(self._open)

    def _show(self, members: dict[int, PlacedMember], offset: int, data: bytes) -> None:
        for member in members.values():
            # Set the member's length first: the inspection of a short member needs only that.
            member.reach(self._highest, self._size)
            member.feed(offset, data)
        self._settle(members)

    def _settle(self, members: dict[int, PlacedMember]) -> bool:
        """Keep the facts of complete members, and close their inspections. Return whether there were any."""
        settled = []
        for number, member in members.items():
            member.reach(self._highest, self._size)
            if member.complete:
                settled.append(number)
        for number in settled:
            spend()
            member = self._open.pop(number)
            known = member.known()
            member.inspection.close()
            if self.keeps(known):
                self._kept[number] = known
        return bool(settled)


def _total(sizes: Iterable[int | None]) -> int:
    """The sum of sizes; zero if one is unknown, or if the sum is more than a disk can have."""
    known = list(sizes)
    total = sum(size for size in known if size) if all(known) else 0
    return total if total <= MAX_VIRTUAL_SIZE else 0
