"""The text descriptor of a VMDK: its type, the extents that make it up, and its parent if it has one.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; QEMU, block/vmdk.c,
vmdk_parse_extents and vmdk_parent_open.

A descriptor consists of lines: comments (`#`), settings (`name=value`, values often quoted) and extents
(`access sectors type "file" offset`). Its readers disagree about nearly everything else, so Keyhole reports
what any of them could see:

- Readers in C stop at the first NUL, readers that search bytes do not. So text after a NUL is read, too.
- Some readers match the case of names, others ignore it. So Keyhole ignores case.
- QEMU opens the parent at the first mention of `parentFileNameHint`, even in a comment, and Glance takes the
  first `createType="` for the type. So every mention of a name counts, not only settings.
- A line that begins like an extent counts as one, even if its type is unknown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.text import printable

CREATE_TYPE, PARENT_CID = "createType", "parentCID"
PARENT_HINT, CHANGE_TRACK_PATH = "parentFileNameHint", "changeTrackPath"
#: The settings that are read. A descriptor may have hundreds of others, about adapters and geometry.
SETTINGS = (CREATE_TYPE, PARENT_CID, PARENT_HINT, CHANGE_TRACK_PATH)

LINE_ENDS = re.compile(rb"[\r\n\0]++")
#: Matches a line that some reader could take for an extent.
EXTENT_LINE = re.compile(rb"^[^\S\n]*(?:RW|RDONLY|NOACCESS)(?!\w)[^\n]*", re.IGNORECASE | re.MULTILINE)
#: Matches a well-formed extent. Extents of type ZERO have no file name. After the offset within a device, a
#: partition's UUID and the device's identifier may follow (libvmdk's documentation).
EXTENT = re.compile(
    rb'\s*\w+\s+(\d{1,19})\s+(?:(ZERO)|(\w{1,20})\s+"([^"]*)"(?:\s+\d{1,19}(?:\s+\S+\s+\S+)?)?)\s*',
    re.IGNORECASE | re.ASCII,
)
VERSION = re.compile(rb"^[^\S\n]*version[^\S\n]*=[^\S\n]*(\S{1,20})", re.IGNORECASE | re.MULTILINE)
#: The type of an extent whose line is malformed.
UNKNOWN = "?"

#: The most extents that are read: 32 TiB in extents of 2 GiB, the shortest that tools split a disk into.
MAX_EXTENTS = 16 * 1024
#: The most values that are read of a repeated setting. No tool repeats a setting so often. If the limit is
#: reached, the setting also counts as misplaced, because its further values are unknown.
MAX_VALUES = 16
#: A finding shows as much of a file's name as QEMU reads (block/vmdk.c, vmdk_parse_extents).
SHOWN_NAME = 511

NO_PARENT = "ffffffff"


@dataclass(frozen=True, slots=True)
class Extent:
    """One extent line: its size in sectors, its type (`SPARSE`, `FLAT`, …), and the file that it names.

    If a line is not understood, its type is `?`, and its file is the whole line.
    """

    sectors: int
    kind: str
    file: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor. If a setting is stated twice, every value is kept, in order.

    `misplaced` are names that occur where they are not a setting: in a comment, or in another's value.
    `extents` are the first `MAX_EXTENTS` extents; `more_extents` says whether there are more.
    """

    settings: dict[str, tuple[str, ...]]
    misplaced: frozenset[str]
    extents: tuple[Extent, ...]
    more_extents: bool
    version: str | None

    def setting(self, name: str) -> str | None:
        """The first value of a setting in `SETTINGS`; `None` if it is not stated."""
        return self.settings.get(name, (None,))[0]

    def parent(self) -> Finding | None:
        """The finding that the image needs a parent; `None` if it does not."""
        hint = self.setting(PARENT_HINT)
        if any(value.lower() != NO_PARENT for value in self.settings.get(PARENT_CID, ())):
            named = f", {hint[:SHOWN_NAME]!r}" if hint else ""
            return found("parent_image", f"a delta VMDK holds only what differs from its parent image{named}")
        if hint is not None or PARENT_HINT in self.misplaced:
            return found("parent_image", f"the image names the parent {(hint or '')[:SHOWN_NAME]!r}")
        return None

    def change_tracking(self) -> Finding | None:
        """The finding that changes are tracked in another file; `None` if they are not."""
        path = self.setting(CHANGE_TRACK_PATH)
        if path or CHANGE_TRACK_PATH in self.misplaced:
            shown = (path or "")[:SHOWN_NAME]
            return found("change_track_path", f"changes are tracked in another file: {shown!r}")
        return None


def parse(raw: bytes) -> Descriptor:
    """Parse a descriptor, which may be padded with NULs. Unknown lines are ignored."""
    # Each NUL ends a line. Merge the padding, or the patterns below would try thousands of lines one by one.
    text = LINE_ENDS.sub(b"\n", raw)
    lowered = text.lower()
    settings: dict[str, tuple[str, ...]] = {}
    misplaced = set()
    for name in SETTINGS:
        mentions = list(_mentions(text, lowered, name.lower().encode()))
        if values := tuple(value for value in mentions if value is not None):
            settings[name] = values
        if None in mentions or len(mentions) == MAX_VALUES:
            misplaced.add(name)
    lines = EXTENT_LINE.finditer(text)
    extents = tuple(_extent(line.group()) for line in islice(lines, MAX_EXTENTS))
    version = VERSION.search(text)
    return Descriptor(
        settings=settings,
        misplaced=frozenset(misplaced),
        extents=extents,
        more_extents=next(lines, None) is not None,
        version=printable(version.group(1)) if version else None,
    )


def _mentions(text: bytes, lowered: bytes, name: bytes) -> Iterator[str | None]:
    """The values of a name at its first mentions; `None` for a mention that is not a setting."""
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
