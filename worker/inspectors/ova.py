"""OVA: a virtual machine in a tar archive, with a descriptor that names its files.

Source: DMTF DSP0243 2.1.1, section 6.4: the descriptor comes first, then perhaps a manifest and a
certificate, then the files in the order of the references.

An archive with an `.ovf` at its root is an OVA, and any other `tar`. What the descriptor says of files and
disks is compared with what is in the archive. A file that it takes for a disk is a member, however small.

The digests in the manifest are not looked at: to check them every byte would have to be read.

Wholeness: as of any archive; one without its end, too, if all files are there that the descriptor names.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_to_bytes

from worker.inspectors.extents import ExtentMap
from worker.inspectors.facts import Facts, Member, Wholeness
from worker.inspectors.findings import BoundedFindings, Finding, Severity, found
from worker.inspectors.ovf import Descriptor, Disk, File, OVFError, parse
from worker.inspectors.readers import READERS
from worker.inspectors.region import CaptureRegion
from worker.inspectors.tar import End, TarInspector
from worker.inspectors.tar_names import digest, leads_outside, parts_of, shown
from worker.inspectors.text import printable

#: The longest descriptor that is read. VMware's and VirtualBox's have some ten kilobytes.
MAX_OVF = 1024**2
SUFFIX = b".ovf"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: Formats by what their URIs contain. Others are used for several: oVirt has qcow2's for raw disks.
FORMAT_URIS = {"vmdk.html": "vmdk"}


class OVAInspector(TarInspector):
    """A tar archive, which is an OVA if it has a descriptor."""

    def __init__(self, tracing: bool = False, depth: int = 0) -> None:
        super().__init__(tracing, depth)
        # Of each file that was looked at, by its number.
        self._places: list[tuple[int | None, int]] = []
        self._ovf_name: str | None = None
        self._ovf_number = 0
        self._ovf_count = 0
        self._ovf_error: Finding | None = None
        self._descriptor: Descriptor | None = None

    def __str__(self) -> str:
        return self.NAME if self._ovf_name is None else "ova"

    def found_file(self, name: bytes, extents: ExtentMap) -> None:
        """Declare the descriptor, if this is it."""
        number = len(self._places)
        self._places.append((extents.place, extents.size))
        if not name.lower().endswith(SUFFIX):
            return
        self._ovf_count += 1
        if self._ovf_name is not None or len(parts_of(name)) != 1:
            return
        self._ovf_name, self._ovf_number = printable(name), number
        if extents.size > MAX_OVF:
            message = f"the OVF has {extents.size} bytes, at most {MAX_OVF} are read"
            self._ovf_error = found("unsupported_subformat", message)
        elif extents.place is None or extents.sparse:
            self._ovf_error = found("structure", "the OVF is empty, or has holes")
        else:
            self.new_region("ovf", CaptureRegion(extents.place, extents.size))

    def post_process(self) -> None:
        """Go on with the walk, and read the descriptor once it is there."""
        super().post_process()
        if self.filled("ovf"):
            length = self.region("ovf").length
            text = self.take("ovf")
            if len(text) == length:
                self._read(text)

    def _read(self, text: bytes) -> None:
        try:
            self._descriptor = parse(text)
        except OVFError as error:
            message = f"the OVF cannot be read: {printable(str(error).encode(errors='backslashreplace'))}"
            self._ovf_error = (
                found("ovf_reference", message, Severity.CRITICAL)
                if error.hostile
                else found("structure", message)
            )

    # What comes out

    @property
    def wholeness(self) -> Wholeness:
        """Proven when the end is marked, or all is there that the descriptor names."""
        if self._ended is End.UNMARKED and self._descriptor is not None and self._descriptor.files:
            there = all(self._number_of(file) is not None for file in self._descriptor.files)
            return Wholeness.PROVEN if there else Wholeness.UNCHECKED
        return super().wholeness

    def details(self) -> Mapping[str, object]:
        """How many disks the descriptor has files for, and what there is to say of any archive."""
        disks = () if self._descriptor is None else self._descriptor.disks
        told = {} if self._descriptor is None else {"disks": sum(bool(disk.file) for disk in disks)}
        return {**told, **super().details()}

    def checks(self) -> list[Finding]:
        """What is wrong with the archive, and where the descriptor contradicts it."""
        if not self.format_match:
            return []
        findings = BoundedFindings()
        for finding in self._of_descriptor():
            findings.add(finding)
        return [*super().checks(), *findings.all()]

    def _numbered(self) -> dict[int, Member]:
        """The members, and files that were not kept, but that the descriptor takes for disks."""
        members = super()._numbered()
        for number, name in self._disk_files():
            if number not in members and number not in self._open:
                offset, size = self._places[number]
                members[number] = Member(name, offset, size, Facts(None, None, None, size, ()))
        return {number: members[number] for number in sorted(members)}

    def _disk_files(self) -> Iterator[tuple[int, str]]:
        """The numbers and names of the files that the descriptor takes for disks."""
        if self._descriptor is None:
            return
        used = {disk.file for disk in self._descriptor.disks}
        for file in self._descriptor.files:
            number = self._number_of(file) if file.id in used else None
            if number is not None:
                yield number, printable(file.href.encode(errors="replace"))

    def _number_of(self, file: File) -> int | None:
        """The number of the file in the archive that a reference means; `None` if there is none."""
        return next(iter(self._numbers_of(file)), None)

    def _numbers_of(self, file: File) -> list[int]:
        """The numbers of the files that it may mean: by its text, or what that stands for as a URI."""
        numbers = {self._named.get(digest(name)) for name in _readings(file.href)}
        return sorted(number for number in numbers if number is not None)

    # The descriptor's contradictions

    def _of_descriptor(self) -> Iterator[Finding]:
        if self._ovf_name is None:
            return
        if self._ovf_count > 1:
            yield found("ambiguous_format", f"there are {self._ovf_count} OVFs, of which readers take any")
        if self._ovf_number:
            yield found("ovf_reference", "the OVF is not the first file of the archive", Severity.INFO)
        if self._ovf_error is not None:
            yield self._ovf_error
        if self._descriptor is None:
            return
        files = {file.id: file for file in self._descriptor.files}
        if len(files) < len(self._descriptor.files):
            yield found("ambiguous_format", "two files of the OVF have the same id")
        for file in self._descriptor.files:
            yield from self._of_file(file)
        members = self._numbered()
        for disk in self._descriptor.disks:
            yield from self._of_disk(disk, files, members)

    def _of_file(self, file: File) -> Iterator[Finding]:
        name = _shown(file.href)
        outside = _outside(file.href)
        if outside:
            yield found("ovf_reference", f"the OVF names {name}, which {outside}", Severity.CRITICAL)
            return
        if file.in_chunks:
            yield found("unsupported_subformat", f"the OVF says that {name} is in several chunks")
            return
        if file.compression not in {"", "identity"}:
            compression = _shown(file.compression)
            yield found("unsupported_subformat", f"the OVF says that {name} is compressed by {compression}")
        if len(self._numbers_of(file)) > 1:
            yield found("ambiguous_format", f"{name} of the OVF is one file as text, and another as a URI")
        number = self._number_of(file)
        if number is None:
            # Where the walk was broken off, it may be further on.
            if self._ended in {End.MARKED, End.UNMARKED}:
                yield found("ovf_reference", f"the OVF names {name}, which is no file of the archive")
        elif file.size is not None and file.size != self._places[number][1]:
            size = self._places[number][1]
            yield found("size_mismatch", f"the OVF says that {name} has {file.size} bytes, it has {size}")

    def _of_disk(
        self, disk: Disk, files: Mapping[str, File], members: Mapping[int, Member]
    ) -> Iterator[Finding]:
        name = _shown(disk.id)
        if disk.parent:
            parent = _shown(disk.parent)
            yield found("parent_image", f"the OVF says that disk {name} is a difference to {parent}")
        if not disk.file:
            # One that is made when the machine is.
            return
        file = files.get(disk.file)
        if file is None:
            yield found("ovf_reference", f"disk {name} of the OVF has a file that is not in its references")
            return
        number = None if file.in_chunks or _outside(file.href) else self._number_of(file)
        facts = members[number].facts if number is not None and number in members else None
        if facts is None or facts.format is None:
            return
        yield from _of_capacity(disk, facts)
        stated = next((name for part, name in FORMAT_URIS.items() if part in disk.format.lower()), None)
        if stated is not None and stated != facts.format and not file.compression:
            yield found(
                "format_mismatch", f"the OVF says that disk {name} is {stated}, but it is {facts.format}"
            )


def _of_capacity(disk: Disk, facts: Facts) -> Iterator[Finding]:
    """Whether a disk has the capacity that is stated, by any reader's view of its size."""
    sizes = {reader: facts.virtual_size_by(reader) for reader in READERS}
    wrong = tuple(
        reader
        for reader, size in sizes.items()
        if size is not None and disk.capacity is not None and abs(size - disk.capacity) >= disk.unit
    )
    for_all = len(wrong) == sum(size is not None for size in sizes.values())
    # Where the readers' views differ by more than a rounding, each reader's own counts.
    if wrong and (for_all or any(one.check == "size_mismatch" for one in facts.findings)):
        size = sizes[wrong[0]]
        message = f"the OVF says that disk {_shown(disk.id)} has {disk.capacity} bytes, it has {size}"
        yield found("size_mismatch", message, readers=() if for_all else wrong)


def _shown(text: str) -> str:
    return shown(text.encode(errors="replace"))


def _outside(href: str) -> str | None:
    """Why a reference leads outside the archive, in words that follow it."""
    if URL.match(href):
        return "is a URL"
    return next(filter(None, map(leads_outside, _readings(href))), None)


def _readings(href: str) -> tuple[bytes, bytes]:
    """What a reference says literally, and with its percent signs resolved."""
    return href.encode(errors="replace"), unquote_to_bytes(href)
