"""The OVF descriptor: which files a virtual machine is made of, and which of them are disks.

Source: DMTF DSP0243 2.1.1, "Open Virtualization Format", sections 7.1 (references) and 9.1 (disks); DSP0004
3.0, annex C.1, for units.

| element | attributes that are read |
|---|---|
| `References/File` | `id`, `href`, `size`, `compression`, `chunkSize` |
| `DiskSection/Disk` | `diskId`, `fileRef`, `parentRef`, `format`, `capacity`, `capacityAllocationUnits` |
| `ProductSection/Property` | `key`, `value`: what `${key}` stands for as a capacity |

Versions 0.9 to 2 have a namespace each, and some writers none, so names are compared without. Nothing in the
text is followed, and it is never kept as a tree: it may be a mebibyte of elements.
"""

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

#: Files, disks and properties that are read. A machine of VMware's has at most 256 disks.
MAX_ENTRIES = 1000
#: The attributes that count.
READ = frozenset(
    {"id", "href", "size", "compression", "chunkSize", "diskId", "fileRef", "parentRef", "format"}
    | {"capacity", "capacityAllocationUnits", "key", "value"}
)
#: No disk has more bytes: the largest that any format counts.
MAX_CAPACITY = 2**64 - 1

#: `byte`, `byte * 2^20`, `byte*1024*1024`.
UNITS = re.compile(r"byte(?:\s*\*\s*\d{1,10}(?:\^\d{1,2})?){0,4}")
FACTOR = re.compile(r"\*\s*(\d+)(?:\^(\d+))?")
#: What VMware wrote before there was a version 1, in some files also later.
OLD_UNITS = {"kilobytes": 2**10, "megabytes": 2**20, "gigabytes": 2**30}
PROPERTY = re.compile(r"\$\{([^}]*)\}")


class OVFError(Exception):
    """A descriptor that cannot be read; `hostile` if it should not have been written either."""

    def __init__(self, message: str, *, hostile: bool = False) -> None:
        super().__init__(message)
        self.hostile = hostile


@dataclass(frozen=True, slots=True)
class File:
    """A file that belongs to the machine. `size` in bytes, `None` if it is not stated."""

    id: str
    href: str
    size: int | None
    compression: str
    in_chunks: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine. `capacity` in bytes, within `unit` bytes of it; `None` if that is not known."""

    id: str
    file: str
    parent: str
    format: str
    capacity: int | None
    unit: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What an OVF says."""

    files: tuple[File, ...]
    disks: tuple[Disk, ...]


def parse(text: bytes) -> Descriptor:
    """Read a descriptor.

    Raises:
        OVFError: It is no XML, not an OVF, or wants something of whoever reads it.
    """
    reader = _Reader()
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    try:
        parser.feed(text)
        parser.close()
    except DefusedXmlException:
        raise OVFError("it declares a document type, which may lead to other files", hostile=True) from None
    except (ParseError, ValueError, LookupError) as error:
        raise OVFError(f"it is no XML: {error}") from None
    if reader.root != "Envelope":
        raise OVFError("its root is no Envelope")
    return reader.descriptor()


@dataclass(slots=True)
class _Reader:
    """Takes from the parser what counts, as it passes."""

    root: str | None = None
    path: list[str] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)
    disks: list[dict[str, str]] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = _local(tag)
        if self.root is None:
            self.root = name
        parent = self.path[-1] if self.path else ""
        self.path.append(name)
        if (parent, name) == ("References", "File"):
            self.files.append(_attributes(attributes))
        elif (parent, name) == ("DiskSection", "Disk"):
            self.disks.append(_attributes(attributes))
        elif (parent, name) == ("ProductSection", "Property"):
            said = _attributes(attributes)
            self.properties[said.get("key", "")] = said.get("value", "")
        if max(len(self.files), len(self.disks), len(self.properties)) > MAX_ENTRIES:
            raise OVFError(f"it lists more than {MAX_ENTRIES} files, disks or properties")

    def end(self, _tag: str) -> None:
        """An element ends."""
        self.path.pop()

    def close(self) -> None:
        """Nothing follows."""

    def descriptor(self) -> Descriptor:
        """What was read."""
        return Descriptor(
            tuple(_file(said) for said in self.files),
            tuple(_disk(said, self.properties) for said in self.disks),
        )


def _attributes(attributes: dict[str, str]) -> dict[str, str]:
    """An element's attributes by their local names."""
    said: dict[str, str] = {}
    for key, value in attributes.items():
        if said.setdefault(_local(key), value) != value and _local(key) in READ:
            raise OVFError(f"an element has two of {_local(key)}, of which readers take either", hostile=True)
    return said


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _file(said: dict[str, str]) -> File:
    return File(
        id=said.get("id", ""),
        href=said.get("href", ""),
        size=_number(said.get("size", "")),
        compression=said.get("compression", ""),
        in_chunks="chunkSize" in said,
    )


def _disk(said: dict[str, str], properties: dict[str, str]) -> Disk:
    unit = _unit(said.get("capacityAllocationUnits", "byte"))
    capacity = said.get("capacity", "")
    stands_for = PROPERTY.fullmatch(capacity.strip())
    number = _number(properties.get(stands_for[1], "") if stands_for else capacity)
    known = number is not None and unit is not None and number * unit <= MAX_CAPACITY
    return Disk(
        id=said.get("diskId", ""),
        file=said.get("fileRef", ""),
        parent=said.get("parentRef", ""),
        format=said.get("format", ""),
        capacity=number * unit if known and number is not None and unit is not None else None,
        unit=unit or 1,
    )


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _unit(text: str) -> int | None:
    """The bytes of a unit; `None` if it is not known."""
    text = text.strip().lower()
    if text in OLD_UNITS:
        return OLD_UNITS[text]
    if not UNITS.fullmatch(text):
        return None
    unit = 1
    for base, exponent in FACTOR.findall(text):
        unit *= int(base) ** int(exponent or 1)
    return unit if 0 < unit <= MAX_CAPACITY else None
