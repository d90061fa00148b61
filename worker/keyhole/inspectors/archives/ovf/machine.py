"""The virtual machine in an archive: chooses the descriptor, and joins the disks that are stored in chunks.

The tar inspector adds the archive's files in the archive's order. For each file, the tar inspector also
passes the bytes that the machine requests: the text of a possible descriptor, or the first bytes of a chunk.
So when a chunk is added, the machine has read all descriptors that precede the chunk. If one of these
descriptors declares the chunk, Keyhole inspects only the chunk's first bytes. The first bytes matter because
older versions of virt-v2v use the last chunk as the disk, and QEMU then chooses the disk's format by the
magic number in this chunk.

Chunks can be anywhere in the archive. So the machine waits until all files are added; then it chooses the
descriptor and joins the files in chunks. If Keyhole inspects a stream, the chunks have passed before this
point, so Keyhole cannot inspect a disk in chunks.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from keyhole.inspectors.archives.names import digest
from keyhole.inspectors.archives.namesakes import Namesakes
from keyhole.inspectors.archives.ovf.appliance import Appliance, Candidate
from keyhole.inspectors.archives.ovf.checks import Archive, compare
from keyhole.inspectors.archives.ovf.descriptor import Descriptor, File
from keyhole.inspectors.archives.ovf.files import CHUNK, Found, leads_elsewhere, paths, shown_text
from keyhole.inspectors.container import ContainerInspector
from keyhole.inspectors.extents import ExtentMap, JoinedExtents
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import BoundedFindings, Finding, found
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.text import printable

#: How many first bytes of a chunk Keyhole reads: the bytes by which readers detect a format.
FRONT_BYTES = 512
#: The formats that Keyhole does not report for a chunk: a chunk can look like these formats by chance, and
#: neither of them can refer to another file.
HARMLESS_CHUNKS = frozenset({"raw", "gzip"})
NOTHING = Descriptor((), ())


@dataclass(frozen=True, slots=True)
class Look:
    """States how to inspect a file.

    `wanted` is how many first bytes of the file to pass to the machine. `is_member` is whether Keyhole may
    inspect and report the file as a member of the archive.
    """

    wanted: int = 0
    is_member: bool = True


class Machine:
    """The virtual machine of an archive, if the archive contains a descriptor."""

    def __init__(self) -> None:
        self._appliance = Appliance()
        # The offset and the size in bytes of each file, by the file's number. The offset is `None` if the
        # file is compressed, is empty, or begins with a hole.
        self._places: list[tuple[int | None, int]] = []
        # `_pieces` has the extents of the files that may be chunks, by the files' numbers. `_last` is the
        # last file, if it may be a descriptor.
        self._pieces: dict[int, ExtentMap] = {}
        self._last: Candidate | None = None
        # The digests of the names of files in chunks, according to the descriptors that were read so far.
        self._declared: set[bytes] = set()
        # The formats of declared chunks, which Keyhole recognises by the chunks' first bytes. The keys are
        # the chunks' numbers in the archive.
        self._fronts: dict[int, str] = {}
        # `settle` sets the following attributes, after all files are added. `_chosen` is the descriptor.
        # `_settled` is true after the call. `_chunks` maps the number of each chunk in the archive to the
        # file to which the chunk belongs. `_unjoined` has the files that are still to be joined, and `_left`
        # the files that cannot be joined. `_joined` maps the id of each joined file to the file's member
        # number.
        self._chosen: Candidate | None = None
        self._settled = False
        self._chunks: dict[int, File] = {}
        self._unjoined: list[File] = []
        self._left: list[File] = []
        self._joined: dict[str, int] = {}

    # Input: files and their bytes

    def add(self, name: bytes, size: int, extents: ExtentMap | None) -> Look:
        """Add the archive's next file, and return how to inspect it.

        `extents` is the place of the file's bytes in the archive; `None` if the file is compressed. If the
        result requests bytes of the file, pass them to `read` before you add the next file.
        """
        number = len(self._places)
        self._places.append((None if extents is None else extents.place, size))
        self._last = self._appliance.add(name, size)
        if self._last is not None:
            if size and (extents is None or (extents.place is not None and not extents.sparse)):
                return Look(self._last.wanted)
            self._last.cannot_be_read()
        chunk = CHUNK.fullmatch(name)
        if chunk is None or extents is None:
            return Look()
        self._pieces[number] = extents
        if digest(chunk[1]) not in self._declared or extents.sparse:
            return Look()
        return Look(min(size, FRONT_BYTES) if int(chunk[2]) else 0, is_member=False)

    def read(self, data: bytes) -> None:
        """Read the first bytes of the file that was added last, as many as `add` requested."""
        candidate = self._last
        if candidate is None:
            kind = Inside.format_by_prefix(data)
            if kind is not None:
                self._fronts[len(self._places) - 1] = kind
            return
        candidate.read(data)
        for file in candidate.descriptor.files if candidate.descriptor is not None else ():
            if file.chunk_size and not leads_elsewhere(file.href):
                self._declared.update(digest(path) for path in paths(candidate.folder, file.href))

    def settle(self, *, all_seen: bool) -> None:
        """Choose the descriptor and find its files in chunks. Call this after the last file is added."""
        if self._settled:
            return
        self._chosen = next(iter(self._appliance.descriptors()), None)
        self._settled = True
        for file in self.descriptor.files:
            there = self._find(file)
            if file.chunk_size is None or there.whole or leads_elsewhere(file.href):
                continue
            self._chunks.update(dict.fromkeys(there.chunks.values(), file))
            if there.chunks and there.missing_chunk is None and all_seen:
                self._unjoined.append(file)

    def next_joined(self) -> tuple[str, JoinedExtents] | None:
        """Return the name and the extents of the next file in chunks; `None` if no file in chunks is left."""
        while self._unjoined:
            file = self._unjoined[0]
            numbers = [number for _, number in sorted(self._find(file).chunks.items())]
            if file.id not in self._joined and all(number in self._pieces for number in numbers):
                return _name(file), JoinedExtents(self._pieces[number] for number in numbers)
            self._left.append(self._unjoined.pop(0))
        return None

    def join(self, number: int | None, extents: JoinedExtents) -> None:
        """Record the member number of the next file in chunks.

        `number` is `None` if the archive already has the most members that Keyhole inspects.
        """
        file = self._unjoined.pop(0)
        if number is None:
            self._left.append(file)
        else:
            self._joined[file.id] = number
            self._places.append((extents.place, extents.size))

    # Results, after `settle`

    @property
    def is_settled(self) -> bool:
        """Whether `settle` was called and no file in chunks is left to be joined."""
        return self._settled and not self._unjoined

    @property
    def is_one(self) -> bool:
        """Whether the files that were added contain a virtual machine's descriptor."""
        return self._candidate is not None

    @property
    def descriptor(self) -> Descriptor:
        """The parsed descriptor; an empty descriptor if there is none, or Keyhole cannot read it."""
        candidate = self._candidate
        return (candidate.descriptor or NOTHING) if candidate is not None else NOTHING

    @property
    def disks(self) -> int | None:
        """The number of disks for which the descriptor names a file; `None` without a readable descriptor."""
        candidate = self._candidate
        if candidate is None or candidate.descriptor is None:
            return None
        return sum(bool(disk.file) for disk in candidate.descriptor.disks)

    @property
    def all_there(self) -> bool:
        """Whether the descriptor names files and the archive has all of them, as whole files or joined."""
        files = self.descriptor.files
        return bool(files) and all(self._number_of(file) is not None for file in files)

    def chunks(self) -> dict[int, str]:
        """Return the name of each chunk, by the chunk's number in the archive."""
        places = {
            number: place
            for file in set(self._chunks.values())
            for place, number in self._find(file).chunks.items()
        }
        return {number: f"{_name(file)}.{places[number]:09}" for number, file in self._chunks.items()}

    def other_files(self, members: Collection[int]) -> int:
        """Return how many files of the archive are neither members nor chunks."""
        files = len(self._places) - len(self._joined)
        return files - len(self._chunks) - sum(number not in self._joined.values() for number in members)

    def members(self, kept: Mapping[int, Member], open_numbers: Collection[int]) -> dict[int, Member]:
        """Return the members in `kept`, and the files that the descriptor names as disks.

        Chunks are left out.
        """
        members = dict(kept)
        files = self.descriptor.referred_to()
        for disk in self.descriptor.disks:
            file = files.get(disk.file)
            number = None if file is None else self._number_of(file)
            if file is not None and number is not None and number not in {*members, *open_numbers}:
                offset, size = self._places[number]
                members[number] = Member(_name(file), offset, size, Facts(None, None, None, size, ()))
        return {number: members[number] for number in sorted(members) if number not in self._chunks}

    def findings(
        self, kept: Mapping[int, Member], members: Mapping[int, Member], *, all_seen: bool
    ) -> list[Finding]:
        """Return findings on the descriptor and the chunks, and on files that contradict the descriptor."""
        bounded = BoundedFindings()
        for finding in (
            *self._appliance.findings(),
            *self._compare(members, all_seen=all_seen),
            *self._of_chunks(kept),
        ):
            bounded.add(finding)
        return bounded.all()

    # Helper methods

    @property
    def _candidate(self) -> Candidate | None:
        """The file that readers treat as the descriptor, chosen from the files that were added."""
        return self._chosen if self._settled else next(iter(self._appliance.descriptors()), None)

    def _find(self, file: File) -> Found:
        candidate = self._candidate
        return self._appliance.files.find(candidate.folder if candidate is not None else b"", file)

    def _number_of(self, file: File) -> int | None:
        """Return the number of the member to which a reference leads; `None` if there is no such member."""
        there = self._find(file)
        return there.whole[0] if there.whole else self._joined.get(file.id)

    def _compare(self, members: Mapping[int, Member], *, all_seen: bool) -> Iterator[Finding]:
        candidate = self._candidate
        if candidate is None:
            return
        numbers = ((file.id, self._number_of(file)) for file in self.descriptor.files)
        disks = {
            name: members[number] for name, number in numbers if number is not None and number in members
        }
        yield from compare(self.descriptor, candidate.folder, Archive(self._appliance.files, disks, all_seen))

    def _of_chunks(self, kept: Mapping[int, Member]) -> Iterator[Finding]:
        """Yield findings on chunks that cannot be joined to a file, and on chunks that begin like a disk."""
        for file in self._left:
            yield found("unsupported_subformat", f"Keyhole cannot join the chunks of {shown_text(file.href)}")
        first = {self._find(file).chunks.get(0) for file in self._chunks.values()}
        for number in sorted(number for number in self._chunks if number not in first):
            by_itself = kept[number].facts.format if number in kept else None
            kind = self._fronts.get(number) or by_itself
            if kind is not None and kind not in HARMLESS_CHUNKS:
                name = shown_text(self._chunks[number].href)
                message = f"a chunk of {name} begins like {kind}, and some readers use it as the disk"
                yield found("ambiguous_format", message)


def join_chunks(machine: Machine, archive: ContainerInspector, namesakes: Namesakes) -> None:
    """Join and inspect files in chunks, one after the other, until no file is left.

    If too many inspections are running, stop. The caller then calls this function again later.
    """
    while not archive.busy and (joined := machine.next_joined()) is not None:
        name, extents = joined
        number = None if archive.full else archive.new_member(name, extents)
        if number is not None:
            # Give the joined file a name that no other file has, because otherwise it could be reported as a
            # second file with the same name. If another file has the joined file's real name, `checks`
            # reports it.
            namesakes.give(b"\0%d" % number, number)
        machine.join(number, extents)


def _name(file: File) -> str:
    """Return the name that the report shows for a file of the OVF."""
    return printable(file.href.encode(errors="replace"))
