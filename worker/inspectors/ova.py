"""OVA: a virtual machine in a tar archive, with a descriptor that names its files.

Source: DMTF DSP0243 2.1.1, section 6.4: the descriptor comes first, then perhaps a manifest and a
certificate, then the files in the order of the references.

An archive with a descriptor (`appliance` says which file is one) is an OVA, and any other `tar`. What the
descriptor says of files and disks is compared with what is in the archive. A file that it takes for a disk is
a member, however small, and one that it says is in chunks is one member, in place of its chunks.

Chunks are joined once the walk has ended, for they lie anywhere. A stream has passed them by then, so it
misses a disk in chunks. Each chunk is looked at by itself as well: older versions of virt-v2v take the last
for the disk.

The digests in the manifest are not looked at: to check them every byte would have to be read.

Wholeness: as of any archive; one without its end, too, if all files are there that the descriptor names.
"""

from collections.abc import Iterator, Mapping

from worker.inspectors.appliance import Appliance, Candidate
from worker.inspectors.appliance_checks import Archive, compare
from worker.inspectors.appliance_files import CHUNK, leads_elsewhere, shown_text
from worker.inspectors.extents import ExtentMap, JoinedExtents
from worker.inspectors.facts import Facts, Member, Wholeness
from worker.inspectors.findings import BoundedFindings, Finding, found
from worker.inspectors.ovf import Descriptor, File
from worker.inspectors.region import CaptureRegion
from worker.inspectors.tar import End, TarInspector
from worker.inspectors.text import printable

#: How the walk ends where all of the archive was seen.
SEEN = frozenset({End.MARKED, End.UNMARKED})
#: What a chunk may be by chance without being a disk that leads anywhere.
HARMLESS_CHUNKS = frozenset({"raw", "gzip"})
NOTHING = Descriptor((), ())


class OVAInspector(TarInspector):
    """A tar archive, which is an OVA if it has a descriptor."""

    def __init__(self, tracing: bool = False, depth: int = 0) -> None:
        super().__init__(tracing, depth)
        self._appliance = Appliance()
        # What is still to be read, by the names of the regions.
        self._reading: dict[str, Candidate] = {}
        # Of each member that was looked at, by its number: where it begins, and how long it is.
        self._places: list[tuple[int | None, int]] = []
        # Where the files lie that may be chunks, by their numbers.
        self._pieces: dict[int, ExtentMap] = {}
        # Once all is known that decides it: the descriptor; the files in chunks that are still to be joined;
        # the numbers of those that are, by their ids; and the chunks, by their numbers.
        self._chosen: Candidate | None = None
        self._unjoined: list[File] | None = None
        self._joined: dict[str, int] = {}
        self._chunks: dict[int, File] = {}

    def __str__(self) -> str:
        return self.NAME if self._candidate is None else "ova"

    def found_file(self, name: bytes, extents: ExtentMap) -> None:
        """Have the file read if it may be the descriptor, and remember it if it may be a chunk."""
        number = len(self._places)
        self._places.append((extents.place, extents.size))
        if CHUNK.fullmatch(name):
            self._pieces[number] = extents
        candidate = self._appliance.add(name, extents.size)
        if candidate is None:
            return
        if extents.place is None or extents.sparse:
            candidate.cannot_be_read()
            return
        region = f"ovf {number}"
        self._reading[region] = candidate
        self.new_region(region, CaptureRegion(extents.place, candidate.wanted))

    def post_process(self) -> None:
        """Go on with the walk, read the descriptors that are there, then join what they say is in chunks."""
        super().post_process()
        for region in [name for name in self._reading if self.filled(name)]:
            length = self.region(region).length
            candidate, text = self._reading.pop(region), self.take(region)
            if len(text) == length:
                candidate.read(text)
        if self._ended is not None and not self._reading and self._unjoined is None:
            self._choose()
        while self._unjoined and not self.busy:
            self._join(self._unjoined.pop(0))

    def _choose(self) -> None:
        """Decide which file is the descriptor, now that all are known, and which files are in chunks."""
        self._chosen = next(iter(self._appliance.descriptors()), None)
        self._unjoined = []
        for file in self._descriptor.files:
            there = self._appliance.files.find(self._folder, file)
            if file.chunk_size is None or there.whole or leads_elsewhere(file.href):
                continue
            self._chunks.update(dict.fromkeys(there.chunks.values(), file))
            # Of two chunks of one name, readers take the first or the last.
            chunks = {number: f"{_name(file)}.{place:09}" for place, number in there.chunks.items()}
            self._decisive.update(chunks)
            if there.chunks and there.missing_chunk is None and self._ended in SEEN:
                self._unjoined.append(file)

    def _join(self, file: File) -> None:
        """Look at a file in chunks as a whole."""
        if self.full or file.id in self._joined:
            return
        chunks = self._appliance.files.find(self._folder, file).chunks
        extents = JoinedExtents(self._pieces[number] for _, number in sorted(chunks.items()))
        self._places.append((extents.place, extents.size))
        number = self._joined[file.id] = self.new_member(_name(file), extents)
        # A name that no file has: what else is called so is another matter.
        self._namesakes.give(b"\0%d" % number, number)

    # What comes out

    @property
    def complete(self) -> bool:
        """Whether all that is wanted is here, and what is in chunks was looked at."""
        return super().complete and not self._unjoined

    @property
    def wholeness(self) -> Wholeness:
        """Proven when the end is marked, or all is there that the descriptor names."""
        if self._ended is End.UNMARKED and self._descriptor.files:
            there = all(self._number_of(file) is not None for file in self._descriptor.files)
            return Wholeness.PROVEN if there else Wholeness.UNCHECKED
        return super().wholeness

    def details(self) -> Mapping[str, object]:
        """How many disks the descriptor has files for, and what there is to say of any archive."""
        told = dict(super().details())
        if self._candidate is None or self._candidate.descriptor is None:
            return told
        kept = sum(number not in self._joined.values() for number in self._numbered())
        others = len(self._appliance.files) - len(self._chunks) - kept
        return {
            "disks": sum(bool(disk.file) for disk in self._descriptor.disks),
            **told,
            "other_files": others,
        }

    def checks(self) -> list[Finding]:
        """What is wrong with the archive, and where the descriptor contradicts it."""
        if not self.format_match:
            return []
        findings = BoundedFindings()
        for finding in (*self._appliance.findings(), *self._of_descriptor(), *self._of_chunks()):
            findings.add(finding)
        return [*super().checks(), *findings.all()]

    def _numbered(self) -> dict[int, Member]:
        """The members: what is kept, what the descriptor takes for a disk, but no chunks."""
        members = super()._numbered()
        files = self._descriptor.referred_to()
        for disk in self._descriptor.disks:
            file = files.get(disk.file)
            number = None if file is None else self._number_of(file)
            if file is not None and number is not None and number not in {*members, *self._open}:
                offset, size = self._places[number]
                members[number] = Member(_name(file), offset, size, Facts(None, None, None, size, ()))
        return {number: members[number] for number in sorted(members) if number not in self._chunks}

    # The descriptor

    @property
    def _candidate(self) -> Candidate | None:
        """The file that readers take for the descriptor, as far as is known."""
        if self._unjoined is not None:
            return self._chosen
        return next(iter(self._appliance.descriptors()), None)

    @property
    def _descriptor(self) -> Descriptor:
        candidate = self._candidate
        return candidate.descriptor or NOTHING if candidate is not None else NOTHING

    @property
    def _folder(self) -> bytes:
        """The folder that the descriptor lies in."""
        candidate = self._candidate
        return candidate.folder if candidate is not None else b""

    def _number_of(self, file: File) -> int | None:
        """The number of the member that a reference means; `None` if there is none."""
        there = self._appliance.files.find(self._folder, file)
        return there.whole[0] if there.whole else self._joined.get(file.id)

    def _of_descriptor(self) -> Iterator[Finding]:
        members = self._numbered()
        numbers = {file.id: self._number_of(file) for file in self._descriptor.files}
        disks = {name: members[number] for name, number in numbers.items() if number in members}
        archive = Archive(self._appliance.files, disks, all_seen=self._ended in SEEN)
        yield from compare(self._descriptor, self._folder, archive)

    def _of_chunks(self) -> Iterator[Finding]:
        """Chunks that are disks by themselves."""
        kept = super()._numbered()
        first = {self._number_of_first(file) for file in self._chunks.values()}
        for number in sorted(self._chunks.keys() & kept.keys() - first):
            kind = kept[number].facts.format
            if kind is not None and kind not in HARMLESS_CHUNKS:
                name = shown_text(self._chunks[number].href)
                message = f"a chunk of {name} is {kind} by itself, which some readers take for the disk"
                yield found("ambiguous_format", message)

    def _number_of_first(self, file: File) -> int | None:
        return self._appliance.files.find(self._folder, file).chunks.get(0)


def _name(file: File) -> str:
    """A file's name as a member."""
    return printable(file.href.encode(errors="replace"))
