r"""Inspects VMDKs that consist only of a text descriptor. The extents with the content are other files.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; libvmdk's documentation, sections
"The descriptor file" and "Disk types"; QEMU, block/vmdk.c, vmdk_probe, vmdk_read_desc and vmdk_parse_extents.

| line | meaning |
|---|---|
| `# Disk DescriptorFile` | the usual first line; other lines that begin with `#` are comments |
| `version=1` | version of the format, 1 to 3 |
| `CID=1b437686` | identifier of the content |
| `parentCID=ffffffff` | identifier of the parent's content; all ones if there is no parent |
| `parentFileNameHint="base.vmdk"` | the parent's file name |
| `createType="monolithicFlat"` | the type of the disk |
| `RW 131072 FLAT "disk-flat.vmdk" 0` | an extent: access, length in sectors of 512 bytes, type, file, offset in the file in sectors |
| `changeTrackPath="disk-ctk.vmdk"` | the file that tracks changes |
| `ddb.adapterType = "ide"` | the disk database: adapters, geometry, identifiers |

The module `descriptor` parses the lines.

Readers that detect the format recognise a descriptor in two ways: by `version=` after comments and blank
lines, or by the usual first line, which has several spellings. Keyhole skips a UTF-8 byte order mark at the
front, because editors write it.

QEMU with `-f vmdk` requires neither of these lines. In this mode, QEMU reads the C string at the start of the
object, up to the first NUL. It searches the string for `createType` at every position, and for extents at the
beginnings of lines. So Keyhole reads every object up to its first NUL, piece by piece (`STEPS`). The object
is a descriptor if the string contains `createType` and names an extent or a parent, even if the object also
has another format.

If an object begins like a descriptor, Keyhole does not stop at the first NUL, because a descriptor can have
padding of NULs between two lines. The virtual size is the sum of the sizes of all extents. As in VMware, the
sum includes extents of type ZERO and read-only extents, although QEMU skips these extents. Keyhole does not
read the extents, so their wholeness is unknown.
"""  # noqa: E501 - the rows of the table are one line each

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.vmdk import descriptor as vmdk_descriptor
from keyhole.inspectors.formats.vmdk.descriptor import (
    CREATE_TYPE,
    PARENT_CID,
    PARENT_HINT,
    SHOWN_NAME,
    UNKNOWN,
    Descriptor,
    Extent,
)
from keyhole.inspectors.readers import VMDK_TEXT_BYTES
from keyhole.inspectors.region import CaptureRegion

#: A reader uses this many of the object's first bytes to detect the format (QEMU, BLOCK_PROBE_BUF_SIZE).
FRONT_BYTES = 512
#: The offsets where the pieces of the text end. Keyhole reads one piece after the other, until a piece
#: contains a NUL. In nearly every format, the first piece contains a NUL. In compressed or encrypted data,
#: the second piece usually contains a NUL. By default, the first GET fetches the first three pieces.
STEPS = (FRONT_BYTES, 4096, 256 * 1024, VMDK_TEXT_BYTES)
#: The byte order mark in UTF-8.
UTF8_MARK = b"\xef\xbb\xbf"
#: Matches the beginning of a descriptor: blank lines and the usual first line, or comments, blank lines and
#: the version.
FRONT = re.compile(
    rb"(?:[ \t]*\r?\n)*+[ \t]*#[ \t]*Disk[ \t]*Descriptor[ \t]*File"
    rb"|(?:#[^\n]*\n|[ \t]*\r?\n)*+[ \t]*version[ \t]*=[ \t]*[1-3][ \t]*\r?\n",
    re.IGNORECASE,
)
#: Matches the beginning of an extent. Readers treat a string with a `createType` as a descriptor if this
#: pattern matches or if the string names a parent. An extent can span several lines, because QEMU's sscanf
#: accepts line ends as white space.
EXTENT_BEGINS = re.compile(
    rb"(?:^|[\n\r])[ \t\v\f]*+(?:RW|RDONLY|NOACCESS)\s++[+-]?[0-9]", re.IGNORECASE | re.ASCII
)

#: The largest disk in bytes. QEMU stores a disk's length in a signed 64-bit number.
MAX_VIRTUAL_BYTES = (1 << 63) - 1
#: At most this many extents are reported. A split disk can have thousands of extents, but further findings
#: would not change the verdict.
MAX_FINDINGS = 32

VERSIONS = frozenset({"1", "2", "3"})
ZERO = "ZERO"
#: Values of `createType` for disks whose only extent contains the descriptor.
EMBEDDED_TYPES = frozenset({"monolithicSparse", "streamOptimized"})
#: All values of `createType` that the sources list.
TYPES = EMBEDDED_TYPES | {
    "2GbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "custom",
    "fullDevice",
    "monolithicFlat",
    "partitionedDevice",
    "seSparse",
    "twoGbMaxExtentFlat",
    "twoGbMaxExtentSparse",
    "vmfs",
    "vmfsEagerZeroedThick",
    "vmfsPassthroughRawDeviceMap",
    "vmfsPreallocated",
    "vmfsRDM",
    "vmfsRDMP",
    "vmfsRaw",
    "vmfsRawDeviceMap",
    "vmfsSparse",
    "vmfsThin",
}


class VMDKTextInspector(HeaderInspector):
    """Inspects VMDK text descriptors: the files that a descriptor names, and the sum of their sizes."""

    NAME = "vmdk"
    HEADER_LENGTH = FRONT_BYTES

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._parsed: Descriptor | None = None
        self._is_none = False

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether `prefix`, the object's first bytes, begins like a descriptor."""
        return FRONT.match(prefix.removeprefix(UTF8_MARK)) is not None

    @property
    def format_match(self) -> bool:
        """Whether the object begins like a descriptor, or is a descriptor for QEMU with `-f vmdk`."""
        return self._parsed is not None or super().format_match

    @property
    def mark(self) -> str:
        """The text of the descriptor."""
        return "descriptor at byte 0"

    @property
    def virtual_size(self) -> int:
        """The sum of the extents' sizes in bytes; zero until the text is read, or if the sum is too large."""
        total = self._extent_bytes
        return total if total <= MAX_VIRTUAL_BYTES else 0

    @property
    def subformat(self) -> str | None:
        """The descriptor's `createType`."""
        return self._parsed.setting(CREATE_TYPE) or None if self._parsed else None

    def post_process(self) -> None:
        """Declare the region of the next piece of the text. After the last piece, parse the whole text."""
        if self._parsed is not None or self._is_none or not self.filled("header"):
            return
        begins, text = super().format_match, b""
        for start, end in pairwise((0, *STEPS)):
            name = "header" if start == 0 else f"text to {end}"
            if not self.has_region(name):
                # The region does not include the header, because a stream has already passed the header.
                self.new_region(name, CaptureRegion(start, end - start))
            if not self.filled(name):
                if begins:
                    continue
                return
            text += self.captured(name)
            if not begins and b"\0" in text:
                break
        if not begins:
            self._read_string(text.partition(b"\0")[0])
        elif all(map(self.filled, self._regions)):
            self._parsed = vmdk_descriptor.parse(text.removeprefix(UTF8_MARK))

    def _read_string(self, text: bytes) -> None:
        """Parse the string at the start of the object if a reader would find an extent or a parent in it.

        Otherwise the object is not a descriptor, and the regions with the string are removed.
        """
        if leads_somewhere(text):
            self._parsed = vmdk_descriptor.parse(text)
            return
        self._is_none = True
        for name in [name for name in self._regions if name != "header"]:
            del self._regions[name]

    def details(self) -> Mapping[str, object]:
        """Return the version, the type, and the extents and the parent that the descriptor names."""
        descriptor = self._parsed
        if descriptor is None:
            return {}
        extents = descriptor.extents[:MAX_FINDINGS]
        facts: dict[str, object] = {
            "version": descriptor.version,
            "create_type": self.subformat,
            "extents": [f"{extent.kind} {extent.file}".strip() for extent in extents],
        }
        if parent := descriptor.setting(PARENT_HINT):
            facts["parent_file_name_hint"] = parent
        return facts

    def checks(self) -> list[Finding]:
        """Return findings about other files that the image needs, unknown features, and contradictions."""
        descriptor = self._parsed
        if descriptor is None:
            return []
        return [
            *self._leads_outside(descriptor),
            *self._states(descriptor),
            *self._contradictions(descriptor),
            *self._excess(descriptor),
        ]

    def _leads_outside(self, descriptor: Descriptor) -> Iterator[Finding]:
        if parent := descriptor.parent():
            yield parent
        others = [extent for extent in descriptor.extents if not _nowhere(extent)]
        for extent in others[:MAX_FINDINGS]:
            shown = extent.file[:SHOWN_NAME]
            yield found("extent_path", f"an extent of type {extent.kind} is another file: {shown!r}")
        if len(others) > MAX_FINDINGS:
            yield found("extent_path", f"{len(others) - MAX_FINDINGS} more extents are other files")
        if tracking := descriptor.change_tracking():
            yield tracking

    def _states(self, descriptor: Descriptor) -> Iterator[Finding]:
        if descriptor.version is not None and descriptor.version not in VERSIONS:
            yield found("unknown_features", f"VMDK version {descriptor.version!r} is unknown")
        if self.subformat is not None and self.subformat not in TYPES:
            yield found("unsupported_subformat", f"createType {self.subformat[:SHOWN_NAME]!r} is unknown")

    def _contradictions(self, descriptor: Descriptor) -> Iterator[Finding]:
        if descriptor.version is None:
            yield found("structure", "the descriptor states no version")
        if self.subformat is None:
            yield found("structure", "the descriptor states no createType")
        if self.subformat in EMBEDDED_TYPES:
            yield found(
                "structure", f"a descriptor of createType {self.subformat} must be embedded in its extent"
            )
        if len(set(descriptor.settings.get(CREATE_TYPE, ()))) > 1 or CREATE_TYPE in descriptor.misplaced:
            yield found(
                "structure", "the descriptor states two createTypes, or mentions createType elsewhere"
            )
        if PARENT_CID in descriptor.misplaced:
            yield found("structure", "the descriptor mentions parentCID where it is not a setting")
        if not descriptor.extents:
            yield found("structure", "the descriptor names no extent")
        if any(extent.kind == UNKNOWN for extent in descriptor.extents):
            yield found("structure", "a line begins like an extent but is malformed")

    def _excess(self, descriptor: Descriptor) -> Iterator[Finding]:
        if descriptor.more_extents:
            yield found("structure", f"the descriptor has more than {len(descriptor.extents)} extents")
        if self._extent_bytes > MAX_VIRTUAL_BYTES:
            yield found(
                "structure", f"the extents have {self._extent_bytes} bytes, more than a disk can have"
            )
        if self._size is not None and self._size > VMDK_TEXT_BYTES:
            yield found("structure", f"the descriptor is longer than the allowed {VMDK_TEXT_BYTES} bytes")

    @property
    def _extent_bytes(self) -> int:
        return sum(extent.sectors for extent in self._parsed.extents) * SECTOR if self._parsed else 0


def leads_somewhere(text: bytes) -> bool:
    """Return whether a reader that expects a descriptor would open an extent or a parent for this text."""
    lowered = text.lower()
    if CREATE_TYPE.lower().encode() not in lowered:
        return False
    return PARENT_HINT.lower().encode() in lowered or EXTENT_BEGINS.search(text) is not None


def _nowhere(extent: Extent) -> bool:
    """Return whether an extent consists of zeros and names no file."""
    return extent.kind == ZERO and not extent.file
