"""Finds a virtual machine's descriptor among the files of an archive.

Source for the behaviour of readers: virt-v2v, input/OVA.ml, `find_files`, accepts an `.ovf` file in every
folder, but only one `.ovf` file in the archive; VirtualBox, ApplianceImplImport.cpp, `i_readFSOVA`, uses the
first `.ovf` file, in any folder and with the suffix in upper or lower case. VMware's ovftool and vSphere use
the first `.ovf` file, too.

Keyhole treats an `.ovf` file in the archive's root as the descriptor, unless the file is an AppleDouble file,
which macOS adds beside another file. An `.ovf` file in a folder is the descriptor only if it also meets two
more conditions:

- The file begins like XML. OOMMF's vector fields have the suffix `.ovf`, too, but they are not XML.
- The archive has at least one of the files that the descriptor names. This condition does not apply if the
  file cannot be parsed or names no files.

If an `.ovf` file names files of the host, Keyhole reports a finding even if the `.ovf` file is not the
archive's descriptor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from keyhole.inspectors.archives.apple_double import is_apple_double
from keyhole.inspectors.archives.names import digest, parts_of
from keyhole.inspectors.archives.ovf.descriptor import Descriptor, OVFError, parse
from keyhole.inspectors.archives.ovf.files import ArchiveFiles, leads_elsewhere, paths, shown_text
from keyhole.inspectors.findings import Finding, Severity, found

SUFFIX = b".ovf"
#: The longest descriptor that Keyhole reads, in bytes. VMware and VirtualBox write about ten kilobytes.
MAX_OVF = 1024**2
#: If a file is longer than `MAX_OVF`, Keyhole reads only this many bytes of the file, to find out whether the
#: file is a descriptor.
FRONT_BYTES = 512
#: The most descriptors of one archive that Keyhole reads, and the most bytes that they may have together.
#: Keyhole needs half a second to parse one mebibyte of XML elements.
MAX_OVFS, MAX_BYTES = 32, 4 * 1024**2
#: Bytes that may precede the first `<` of an XML text: byte order marks, zeros, white space.
BEFORE_XML = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
XML, XML_IN_EBCDIC = b"<", b"\x4c\x6f\xa7\x94"


@dataclass(slots=True)
class Candidate:
    """A file that may be a descriptor, and the facts that Keyhole has found out about the file."""

    number: int
    name: bytes
    size: int
    #: Whether Keyhole has read the file, or found that it cannot read the file.
    settled: bool = False
    #: Whether the file is an AppleDouble file.
    is_apple: bool = False
    #: Whether the file begins like XML. This is also true if Keyhole cannot read a file because the file has
    #: holes. Such a file can be a descriptor, so Keyhole reports the file.
    is_text: bool = False
    descriptor: Descriptor | None = None
    error: Finding | None = None
    #: `_paths` has the digests of all paths to which the descriptor's references can lead. `describes`
    #: compares these digests with the digests of the archive's file names. `_compared` is the number of file
    #: names compared so far, and `_has_files` is true if one of these names was equal to a path.
    _paths: frozenset[bytes] | None = None
    _compared: int = 0
    _has_files: bool = False

    @property
    def folder(self) -> bytes:
        """The path of the file's folder; empty for the archive's root."""
        return b"/".join(parts_of(self.name)[:-1])

    @property
    def wanted(self) -> int:
        """How many bytes of the file to read, from its beginning."""
        return self.size if self.size <= MAX_OVF else FRONT_BYTES

    def read(self, text: bytes) -> None:
        """Parse the descriptor. `text` has the first bytes of the file, as many as `wanted` states."""
        self.settled = True
        self.is_apple = is_apple_double(self.name, text)
        start = text[:FRONT_BYTES].lstrip(BEFORE_XML)
        self.is_text = start.startswith(XML) or text.startswith(XML_IN_EBCDIC)
        if self.is_apple:
            return
        if self.size > MAX_OVF:
            message = f"the OVF has {self.size} bytes, and Keyhole reads at most {MAX_OVF}"
            self.error = found("unsupported_subformat", message)
            return
        try:
            self.descriptor = parse(text)
        except OVFError as error:
            self.error = error.finding

    def cannot_be_read(self) -> None:
        """Record that Keyhole cannot read the file, because the file is empty or has holes."""
        self.settled = True
        self.is_text = self.size > 0
        self.error = found("structure", "the OVF is empty, or has holes")

    def describes(self, files: ArchiveFiles) -> bool:
        """Return whether readers treat the file as the archive's descriptor.

        `files` has the files of the archive that were added so far.
        """
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
        # `files` only grows, so compare only the names that were added since the last call.
        self._has_files = self._has_files or not self._paths.isdisjoint(files.names[self._compared :])
        self._compared = len(files.names)
        return self._has_files


class Appliance:
    """Finds the descriptors among the files of an archive."""

    def __init__(self) -> None:
        self.files = ArchiveFiles()
        self._candidates: list[Candidate] = []
        self._too_many = False

    def add(self, name: bytes, size: int) -> Candidate | None:
        """Add the archive's next file. Return a candidate if the file may be a descriptor; else `None`."""
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
        """Return the files that readers treat as the archive's descriptor, in the archive's order."""
        return [one for one in self._candidates if one.describes(self.files)]

    def findings(self) -> Iterator[Finding]:
        """Yield findings on the descriptors. `checks` compares the descriptors with the archive's files."""
        taken = self.descriptors()
        if len(taken) > 1:
            yield found(
                "ambiguous_format", f"the archive has {len(taken)} OVFs, and readers use different ones"
            )
        if self._too_many:
            yield found(
                "member_limit",
                f"the archive has more than {MAX_OVFS} OVFs, or its OVFs have more than {MAX_BYTES} bytes",
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
    """Yield findings on the files outside the archive that a descriptor names."""
    for file in descriptor.files:
        reason = leads_elsewhere(file.href)
        if reason:
            message = f"the OVF names {shown_text(file.href)}, which {reason}"
            yield found("ovf_reference", message, Severity.CRITICAL)
    for host in descriptor.host:
        message = f"the OVF names {shown_text(host.text)} as {host.place}, which {host.reason}"
        yield found("ovf_reference", message, Severity.CRITICAL)
