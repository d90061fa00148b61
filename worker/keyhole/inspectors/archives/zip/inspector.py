r"""Inspects ZIP archives: reads the directory at the end, and then each member's local header and data.

Source: APPNOTE.TXT 6.3.10, section 4.3. The module `records` parses the records at the end, and the module
`entry` parses a member's two headers. The module `methods` has the compression methods.

An archive has a local header and data for each member. Then follow the directory, which has another header
for each member, and the end records. Readers that can seek start at the end and use the directory. Readers of
a stream go from local header to local header. Keyhole checks that all readers see the same archive:

- The archive has only one directory, and the end records follow it directly.
- The members follow each other from the first byte to the directory, with only data descriptors between them.
  So they do not overlap. In a ZIP bomb they overlap: many members share the same data.
- Both headers of a member agree.
- No name occurs twice.

Keyhole inspects every file on its own: a stored file in place, and a compressed file during its
decompression. `archives.member` decides which of these files are reported as members, each with its own
report. The other files are only counted. Keyhole reports encrypted files, and files that are compressed by a
method that Keyhole cannot decode. It does not inspect the content of these files. If a file is the descriptor
of a virtual machine, Keyhole compares the descriptor with the other files (`appliance`).

The directory comes last, but the walk reads it first and then returns to the members. So Keyhole keeps the
first bytes (the front) and the last bytes of the archive in memory until the walk requests them. As a result,
two reads are enough for an archive of any length with one disk image, if the inspection of the image needs
only the image's first bytes. From a stream, Keyhole cannot read the bytes that it did not keep, because they
have passed.

Wholeness: proven if the walk leads from the first member to the directory. Keyhole does not compare the
checksums of stored members, because it would have to read every byte.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from keyhole.inspectors.archives.member import is_member
from keyhole.inspectors.archives.names import shown
from keyhole.inspectors.archives.namesakes import Namesakes
from keyhole.inspectors.archives.ovf.appliance import MAX_OVF
from keyhole.inspectors.archives.paths import Paths
from keyhole.inspectors.archives.tar.header import SYMLINK
from keyhole.inspectors.archives.zip.appliance import ZipAppliance, read_descriptor
from keyhole.inspectors.archives.zip.end import SIGNATURE
from keyhole.inspectors.archives.zip.entry import LOCAL_MARK, STORED, Entry
from keyhole.inspectors.archives.zip.member import PackedMember, Unpacking
from keyhole.inspectors.archives.zip.methods import DECODERS, method_name, unpacked
from keyhole.inspectors.archives.zip.records import TAIL_BYTES, ZipError, read_end
from keyhole.inspectors.archives.zip.walk import Walk, between, directory, header
from keyhole.inspectors.compression.decoder import DecodingError
from keyhole.inspectors.container import MAX_MEMBERS, ContainerInspector
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import BoundedFindings, Finding, found
from keyhole.inspectors.inside import MAX_DEPTH, Inside
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.text import printable

#: How many bytes of the front Keyhole keeps until it has read the directory: as many as the first read of a
#: scan fetches.
KEPT_FRONT = 256 * 1024
#: The longest target of a link in bytes: the longest path that Linux allows.
MAX_LINK = 4096
#: Kinds of members in tar's notation, which `Paths` expects.
FILE, DEVICE = b"0", b"3"


class ZipInspector(ContainerInspector):
    """Inspects a ZIP archive: its directory, and its files as members."""

    NAME = "zip"

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing, inside)
        self._findings = BoundedFindings()
        self._paths = Paths()
        self._appliance = ZipAppliance()
        self._entries = 0
        self._namesakes = Namesakes()
        self._walk: Walk[None] | None = None
        self._asked: ByteRange | None = None
        self._asked_name = ""
        self._ended = self._whole = False
        # Stores the front as soon as the caller feeds it, because the walk requests it later.
        self._front: CaptureRegion | None = CaptureRegion(0, KEPT_FRONT)
        self.new_region("mark", CaptureRegion(0, 4))
        self.new_region("end", TailRegion(TAIL_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether the object begins with a local header or, without members, with an end record."""
        return prefix.startswith((LOCAL_MARK, SIGNATURE))

    @property
    def format_match(self) -> bool:
        """Whether the object begins like a ZIP archive."""
        return self.matches_prefix(self.region("mark").data)

    # Input

    def feed(self, offset: int, data: bytes) -> None:
        """Process bytes from any offset; see `FileInspector.feed`. The front is stored for the walk."""
        if self._front is not None and data:
            self._front.put(offset, data)
        super().feed(offset, data)
        self._give()

    def finish(self, size: int | None = None) -> None:
        """Set the object's length; see `FileInspector.finish`."""
        super().finish(size)
        self._give()

    def _give(self) -> None:
        """Pass the stored bytes to the walk and to the members' inspections, if they need these bytes.

        After each piece, they can need further stored bytes, so repeat this until they need no more bytes.
        """
        if self._walk is None:
            return
        while parts := [part for gap in self.missing() for part in self._passed(gap)]:
            for offset, data in parts:
                super().feed(offset, data)
        if self._ended and not self._open:
            self._front = None

    def _passed(self, gap: ByteRange) -> Iterator[tuple[int, bytes]]:
        """Yield the stored parts of a range, with their offsets."""
        for region in (self._front, self.region("end")):
            if region is not None:
                yield from region.pieces(gap)

    @property
    def context_info(self) -> dict[str, int]:
        """The number of bytes in memory for each region and for the stored front."""
        kept = {} if self._front is None else {"front": self._front.held}
        return {**super().context_info, **kept}

    def post_process(self) -> None:
        """Continue the walk until it needs bytes that have not been captured yet."""
        if not self.filled("mark") or not self.format_match or not self.filled("end"):
            return
        if self._walk is None:
            walk = self._walk = self._steps(self.captured("end"))
            self._hear(partial(next, walk))
        walk = self._walk
        while not self._ended:
            if self._asked is None:
                if self.busy:
                    return
                data = b""
            elif self.filled(self._asked_name):
                data = self.take(self._asked_name)
            else:
                return
            self._hear(partial(walk.send, data))

    @property
    def complete(self) -> bool:
        """Whether the walk has ended and no member needs more bytes, or the object is not an archive."""
        return super().complete and (self._ended or (self.filled("mark") and not self.format_match))

    def keeps(self, member: Member) -> bool:
        """Return whether a file is a member; see `archives.member`."""
        return is_member(member)

    # Facts

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the walk found all members and the directory at the expected offsets."""
        return Wholeness.PROVEN if self._whole else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """How many entries of the directory are not members."""
        return {"other_files": self._entries - len(self.members())} if self.format_match else {}

    def checks(self) -> list[Finding]:
        """Findings on the structure, on links, and on members that share a name."""
        if not self.format_match:
            return []
        links = BoundedFindings()
        for finding in self._paths.findings():
            links.add(finding)
        members = {number: member.name for number, member in self._numbered().items()}
        return [
            *self._findings.all(),
            *links.all(),
            *self._namesakes.findings(members),
            *self._appliance.findings(self._numbered(), all_seen=self._whole),
        ]

    def _numbered(self) -> dict[int, Member]:
        """Return the members for the report, by number.

        If the archive contains a virtual machine, add the disks that its descriptor names but the archive
        lacks, and omit the chunks, which are the pieces of a divided disk.
        """
        members = super()._numbered()
        chunks = self._appliance.chunks()
        members |= self._appliance.lacking(members)
        return {number: members[number] for number in sorted(members) if number not in chunks}

    # The walk

    def _hear(self, call: Callable[[], ByteRange | None]) -> None:
        """Continue the walk by calling `call`.

        Record the next range that the walk requests, or the walk's end.
        """
        try:
            self._asked = call()
        except StopIteration:
            self._ended = self._whole = True
        except ZipError as error:
            self._ended = True
            self._findings.add(error.finding)
        else:
            if self._asked is not None:
                self._asked_name = f"{self._asked.length} bytes at {self._asked.offset}"
                self.new_region(self._asked_name, CaptureRegion(*self._asked))

    def _steps(self, tail: bytes) -> Walk[None]:
        """Walk from member to member in the archive's order."""
        end = read_end(tail, self.actual_size)
        entries = yield from directory(end)
        self._entries = len(entries)
        at, descriptor = 0, None
        for entry in entries:
            yield from between(at, entry.offset, descriptor, self._findings)
            at, descriptor = yield from header(entry, end.directory, self._findings)
            yield from self._member(entry, at)
            at += entry.packed
        yield from between(at, end.directory, descriptor, self._findings)

    def _member(self, entry: Entry, at: int) -> Walk[None]:
        """Check a member whose data begin at the offset `at`. Inspect the data if Keyhole can read them."""
        yield from self._judge_name(entry, at)
        if entry.is_folder:
            if entry.size or (entry.method == STORED and entry.packed):
                self._add("ambiguous_format", f"{shown(entry.name)} is a folder and has data")
            return
        if entry.is_folder_to_some and entry.size:
            self._add("ambiguous_format", f"{shown(entry.name)} is a folder to some readers, and has data")
        yield from self._describe(entry, at)
        if entry.is_encrypted:
            self._add("encrypted", f"{shown(entry.name)} is encrypted")
            self._give_name(entry, None)
            return
        if entry.method != STORED and entry.method not in DECODERS:
            by = method_name(entry.method)
            self._add("unsupported_subformat", f"{shown(entry.name)} is compressed by {by}")
            self._give_name(entry, None)
            return
        if entry.method == STORED and entry.packed != entry.size:
            self._add(
                "ambiguous_format", f"{shown(entry.name)} is not compressed, but has two different sizes"
            )
        while self.busy:
            yield None
        if self.full:
            raise ZipError("member_limit", f"the archive has more than {MAX_MEMBERS} members")
        if self.inside.too_deep:
            raise ZipError(
                "member_limit", f"Keyhole does not inspect more than {MAX_DEPTH} containers inside each other"
            )
        number = self._look_at(entry, at)
        self._appliance.is_member(number)
        self._give_name(entry, number)

    def _describe(self, entry: Entry, at: int) -> Walk[None]:
        """Add a file to the appliance, and read the file if it may be an OVF descriptor."""
        candidate = self._appliance.add(entry)
        if candidate is not None and not entry.is_encrypted:
            data = (yield ByteRange(at, entry.packed)) if 0 < entry.packed <= MAX_OVF else b""
            read_descriptor(candidate, entry, data)

    def _look_at(self, entry: Entry, at: int) -> int:
        """Start the inspection of a file. Return its member number."""
        name = printable(entry.unicode_name or entry.name)
        if entry.method == STORED:
            return self.new_member(name, ExtentMap.whole(entry.packed, at))
        unpacking = Unpacking(entry, DECODERS[entry.method](entry), self.inside)
        return self.add_member(PackedMember(name, at, entry, unpacking))

    def _judge_name(self, entry: Entry, at: int) -> Walk[None]:
        """Check the path to which an extractor writes a member and, for a link, the link's target."""
        names = [entry.name.replace(b"\\", b"/")]
        if entry.unicode_name not in {None, entry.name}:
            names.append(entry.unicode_name.replace(b"\\", b"/"))
            if entry.is_named_in_utf8:
                self._add("ambiguous_format", f"{shown(entry.name)} has another name in Unicode")
        kind, target = FILE, b""
        if entry.is_link:
            kind = SYMLINK
            target = yield from self._target(entry, at)
        elif entry.is_device:
            kind = DEVICE
        for name in names:
            for wrong in self._paths.wrong_with(name, kind, target):
                self._add("member_path", wrong)

    def _target(self, entry: Entry, at: int) -> Walk[bytes]:
        """Return a link's target, which is stored as the link's data; empty if Keyhole cannot read it."""
        if entry.is_encrypted or not 0 < entry.packed <= MAX_LINK or entry.size > MAX_LINK:
            self._add("member_path", f"{shown(entry.name)} is a link whose target cannot be read")
            return b""
        data = yield ByteRange(at, entry.packed)
        try:
            return unpacked(entry, data)
        except DecodingError as error:
            self._add("member_path", f"{shown(entry.name)} is a link whose target cannot be read: {error}")
            return b""

    def _give_name(self, entry: Entry, number: int | None) -> None:
        name, other = (one.replace(b"\\", b"/") for one in (entry.name, entry.unicode_name or b""))
        self._namesakes.give(name, number, b"" if other == name else other)

    def _add(self, check: str, message: str) -> None:
        self._findings.add(found(check, message))
