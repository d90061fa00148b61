r"""Inspects tar archives in all dialects: old tar, ustar, GNU's and pax's.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Tar
Internals". The module `header` has the table of a header's fields.

An archive is a sequence of members. Each member is a header (a block of 512 bytes), followed by the member's
data, padded to whole blocks. Two blocks of zeros end the archive. Extended headers and long names are
separate members that describe the next member.

- Keyhole inspects every regular file on its own. `archives.member` decides which of these files are reported
  as members, each with its own report. The other files are only counted.
- Keyhole walks from header to header and skips the data between them. It stops at a header that readers
  interpret differently: for example, a size that only some readers accept, or two names for one member. The
  tests compare the behaviour of GNU tar, Python's tarfile, libarchive, BusyBox, Go and two packages of npm.
- To Keyhole, the archive ends at the first block of zeros. Only zeros should follow. Keyhole checks up to
  1 MiB of them.

Wholeness: proven if the walk finds a block of zeros, which is the end mark. An archive without an end mark
can be whole, but its bytes do not prove that the archive is whole.
"""

from collections.abc import Generator, Mapping
from enum import Enum, auto

from keyhole.inspectors.archives.apple_double import is_named_so
from keyhole.inspectors.archives.layers import disks_of_layer
from keyhole.inspectors.archives.manifests import Manifests
from keyhole.inspectors.archives.member import is_disk_name, is_member
from keyhole.inspectors.archives.names import digest
from keyhole.inspectors.archives.namesakes import Namesakes
from keyhole.inspectors.archives.paths import Paths
from keyhole.inspectors.archives.tar.entry import ANNOUNCING, Announced, Entry
from keyhole.inspectors.archives.tar.header import (
    BLOCK,
    SPARSE,
    CutError,
    Header,
    TarError,
    begins_archive,
    decode,
    is_header,
)
from keyhole.inspectors.archives.tar.sparse import old_gnu, pax
from keyhole.inspectors.container import MAX_MEMBERS, ContainerInspector
from keyhole.inspectors.effort import spend
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import BoundedFindings, Finding, Severity, found
from keyhole.inspectors.inside import MAX_DEPTH, Inside
from keyhole.inspectors.region import ByteRange, CaptureRegion
from keyhole.inspectors.text import printable

MIB = 1024**2
#: The most headers that Keyhole reads in an archive. A layer of a container image has a few thousand headers.
MAX_ENTRIES = 16_384
#: The longest extended header that Keyhole reads, in bytes. libarchive has the same limit.
MAX_EXTENDED = MIB
#: The suffix of an OVF descriptor, which states the disks of a virtual machine.
DESCRIPTOR_SUFFIX = b".ovf"
#: How many bytes after the end Keyhole checks, and how many it reads at a time. GNU tar pads an archive to a
#: multiple of 10 KiB, or of another length that its options set.
MAX_PADDING, PADDING_BYTES = MIB, 64 * 1024


class End(Enum):
    """How the walk ended."""

    #: The walk ended at a block of zeros, which is the end mark.
    MARKED = auto()
    #: The walk ended at the end of the object, after the last member's data and without a block of zeros.
    UNMARKED = auto()
    #: The walk ended before the archive's end. A finding states the reason, unless the object is not an
    #: archive.
    REFUSED = auto()


#: A generator that walks through an archive. It yields the range of the archive that it needs next, and the
#: caller sends it the bytes of this range. It yields `None` while it must wait, because too many members are
#: being inspected (`busy`).
Walk = Generator[ByteRange | None, bytes, End]
#: A part of the walk that returns the offset of the next header.
Step = Generator[ByteRange | None, bytes, int]


class TarInspector(ContainerInspector):
    """Inspects a tar archive: its headers, and its files as members."""

    NAME = "tar"

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing, inside)
        self._findings = BoundedFindings()
        self._paths = Paths()
        self._manifests = Manifests()
        self._namesakes = Namesakes()
        # The number of each file, by the digest of its name; `None` for a link or a device.
        self._named = self._namesakes.numbers
        # The names of OVF descriptors, by file number. A second file with one of these names causes a
        # finding.
        self._decisive: dict[int, str] = {}
        self._ended: End | None = None
        self.new_region("front", CaptureRegion(0, BLOCK))
        self._walk = self._steps()
        self._ask(next(self._walk))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether the first block is a header: it has the magic number or a matching checksum."""
        return begins_archive(prefix)

    @property
    def format_match(self) -> bool:
        """Whether the object begins like a tar archive."""
        return self.matches_prefix(self.region("front").data)

    def post_process(self) -> None:
        """Continue the walk until it needs bytes that have not been captured yet."""
        while self._ended is None:
            if self._asked is None:
                if self.busy:
                    return
                self._go_on(b"")
            elif self.filled(self._asked_name):
                self._go_on(self.take(self._asked_name))
            else:
                return

    def keeps(self, member: Member) -> bool:
        """Return whether a file is a member; see `archives.member`."""
        return is_member(member)

    def looks_at(self, name: bytes, extents: ExtentMap) -> Generator[ByteRange | None, bytes, bool]:  # noqa: ARG002 - subclasses use them
        """Return whether to inspect the next file. A subclass can request a part of the file to decide."""
        yield from ()
        return True

    # Facts

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the walk found the end mark of the archive."""
        return Wholeness.PROVEN if self._ended is End.MARKED else Wholeness.UNCHECKED

    def members(self) -> tuple[Member, ...]:
        """The members of the archive. The layers of a container image are reduced; see `archives.layers`."""
        layers = {self._named.get(digest(name)) for name in self._manifests.layers()}
        members = (
            disks_of_layer(member) if number in layers else member
            for number, member in self._numbered().items()
        )
        return tuple(member for member in members if member is not None)

    def details(self) -> Mapping[str, object]:
        """The kind of a container image, and how many files of the archive are not members."""
        if not self.format_match:
            return {}
        kind = self._manifests.kind
        return {**({"archive": kind} if kind else {}), "other_files": self._count - len(self.members())}

    def checks(self) -> list[Finding]:
        """Findings on the structure, on links, and on members that share a name."""
        if not self.format_match:
            return []
        links = BoundedFindings()
        for finding in self._paths.findings():
            links.add(finding)
        members = {number: member.name for number, member in self._numbered().items()}
        names = self._namesakes.findings({**self._decisive, **members})
        return [*self._findings.all(), *links.all(), *names]

    # The walk

    def _go_on(self, data: bytes) -> None:
        """Send the walk the bytes that it requested, and record its next request or its result."""
        spend()
        asked = self._asked
        try:
            if asked is not None and len(data) < asked.length:
                message = f"the archive has at least {asked.end} bytes, but the object has only {self._size}"
                self._ask(self._walk.throw(CutError(data, message)))
            else:
                self._ask(self._walk.send(data))
        except StopIteration as stopped:
            self._ended = stopped.value
        except TarError as error:
            self._ended = End.REFUSED
            self._findings.add(error.finding)

    def _ask(self, wanted: ByteRange | None) -> None:
        self._asked = wanted
        if wanted is not None:
            self._asked_name = f"{wanted.length} bytes at {wanted.offset}"
            self.new_region(self._asked_name, CaptureRegion(*wanted))

    def _steps(self) -> Walk:
        """Walk from header to header."""
        at, announced, kind = 0, Announced(), b""
        for _ in range(MAX_ENTRIES):
            try:
                block = yield ByteRange(at, BLOCK)
            except CutError as cut:
                if cut.data or at > self.actual_size:
                    raise
                block = b""
            if not any(block):
                if kind in ANNOUNCING:
                    raise TarError(
                        "structure", "the archive ends after a header that describes the next member"
                    )
                if not block:
                    return End.UNMARKED
                yield from self._behind_end(at + BLOCK)
                return End.MARKED
            if not at and not begins_archive(block):
                return End.REFUSED
            header = decode(block)
            at, kind = at + BLOCK, header.kind
            if kind in ANNOUNCING:
                at = yield from self._announcement(header, at, announced)
            else:
                at = yield from self._member(announced.entry(header), at)
                announced = Announced()
        raise TarError("member_limit", f"the archive has more than {MAX_ENTRIES} headers")

    def _announcement(self, header: Header, at: int, announced: Announced) -> Step:
        """Read the data of a header that describes the next member, and add them to `announced`."""
        if header.size > MAX_EXTENDED:
            raise TarError(
                "structure",
                f"an extended header has {header.size} bytes, and Keyhole reads at most {MAX_EXTENDED}",
            )
        announced.add(header, (yield ByteRange(at, header.size)) if header.size else b"")
        return at + padded(header.size)

    def _member(self, entry: Entry, at: int) -> Step:
        """Check a member's name and link target. If the member is a file, inspect it."""
        for wrong in self._paths.wrong_with(entry.name, entry.kind, entry.link):
            self._findings.add(found("member_path", wrong))
        if entry.is_file:
            return (yield from self._file(entry, at))
        if not entry.is_folder:
            self._give_name(entry, None)
        return at

    def _file(self, entry: Entry, at: int) -> Step:
        """Start the inspection of a file as soon as the number of open inspections allows it."""
        if entry.kind == SPARSE:
            extents, end = yield from old_gnu(entry.header, at, entry.stored)
        elif entry.records.sparse:
            extents, end = yield from pax(entry.records, at, entry.stored)
        else:
            extents, end = ExtentMap.whole(entry.stored, at), at + entry.stored
        while self.busy:
            yield None
        if self.full:
            raise TarError("member_limit", f"the archive has more than {MAX_MEMBERS} members")
        if self.inside.too_deep:
            raise TarError(
                "member_limit", f"Keyhole does not inspect more than {MAX_DEPTH} containers inside each other"
            )
        looked_at = yield from self.looks_at(entry.name, extents)
        # An empty file has no bytes to inspect, and even a small archive can contain very many empty files.
        # So inspect an empty file only if it has the suffix of a disk.
        looked_at = looked_at and (extents.size > 0 or is_disk_name(entry.name))
        number = self.new_member(printable(entry.name), extents) if looked_at else self.skip_member()
        self._give_name(entry, number)
        if (
            extents.place is not None
            and not extents.sparse
            and self._manifests.wants(entry.name, extents.size)
        ):
            self._manifests.read(entry.name, (yield ByteRange(extents.place, extents.size)))
        return padded(end)

    def _give_name(self, entry: Entry, number: int | None) -> None:
        self._namesakes.give(entry.name, number, entry.also)
        if number is not None and is_decisive(entry.name):
            self._decisive[number] = printable(entry.name)
        self._manifests.note(entry.name)

    def _behind_end(self, at: int) -> Generator[ByteRange | None, bytes, None]:
        """Check that only zeros follow the end mark, up to the limit `MAX_PADDING`."""
        limit = at + MAX_PADDING
        while at < limit:
            try:
                piece = yield ByteRange(at, PADDING_BYTES)
            except CutError as cut:
                piece = cut.data
            rest = piece.lstrip(b"\0")
            if rest:
                start = (len(piece) - len(rest)) // BLOCK * BLOCK
                self._findings.add(_trailing(at + start, piece[start : start + BLOCK]))
                return
            if len(piece) < PADDING_BYTES:
                return
            at += PADDING_BYTES
        try:
            yield ByteRange(at, 1)
        except CutError:
            return
        self._findings.add(found("trailing_data", f"more than {MAX_PADDING} bytes follow the archive's end"))


def is_decisive(name: bytes) -> bool:
    """Return whether a file with this name can be an OVF descriptor. Such a name must occur only once."""
    return name.lower().endswith(DESCRIPTOR_SUFFIX) and not is_named_so(name)


def padded(size: int) -> int:
    """Return the number of bytes that `size` bytes of data take in the archive, including the padding."""
    return -(-size // BLOCK) * BLOCK


def _trailing(at: int, block: bytes) -> Finding:
    if is_header(block):
        message = f"another archive begins at byte {at}, after the end mark; some readers continue there"
        return found("trailing_data", message, Severity.CRITICAL)
    return found("trailing_data", f"at byte {at}, unexpected data follows the archive's end")
