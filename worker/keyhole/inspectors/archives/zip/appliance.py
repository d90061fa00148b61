"""Compares the descriptor of a virtual machine in a ZIP archive with the archive's files.

virt-v2v accepts a virtual machine in a ZIP archive, as it does in a tar archive (input/OVA.ml). So Keyhole
finds and checks the descriptor with the same modules (`ovf.appliance`, `ovf.checks`). Keyhole does not join a
disk in chunks, because the archive compresses each chunk separately.
"""

from collections.abc import Iterator, Mapping

from keyhole.inspectors.archives.ovf.appliance import MAX_OVF, XML, Appliance, Candidate
from keyhole.inspectors.archives.ovf.checks import Archive, compare
from keyhole.inspectors.archives.ovf.descriptor import Descriptor, File
from keyhole.inspectors.archives.ovf.files import leads_elsewhere, shown_text
from keyhole.inspectors.archives.zip.entry import Entry
from keyhole.inspectors.archives.zip.methods import unpacked
from keyhole.inspectors.compression.decoder import DecodingError
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import BoundedFindings, Finding, found
from keyhole.inspectors.text import printable

NOTHING = Descriptor((), ())


class ZipAppliance:
    """The virtual machine in a ZIP archive: the archive's files, and the descriptor that describes them."""

    def __init__(self) -> None:
        self._appliance = Appliance()
        # The number of each member, by its position among the archive's files.
        self._members: dict[int, int] = {}

    def add(self, entry: Entry) -> Candidate | None:
        """Add the archive's next file. Return a candidate if the file may be a descriptor; else `None`."""
        return self._appliance.add(entry.name.replace(b"\\", b"/"), entry.size)

    def is_member(self, number: int) -> None:
        """Record the member number of the file that was added last."""
        self._members[len(self._appliance.files) - 1] = number

    def lacking(self, kept: Mapping[int, Member]) -> dict[int, Member]:
        """Return the members that the OVF names as disks and that `kept` does not contain."""
        files = self._descriptor.referred_to()
        named = [files[disk.file] for disk in self._descriptor.disks if disk.file in files]
        numbers = ((file, self._number_of(file)) for file in named)
        return {
            number: Member(printable(file.href.encode(errors="replace")), None, size, _unknown(size))
            for file, number in numbers
            if number is not None and number not in kept
            for size in [self._appliance.files.size(self._whole(file)[0])]
        }

    def chunks(self) -> frozenset[int]:
        """Return the numbers of the members that are chunks of a disk."""
        files = self._in_chunks()
        return frozenset(
            self._members[number]
            for file in files
            for number in self._appliance.files.find(self._folder, file).chunks.values()
            if number in self._members
        )

    def findings(self, members: Mapping[int, Member], *, all_seen: bool) -> list[Finding]:
        """Return findings on the descriptor, and on contradictions between the descriptor and the archive."""
        numbers = [(file.id, self._number_of(file)) for file in self._descriptor.files]
        disks = {
            name: members[number] for name, number in numbers if number is not None and number in members
        }
        findings = BoundedFindings()
        for one in self._appliance.findings():
            findings.add(one)
        for one in compare(self._descriptor, self._folder, Archive(self._appliance.files, disks, all_seen)):
            findings.add(one)
        for file in self._in_chunks():
            message = f"{shown_text(file.href)} is in chunks, which Keyhole does not join in a ZIP archive"
            findings.add(found("unsupported_subformat", message))
        return findings.all()

    @property
    def _candidate(self) -> Candidate | None:
        return next(iter(self._appliance.descriptors()), None)

    @property
    def _descriptor(self) -> Descriptor:
        candidate = self._candidate
        return candidate.descriptor or NOTHING if candidate is not None else NOTHING

    @property
    def _folder(self) -> bytes:
        candidate = self._candidate
        return candidate.folder if candidate is not None else b""

    def _whole(self, file: File) -> tuple[int, ...]:
        return self._appliance.files.find(self._folder, file).whole

    def _number_of(self, file: File) -> int | None:
        """Return the number of the member to which a reference leads; `None` if there is no such member."""
        whole = self._whole(file)
        return self._members.get(whole[0]) if whole else None

    def _in_chunks(self) -> Iterator[File]:
        for file in self._descriptor.files:
            there = self._appliance.files.find(self._folder, file)
            if file.chunk_size is not None and there.chunks and not leads_elsewhere(file.href):
                yield file


def read_descriptor(candidate: Candidate, entry: Entry, data: bytes) -> None:
    """Decompress and parse a candidate. `data` is the file's data as the archive stores them."""
    if entry.size > MAX_OVF:
        candidate.read(XML)
        return
    try:
        candidate.read(unpacked(entry, data))
    except DecodingError:
        # Report nothing here, because the inspection of the member reports the error.
        candidate.cannot_be_read()


def _unknown(size: int) -> Facts:
    return Facts(None, None, None, size, ())
