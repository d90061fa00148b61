"""The text descriptor of a VMDK: its type, the extents that make it up, and its parent if it has one.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; QEMU, block/vmdk.c,
vmdk_parse_extents.

A descriptor is lines: comments (`#`), settings (`name=value`, values often quoted) and extents
(`access sectors type "file" offset`). Names are case-sensitive, as QEMU reads them. A reader in C stops at
the first NUL; readers that search bytes don't. So text behind a NUL is read here, too: whatever any reader
could see is checked.
"""

import re
from dataclasses import dataclass

from worker.inspectors.text import printable

#: An extent line; the file's name is missing in those of type ZERO.
EXTENT_LINE = re.compile(
    rb'\s*(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+([A-Z0-9_]+)(?:\s+"([^"]*)")?', re.IGNORECASE
)

#: A split disk has an extent for each 2 GB; 64 TB of them are the largest disk that VMware allows.
MAX_EXTENTS = 32768
#: Of a setting that is stated again and again, this many values are kept: two are a contradiction already.
MAX_VALUES = 16


@dataclass(frozen=True, slots=True)
class Extent:
    """One extent line: its size in sectors, its type (`SPARSE`, `FLAT`, …), and the file that it names."""

    sectors: int
    kind: str
    file: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor. Of a setting that is stated twice, every value is kept, in order."""

    settings: dict[str, tuple[str, ...]]
    extents: tuple[Extent, ...]

    def setting(self, name: str) -> str | None:
        """The first value of a setting, which is the one that QEMU goes by; `None` if it is not stated."""
        return self.settings.get(name, (None,))[0]


def parse(raw: bytes) -> Descriptor:
    """Parse a descriptor, which may be padded with NULs. Lines that make no sense are passed over."""
    settings: dict[str, list[str]] = {}
    extents: list[Extent] = []
    for line in re.split(rb"[\r\n\0]+", raw):
        if line.lstrip().startswith(b"#"):
            continue
        if extent := EXTENT_LINE.match(line):
            if len(extents) < MAX_EXTENTS:
                sectors, kind, file = extent.group(2, 3, 4)
                extents.append(Extent(int(sectors), kind.decode().upper(), printable(file or b"")))
            continue
        name, equals, value = line.partition(b"=")
        if equals and name.strip():
            values = settings.setdefault(printable(name.strip()), [])
            if len(values) < MAX_VALUES:
                values.append(printable(value.strip().strip(b'"')))
    return Descriptor({name: tuple(values) for name, values in settings.items()}, tuple(extents))
