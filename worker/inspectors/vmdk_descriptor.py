"""The text descriptor of a VMDK: its type, the extents that make it up, and its parent if it has one.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; QEMU, block/vmdk.c,
vmdk_parse_extents and vmdk_parent_open.

A descriptor is lines: comments (`#`), settings (`name=value`, values often quoted) and extents
(`access sectors type "file" offset`). Its readers disagree about nearly everything else, so whatever any of
them could see is told:

- A reader in C stops at the first NUL, readers that search bytes don't: text behind a NUL is read, too.
- Some take names as they are written, others in any case: names are read in any case.
- QEMU opens the parent at the first mention of `parentFileNameHint`, be it in a comment, and Glance takes the
  first `createType="` for the type: mentions are counted, not only settings.
- A line that begins like an extent is one, if only of a kind that nobody knows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from worker.inspectors.text import printable

CREATE_TYPE, PARENT_CID = "createType", "parentCID"
PARENT_HINT, CHANGE_TRACK_PATH = "parentFileNameHint", "changeTrackPath"
#: What is read of a descriptor; it may state hundreds of other things, about adapters and geometry.
SETTINGS = (CREATE_TYPE, PARENT_CID, PARENT_HINT, CHANGE_TRACK_PATH)

#: A line that some reader could take for an extent.
EXTENT_LINE = re.compile(rb"^[^\S\n]*(?:RW|RDONLY|NOACCESS)(?!\w)[^\n]*", re.IGNORECASE | re.MULTILINE)
#: An extent as it should be; the file's name is missing in those of type ZERO.
EXTENT = re.compile(
    rb'\s*\w+\s+(\d{1,19})\s+(?:(ZERO)|(\w+)\s+"([^"]*)"(?:\s+\d{1,19})?)\s*', re.IGNORECASE | re.ASCII
)
#: The kind of an extent whose line is not as it should be.
UNKNOWN = "?"

#: Far more than any image has that describes itself: it has one.
MAX_EXTENTS = 1024
#: Of a setting that is stated again and again, this many are read: two are a contradiction already.
MAX_VALUES = 16


@dataclass(frozen=True, slots=True)
class Extent:
    """One extent line: its size in sectors, its type (`SPARSE`, `FLAT`, …), and the file that it names.

    Of a line that is not understood the type is `?`, and the file the whole line.
    """

    sectors: int
    kind: str
    file: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor. Of a setting that is stated twice, every value is kept, in order.

    `strays` are names of settings that stand where no setting is: in a comment, in another's value.
    """

    settings: dict[str, tuple[str, ...]]
    strays: frozenset[str]
    extents: tuple[Extent, ...]

    def setting(self, name: str) -> str | None:
        """The first value of a setting in `SETTINGS`; `None` if it is not stated."""
        return self.settings.get(name, (None,))[0]


def parse(raw: bytes) -> Descriptor:
    """Parse a descriptor, which may be padded with NULs. Lines that make no sense are passed over."""
    text = raw.translate(bytes.maketrans(b"\r\0", b"\n\n"))
    lowered = text.lower()
    settings: dict[str, tuple[str, ...]] = {}
    strays = set()
    for name in SETTINGS:
        found = list(_mentions(text, lowered, name.lower().encode()))
        if values := tuple(value for value in found if value is not None):
            settings[name] = values
        if None in found:
            strays.add(name)
    lines = zip(range(MAX_EXTENTS), EXTENT_LINE.finditer(text), strict=False)
    return Descriptor(settings, frozenset(strays), tuple(_extent(line.group()) for _, line in lines))


def _mentions(text: bytes, lowered: bytes, name: bytes) -> Iterator[str | None]:
    """The first mentions of a name, as the value that it is given there; `None` where it is no setting."""
    end = 0
    for _ in range(MAX_VALUES):
        at = lowered.find(name, end)
        if at < 0:
            return
        end = at + len(name)
        before = text[text.rfind(b"\n", 0, at) + 1 : at]
        line_end = text.find(b"\n", end)
        after = text[end : len(text) if line_end < 0 else line_end].strip()
        stated = not before.strip() and after.startswith(b"=")
        yield printable(after[1:].strip().strip(b'"')) if stated else None


def _extent(line: bytes) -> Extent:
    understood = EXTENT.fullmatch(line)
    if not understood:
        return Extent(0, UNKNOWN, printable(line.strip()))
    sectors, zero, kind, file = understood.groups()
    return Extent(int(sectors), (zero or kind).decode().upper(), printable(file or b""))
