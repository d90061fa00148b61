"""The base class of inspectors of containers. The members of a container are inspected separately.

A member is a range of the container, or the output of a decoder. The member's inspection requests bytes by
offsets within the member. The container's inspector translates these offsets into offsets within the object,
and passes the bytes that arrive to the member's inspection.

- Once captured bytes describe a member, the container's inspector declares the member (`new_member`). It then
  passes the caller's current piece of data to the member's inspection, too.
- A member is settled once its inspection needs no more bytes. The container's inspector then closes the
  member's inspection, and keeps the member's facts if `keeps` returns true.
- A container can be a member of another container, up to a depth of `inside.MAX_DEPTH`.
- To bound the memory, the number of members that are inspected at once is limited (`busy`), and so is the
  number of members that are kept (`full`). Waiting because of these limits does not change the result of an
  inspection.
- The container's inspector passes the member's length to the member's inspection once it knows the object's
  length, or knows that the object contains the whole member. If the object ends within the member, the
  inspection receives only the bytes inside the object, and their number as the member's length.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.effort import spend
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.inside import Inside, Look
from keyhole.inspectors.region import ByteRange

#: The most members that are kept. A virtual machine has a handful of disks, and a container image has a few
#: dozen layers.
MAX_MEMBERS = 1000
#: The most members that are inspected at once. A scan usually needs two or three, because a request for the
#: end of one disk also returns the front of the next disk.
MAX_OPEN = 32
#: While at least `FEW_OPEN` members are open and hold at least `MAX_OPEN_BYTES` bytes in memory, the next
#: inspection waits.
FEW_OPEN, MAX_OPEN_BYTES = 4, 2 * 1024**2
#: How many of the first bytes of an unrecognised member are kept.
FRONT_BYTES = 4096
#: The largest total size of all disks in bytes. The total must fit into 64 bits.
MAX_VIRTUAL_SIZE = 2**64 - 1


class PlacedMember:
    """A member whose bytes are stored in the container unchanged.

    Args:
        name: The member's name in the container.
        extents: The places of the member's bytes in the container.
        inspection: The inspection of the member's bytes.
    """

    def __init__(self, name: str, extents: ExtentMap, inspection: Look) -> None:
        self.name = name
        self.inspection = inspection
        self._extents = extents
        self._length: int | None = None
        # The facts, cached until bytes arrive, because callers and outer containers request them often.
        self._known: Member | None = None

    def feed(self, offset: int, data: bytes) -> None:
        """Pass the member's part of `data` to the inspection. `data` begins at `offset` in the container."""
        self._known = None
        for part in self._extents.placed(offset, offset + len(data)):
            start = part.place - offset
            self.inspection.feed(part.offset, data[start : start + part.length])

    def reach(self, highest: int, size: int | None) -> None:
        """Set the container's length to `size` bytes; `None` means a length of at least `highest` bytes."""
        self._known = None
        available = self._extents.available(highest if size is None else size)
        if self._length is None and (size is not None or available == self._extents.size):
            self._length = available
            self.inspection.finish(available)
        self._fill_holes(available)

    def missing(self) -> Iterator[ByteRange]:
        """Yield the ranges of the container that the member's inspection still needs."""
        for wanted in self.inspection.missing():
            for part in self._extents.within(wanted.offset, wanted.end):
                yield ByteRange(part.place, part.length)

    @property
    def complete(self) -> bool:
        """Whether the member's length is known and its inspection needs no more bytes."""
        return self._length is not None and self.inspection.complete

    def known(self) -> Member:
        """Return the member with the facts that are known so far."""
        if self._known is None:
            self._known = self._told()
        return self._known

    def _told(self) -> Member:
        facts = self.inspection.facts()
        facts = replace(facts, first_bytes=facts.first_bytes[:FRONT_BYTES])
        return Member(self.name, self._extents.place, self._extents.size, facts)

    def _fill_holes(self, available: int) -> None:
        """Pass zeros for the member's holes to the inspection, until it needs no more bytes in holes.

        If the object ends within the member, only the holes before the member's first missing byte are
        filled.
        """
        given = self._extents.sparse
        while given:
            given = False
            for wanted in self.inspection.missing():
                for start, end in self._extents.holes(wanted.offset, min(wanted.end, available)):
                    self.inspection.feed(start, bytes(end - start))
                    given = True


class ContainerInspector(FileInspector):
    """The inspector of a container, which also runs the inspections of the container's members.

    Args:
        tracing: See `FileInspector`.
        inside: The container's depth and the limits for the inspection of its members.
    """

    IS_CONTAINER = True

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing)
        self.inside = inside or Inside()
        self.thorough = self.inside.thorough
        self._count = 0
        # The keys are the members' numbers. Members are reported in the order of their numbers.
        self._open: dict[int, PlacedMember] = {}
        self._kept: dict[int, Member] = {}
        self._fresh: dict[int, PlacedMember] = {}

    # For subclasses to call

    def new_member(self, name: str, extents: ExtentMap) -> int:
        """Declare a member whose bytes are stored unchanged in the container.

        Return the member's number. Numbers begin with 0.
        """
        return self.add_member(PlacedMember(name, extents, self.inside.look()))

    def add_member(self, member: PlacedMember) -> int:
        """Declare a member. Return its number."""
        number = self._count
        self._count += 1
        self._open[number] = self._fresh[number] = member
        return number

    def skip_member(self) -> int:
        """Return the next number, for a member that is not inspected."""
        self._count += 1
        return self._count - 1

    def take(self, name: str) -> bytes:
        """Return the bytes of a filled region and remove the region, so that its name can be used again."""
        data = self.captured(name)
        del self._regions[name]
        if name in self._asked_for:
            self._asked_for.pop(name).release()
        return data

    @property
    def busy(self) -> bool:
        """Whether the inspection of the next member must wait until an earlier member is settled."""
        many = len(self._open) >= MAX_OPEN or (bool(self._open) and self._most >= MAX_MEMBERS)
        return many or self.holds_much or (len(self._open) >= FEW_OPEN and self._open_bytes >= MAX_OPEN_BYTES)

    @property
    def _open_bytes(self) -> int:
        """How many bytes the inspections of the open members hold in memory."""
        return sum(sum(member.inspection.context_info.values()) for member in self._open.values())

    @property
    def full(self) -> bool:
        """Whether the number of members has reached `MAX_MEMBERS`."""
        return self._most >= MAX_MEMBERS

    @property
    def holds_much(self) -> bool:
        """Whether a member is being decompressed.

        Decompression takes much memory, so the inspections of further members wait (`busy`).
        """
        return any(member.inspection.holds_much for member in self._open.values())

    # For subclasses to override

    def keeps(self, member: Member) -> bool:  # noqa: ARG002 - subclasses use it
        """Whether to include a settled member in the container's facts; a hook for subclasses."""
        return True

    # Input

    def feed(self, offset: int, data: bytes) -> None:
        """Pass bytes to the container and to its members; see `FileInspector.feed`."""
        if not data:
            return
        self._highest = max(self._highest, offset + len(data))
        self._show(self._open, offset, data)
        while True:
            self._fresh = {}
            super().feed(offset, data)
            if not self._fresh:
                return
            # Pass the piece to the members that were just declared. If this settles them, `post_process` can
            # declare more members.
            self._show(self._fresh, offset, data)

    def finish(self, size: int | None = None) -> None:
        """Set the object's length, which also sets the members' lengths; see `FileInspector.finish`."""
        super().finish(size)
        while self._settle(self._open):
            super().finish(size)

    def close(self) -> None:
        """Release the memory of the container and its members; see `FileInspector.close`."""
        for member in self._open.values():
            member.inspection.close()
        super().close()

    def missing(self) -> list[ByteRange]:
        """Return the ranges that the container and its members still need; see `FileInspector.missing`."""
        return [*super().missing(), *(part for member in self._open.values() for part in member.missing())]

    @property
    def complete(self) -> bool:
        """Whether neither the container nor its members need more bytes."""
        return super().complete and not self._open

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes of each region are in memory. Members' regions are named `number/region`."""
        inside = {
            f"{number}/{name}": held
            for number, member in self._open.items()
            for name, held in member.inspection.context_info.items()
        }
        return {**super().context_info, **inside}

    # Facts

    def members(self) -> tuple[Member, ...]:
        """Return the members in the order of their numbers, including the open members."""
        return tuple(self._numbered().values())

    @property
    def virtual_size(self) -> int:
        """The total size in bytes of all members' disks; zero if one size is unknown or there is no disk."""
        return _total(member.facts.virtual_size for member in self.members() if member.facts.format)

    def other_sizes(self) -> Mapping[str, int]:
        """Return the total virtual size for each reader that uses an unusual size of a member's disk."""
        facts = [member.facts for member in self.members() if member.facts.format]
        readers = sorted({reader for one in facts for reader in one.other_sizes})
        return {reader: _total(one.virtual_size_by(reader) for one in facts) for reader in readers}

    @property
    def wholeness(self) -> Wholeness:
        """The wholeness of the container itself. The facts of each member state the member's wholeness."""
        return Wholeness.UNCHECKED

    # Internals

    def _numbered(self) -> dict[int, Member]:
        """Return the members, by number."""
        unsettled = ((number, member.known()) for number, member in self._open.items())
        known = {**self._kept, **{number: member for number, member in unsettled if self.keeps(member)}}
        return {number: known[number] for number in sorted(known)}

    @property
    def _most(self) -> int:
        """The number of kept and open members. At most this many of the declared members will be kept."""
        return len(self._kept) + len(self._open)

    def _show(self, members: dict[int, PlacedMember], offset: int, data: bytes) -> None:
        for member in members.values():
            # Set the member's length before passing bytes: some inspections need no bytes of a short member
            # once they have its length.
            member.reach(self._highest, self._size)
            member.feed(offset, data)
        self._settle(members)

    def _settle(self, members: dict[int, PlacedMember]) -> bool:
        """Keep the facts of complete members and close their inspections.

        Return whether a member was complete.
        """
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
    """Return the sum of the sizes; zero if one is unknown, or if the sum exceeds `MAX_VIRTUAL_SIZE`."""
    known = list(sizes)
    total = sum(size for size in known if size) if all(known) else 0
    return total if total <= MAX_VIRTUAL_SIZE else 0
