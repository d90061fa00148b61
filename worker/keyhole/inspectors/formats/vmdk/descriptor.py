"""Parses the text descriptor of a VMDK, which states the disk's type and names its extents and its parent.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; QEMU, block/vmdk.c,
vmdk_parse_extents and vmdk_parent_open.

A descriptor consists of lines: comments (`#`), settings (`name=value`, where the value is often quoted) and
extents (`access sectors type "file" offset`). Readers differ in the details. So Keyhole reports every value
that at least one reader would use:

- Readers in C stop at the first NUL, but readers that search the bytes do not. So Keyhole also reads the text
  after a NUL.
- Some readers distinguish upper and lower case in names, others do not. So Keyhole ignores case.
- QEMU opens the parent that follows the first `parentFileNameHint`, even if this name is in a comment. Glance
  reads the type after the first `createType="`. So Keyhole records every mention of these names, and not only
  settings.
- Keyhole treats every line that begins like an extent as an extent, even if its type is unknown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.text import printable

CREATE_TYPE, PARENT_CID = "createType", "parentCID"
PARENT_HINT, CHANGE_TRACK_PATH = "parentFileNameHint", "changeTrackPath"
#: The settings that Keyhole reads. A descriptor can have hundreds of other settings for adapters and
#: geometry.
SETTINGS = (CREATE_TYPE, PARENT_CID, PARENT_HINT, CHANGE_TRACK_PATH)

LINE_ENDS = re.compile(rb"[\r\n\0]++")
#: Matches a line that at least one reader could interpret as an extent.
EXTENT_LINE = re.compile(rb"^[^\S\n]*(?:RW|RDONLY|NOACCESS)(?!\w)[^\n]*", re.IGNORECASE | re.MULTILINE)
#: Matches a well-formed extent. Extents of type ZERO have no file name. If the extent is on a device, the
#: UUID of a partition and the identifier of the device can follow the offset (libvmdk's documentation).
EXTENT = re.compile(
    rb'\s*\w+\s+(\d{1,19})\s+(?:(ZERO)|(\w{1,20})\s+"([^"]*)"(?:\s+\d{1,19}(?:\s+\S+\s+\S+)?)?)\s*',
    re.IGNORECASE | re.ASCII,
)
VERSION = re.compile(rb"^[^\S\n]*version[^\S\n]*=[^\S\n]*(\S{1,20})", re.IGNORECASE | re.MULTILINE)
#: The type of an extent whose line is malformed.
UNKNOWN = "?"

#: At most this many extents are read. This many extents of 2 GiB make a disk of 32 TiB, and no tool splits a
#: disk into smaller extents.
MAX_EXTENTS = 16 * 1024
#: At most this many mentions of a setting are read. Tools do not repeat a setting so often. If the limit is
#: reached, the setting is also added to `Descriptor.misplaced`, because one of the mentions that are not read
#: may be in a comment or in another setting.
MAX_VALUES = 16
#: Findings show at most this many characters of a file name, which is as many as QEMU reads (block/vmdk.c,
#: vmdk_parse_extents).
SHOWN_NAME = 511

NO_PARENT = "ffffffff"


@dataclass(frozen=True, slots=True)
class Extent:
    """An extent: its size in sectors, its type (such as `SPARSE` or `FLAT`), and the file that it names.

    If the line is malformed, `kind` is `?`, `file` is the whole line, and `sectors` is zero.
    """

    sectors: int
    kind: str
    file: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor.

    Attributes:
        settings: The values of each setting in `SETTINGS`, in order. A setting can have several values.
        misplaced: The names in `SETTINGS` that are also mentioned elsewhere, such as in a comment or in the
            value of another setting.
        extents: The first `MAX_EXTENTS` extents.
        more_extents: Whether the descriptor has further extents.
        version: The value of `version`; `None` if there is none.
    """

    settings: dict[str, tuple[str, ...]]
    misplaced: frozenset[str]
    extents: tuple[Extent, ...]
    more_extents: bool
    version: str | None

    def setting(self, name: str) -> str | None:
        """Return the first value of a setting in `SETTINGS`, or `None` if the descriptor lacks it."""
        return self.settings.get(name, (None,))[0]

    def parent(self) -> Finding | None:
        """Return the finding that the image needs a parent, or `None` if it needs no parent."""
        hint = self.setting(PARENT_HINT)
        if any(value.lower() != NO_PARENT for value in self.settings.get(PARENT_CID, ())):
            named = f", {hint[:SHOWN_NAME]!r}" if hint else ""
            return found("parent_image", f"a delta VMDK stores only the changes to its parent image{named}")
        if hint is not None or PARENT_HINT in self.misplaced:
            return found("parent_image", f"the image names the parent {(hint or '')[:SHOWN_NAME]!r}")
        return None

    def change_tracking(self) -> Finding | None:
        """Return the finding that changes are tracked in another file, or `None` if they are not tracked."""
        path = self.setting(CHANGE_TRACK_PATH)
        if path or CHANGE_TRACK_PATH in self.misplaced:
            shown = (path or "")[:SHOWN_NAME]
            return found("change_track_path", f"changes are tracked in another file: {shown!r}")
        return None


def parse(raw: bytes) -> Descriptor:
    """Parse a descriptor, which can be padded with NULs. Unknown lines are ignored."""
    # A NUL ends a line. Merge the padding into one line end, so that the patterns do not try thousands of
    # lines.
    text = LINE_ENDS.sub(b"\n", _without_padding(raw))
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


def _without_padding(raw: bytes) -> bytes:
    """Return the text without the NULs at its end, or unchanged if there are also NULs within the text.

    Comparing the end of the text with zeros is ten times as fast as `rstrip` or the pattern for line ends.
    """
    end = raw.find(b"\0")
    return raw[:end] if end >= 0 and raw[end:] == bytes(len(raw) - end) else raw


def _mentions(text: bytes, lowered: bytes, name: bytes) -> Iterator[str | None]:
    """Yield the value for each of the first `MAX_VALUES` mentions; `None` if a mention is not a setting.

    `lowered` is `text` in lower case. `name` must be in lower case.
    """
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
