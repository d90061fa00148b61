"""Finds a virtual machine's descriptor among the files of an archive.

Source: virt-v2v, input/OVA.ml, `find_files`, takes an `.ovf` in any folder, and allows only one; VirtualBox,
ApplianceImplImport.cpp, `i_readFSOVA`, takes the first in any folder, in upper or lower case. VMware's
ovftool and vSphere take the first, too.

An AppleDouble file, which macOS adds beside another file, is not a descriptor, whatever its suffix. A
descriptor in a folder does not make the archive a machine if it is not XML (`.ovf` is also the suffix of
OOMMF's vector fields), or if the archive has none of the files that it names. A descriptor that names files
of the host is a finding in any case.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from keyhole.inspectors.archives.apple_double import is_apple_double
from keyhole.inspectors.archives.names import digest, parts_of
from keyhole.inspectors.archives.ovf.descriptor import Descriptor, OVFError, parse
from keyhole.inspectors.archives.ovf.files import ArchiveFiles, leads_elsewhere, paths, shown_text
from keyhole.inspectors.findings import Finding, Severity, found

SUFFIX = b".ovf"
#: The longest descriptor that is read, in bytes. VMware's and VirtualBox's have some ten kilobytes.
MAX_OVF = 1024**2
#: How many bytes of a longer file are read, to know whether it is a descriptor.
FRONT_BYTES = 512
#: The most descriptors of one archive that are read, and the most bytes of all of them together. A mebibyte
#: of elements takes half a second.
MAX_OVFS, MAX_BYTES = 32, 4 * 1024**2
#: Bytes that may precede the first `<` of an XML text: byte order marks, zeros, white space.
BEFORE_XML = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
XML, XML_IN_EBCDIC = b"<", b"\x4c\x6f\xa7\x94"


@dataclass(slots=True)
class Candidate:
    """A file that may be a descriptor, and what is known about it."""

    number: int
    name: bytes
    size: int
    #: Whether it was read, or cannot be read.
    settled: bool = False
    #: Whether it is an AppleDouble file.
    is_apple: bool = False
    #: Whether it looks like XML, or cannot be read.
    is_text: bool = False
    descriptor: Descriptor | None = None
    error: Finding | None = None
    #: The digests of all paths that its references may mean; how many of the archive's files were compared
    #: with these; whether the archive has a file with one of these paths.
    _paths: frozenset[bytes] | None = None
    _compared: int = 0
    _has_files: bool = False

    @property
    def folder(self) -> bytes:
        """The path of its folder; empty for the archive's root."""
        return b"/".join(parts_of(self.name)[:-1])

    @property
    def wanted(self) -> int:
        """How many bytes of it to read."""
        return self.size if self.size <= MAX_OVF else FRONT_BYTES

    def read(self, text: bytes) -> None:
        """Read the descriptor from its first bytes, as many as are wanted."""
        self.settled = True
        self.is_apple = is_apple_double(self.name, text)
        start = text[:FRONT_BYTES].lstrip(BEFORE_XML)
        self.is_text = start.startswith(XML) or text.startswith(XML_IN_EBCDIC)
        if self.is_apple:
            return
        if self.size > MAX_OVF:
            message = f"the OVF has {self.size} bytes, at most {MAX_OVF} are read"
            self.error = found("unsupported_subformat", message)
            return
        try:
            self.descriptor = parse(text)
        except OVFError as error:
            self.error = error.finding

    def cannot_be_read(self) -> None:
        """Record that the file cannot be read, because it is empty or has holes."""
        self.settled = True
        self.is_text = self.size > 0
        self.error = found("structure", "the OVF is empty, or has holes")

    def describes(self, files: ArchiveFiles) -> bool:
        """Return whether readers take it for the archive's descriptor, judged by the files so far."""
        if self.is_apple:
            return False
        if not self.folder:
            return True
        if self.descriptor is None:
            return self.is_text
        if self._paths is None:
            named = self.descriptor.files
            self._paths = frozenset(digest(path) for file in named for path in paths(self.folder, file.href))
            self._has_files = not named
        # Files are never removed, so a match stays a match.
        self._has_files = self._has_files or not self._paths.isdisjoint(files.names[self._compared :])
        self._compared = len(files.names)
        return self._has_files


class Appliance:
    """The files of an archive, and which of them describes a machine."""

    def __init__(self) -> None:
        self.files = ArchiveFiles()
        self._candidates: list[Candidate] = []
        self._too_many = False

    def add(self, name: bytes, size: int) -> Candidate | None:
        """Add the archive's next file; return it as a candidate if it may be a descriptor."""
        number = len(self.files)
        self.files.add(name, size)
        if not name.lower().endswith(SUFFIX):
            return None
        candidate = Candidate(number, name, size)
        wanted = candidate.wanted + sum(one.wanted for one in self._candidates)
        if len(self._candidates) >= MAX_OVFS or wanted > MAX_BYTES:
            self._too_many = True
            return None
        self._candidates.append(candidate)
        return candidate

    @property
    def settled(self) -> bool:
        """Whether all candidates have been read."""
        return all(one.settled for one in self._candidates)

    def descriptors(self) -> list[Candidate]:
        """The files that readers take for the archive's descriptor, in their order."""
        return [one for one in self._candidates if one.describes(self.files)]

    def findings(self) -> Iterator[Finding]:
        """Findings on the descriptors, without comparing them with the archive's files."""
        taken = self.descriptors()
        if len(taken) > 1:
            yield found(
                "ambiguous_format", f"there are {len(taken)} OVFs, and readers differ in which they take"
            )
        if self._too_many:
            yield found(
                "member_limit", f"the archive has more than {MAX_OVFS} OVFs, or {MAX_BYTES} bytes of them"
            )
        before = {one.number for one in self._candidates if one.is_apple}
        if taken and any(number not in before for number in range(taken[0].number)):
            yield found("ovf_reference", "the OVF is not the first file of the archive", Severity.INFO)
        for one in self._candidates:
            if one.is_apple:
                continue
            if one.error is not None and (one in taken or one.error.severity is Severity.CRITICAL):
                yield one.error
            if one.descriptor is not None:
                yield from _of_host(one.descriptor)


def _of_host(descriptor: Descriptor) -> Iterator[Finding]:
    """Findings on files that a descriptor names outside the archive."""
    for file in descriptor.files:
        reason = leads_elsewhere(file.href)
        if reason:
            message = f"the OVF names {shown_text(file.href)}, which {reason}"
            yield found("ovf_reference", message, Severity.CRITICAL)
    for host in descriptor.host:
        message = f"the OVF names {shown_text(host.text)} as {host.place}, which {host.reason}"
        yield found("ovf_reference", message, Severity.CRITICAL)
