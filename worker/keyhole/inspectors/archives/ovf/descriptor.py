"""Parses OVF descriptors: a virtual machine's files and disks, and the host's files that the text names.

Source: DMTF DSP0243 2.1.1, "Open Virtualization Format", sections 7.1 (references), 8.3 (items) and 9.1
(disks); for version 0.9, VirtualBox, src/VBox/Main/xml/ovfreader.cpp.

| element | what is read |
|---|---|
| `References/File` | `id`, `href`, `size`, `compression`, `chunkSize` |
| `DiskSection/Disk` | `diskId`, `fileRef`, `parentRef`, `format`, `capacity`, `capacityAllocationUnits` |
| `SharedDiskSection/SharedDisk` | the same attributes |
| `ProductSection/Property` | `key`, `value`; a capacity can be `${key}`, which means this `value` |
| an item's `ResourceType`, `HostResource`, `HostExtentName` | the text: a device's kind, or its file |
| `Config`, `ExtraConfig` of VMware | `key`, `value` |
| all elements in `vbox:Machine` | attributes that name files; see `ovf.host` |
| `SpecParams/path` of oVirt | the text |
| `include` of XInclude | `href` |

The versions from 0.9 to 2 use different XML namespaces. Some writers use no namespace, or prefixes that they
do not declare. So Keyhole compares the names of elements without their prefixes. Version 0.9 writes
`<Section xsi:type="ovf:DiskSection_Type">` in place of `<DiskSection>`, and
`<Content xsi:type="ovf:VirtualSystem_Type">` in place of `<VirtualSystem>`.

Keyhole does not open files or URLs to which the text refers. To save memory, Keyhole does not build a tree of
the elements. A descriptor can be a mebibyte of elements, and the tree would take many times as much memory.
"""

import re
from dataclasses import dataclass, field, replace
from xml.sax import SAXException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from keyhole.inspectors.archives.ovf.host import (
    HostFile,
    of_inclusion,
    of_resource,
    of_setting,
    of_virtualbox,
)
from keyhole.inspectors.archives.ovf.text import EncodingError, decode
from keyhole.inspectors.archives.ovf.units import MAX_CAPACITY, number_of, unit_of
from keyhole.inspectors.effort import spend
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.text import printable

#: The most files, disks, properties, items or names of host files that an OVF may have. Each kind is counted
#: separately. A VMware machine has at most 256 disks.
MAX_ENTRIES = 1000
#: After this many characters, Keyhole ignores further pieces of an element's text.
MAX_TEXT = 4096
#: The attributes that Keyhole reads from files, disks and properties.
READ = frozenset(
    {"id", "href", "size", "compression", "chunkSize", "diskId", "fileRef", "parentRef", "format"}
    | {"capacity", "capacityAllocationUnits", "key", "value"}
)
#: The attributes that Keyhole reads from a section of version 0.9 (`KIND`) and from a setting (`SETTING`).
KIND, SETTING = frozenset({"type"}), frozenset({"key", "value"})
PROPERTY = re.compile(r"\$\{([^}]*)\}")

#: In version 0.9, these elements state their kind in the attribute `type`. Every kind has the suffix `TYPED`.
SECTIONS = frozenset({"Section", "Content"})
TYPED = "_Type"
#: The elements that Keyhole reads. If an entry has two names, the first is the name of the enclosing element.
FILE, PROPERTY_PATH = ("References", "File"), ("ProductSection", "Property")
DISKS = frozenset({("DiskSection", "Disk"), ("SharedDiskSection", "SharedDisk")})
SETTINGS = frozenset({"Config", "ExtraConfig"})
RESOURCES = frozenset({"HostResource", "HostExtentName"})
OVIRT_PATH, INCLUSION = ("SpecParams", "path"), "include"
VIRTUALBOX_MACHINE = "Machine"


class OVFError(Exception):
    """The descriptor cannot be read, for the reason in `finding`."""

    def __init__(self, check: str, message: str, severity: Severity | None = None) -> None:
        super().__init__(message)
        # The parser's message can quote the descriptor, so make all its characters printable.
        shown = printable(f"the OVF cannot be read: {message}".encode(errors="backslashreplace"))
        self.finding: Finding = found(check, shown, severity)


@dataclass(frozen=True, slots=True)
class File:
    """A file that belongs to the machine.

    `size` is in bytes, or `None` if the OVF does not state it as a number. `chunk_size` is in bytes: `None`
    if the OVF does not state it, and zero if the stated value is not a number.
    """

    id: str
    href: str
    size: int | None
    compression: str
    chunk_size: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine.

    `file` is the id of the disk's file, and `parent` is the id of the disk on which this disk is based; both
    can be empty. The OVF states the capacity as a multiple of `unit` bytes. `capacity` is in bytes; `None` if
    it is unknown.
    """

    id: str
    file: str
    parent: str
    format: str
    capacity: int | None
    unit: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A device of the machine.

    `kind` is its CIM resource type, or `None` if the OVF states no type. `text` is the device's
    `HostResource`, which can name a disk or a file.
    """

    kind: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed OVF. `note` states why some readers reject the encoding; `None` if all readers accept it."""

    files: tuple[File, ...]
    disks: tuple[Disk, ...]
    resources: tuple[Resource, ...] = ()
    host: tuple[HostFile, ...] = ()
    note: str | None = None

    def referred_to(self) -> dict[str, File]:
        """Return the files by the texts that disks use to refer to them: ids or, in oVirt, paths."""
        return {**{file.href: file for file in self.files}, **{file.id: file for file in self.files}}


def parse(raw: bytes) -> Descriptor:
    """Parse a descriptor.

    Raises:
        OVFError: The text is not XML, is not an OVF, has an unsupported encoding, declares a document type,
            has too many entries, or means different things to different readers.
    """
    try:
        text = decode(raw)
    except EncodingError as error:
        raise OVFError("unsupported_subformat" if error.unsupported else "structure", str(error)) from None
    descriptor = _parse(text.text)
    if text.other is not None and _parse(text.other) != descriptor:
        raise OVFError(
            "ambiguous_format",
            "its byte order mark and its declared encoding differ, and readers use different ones",
        )
    return replace(descriptor, note=text.note)


def _parse(text: str) -> Descriptor:
    reader = _Reader()
    parser = DefusedExpatParser(forbid_dtd=True)
    parser.setContentHandler(reader)
    try:
        parser.feed(text)
        parser.close()
    except DefusedXmlException:
        message = "it declares a document type, which may lead to other files"
        raise OVFError("ovf_reference", message, Severity.CRITICAL) from None
    except SAXException as error:
        raise OVFError("structure", f"it is not XML: {error.getMessage()}") from None
    if reader.root != "Envelope":
        raise OVFError("structure", "its root element is not Envelope")
    return reader.descriptor()


@dataclass(slots=True)
class _Item:
    """A device (an item in the OVF) whose element the parser has not finished yet."""

    depth: int = 0
    kind: str = ""
    resources: list[str] = field(default_factory=list)


class _Reader(ContentHandler):
    """Collects attributes and texts while the parser goes through the descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.root: str | None = None
        self._path: list[str] = []
        self._machines = 0
        self._files: list[dict[str, str]] = []
        self._disks: list[dict[str, str]] = []
        self._properties: dict[str, str] = {}
        self._resources: list[Resource] = []
        self._host: list[HostFile] = []
        self._item = _Item()
        # While the text of an element is being collected: `_text` has its pieces, `_length` is their length
        # in characters, and `_depth` is the depth of the element. `_depth` is zero if no text is being
        # collected.
        self._text: list[str] = []
        self._length = self._depth = 0

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802 - SAX calls it so
        """Handle the beginning of an element."""
        spend()
        name = _local(name)
        said = _attributes(attrs)
        if name in SECTIONS:
            kind = _local(_unambiguous(said, KIND).get("type", ""))
            name = kind.removesuffix(TYPED) if kind.endswith(TYPED) else name
        if self.root is None:
            self.root = name
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        self._machines += name == VIRTUALBOX_MACHINE
        self._take(parent, name, said)
        for entries in (self._files, self._disks, self._properties, self._resources, self._host):
            if len(entries) > MAX_ENTRIES:
                raise OVFError("structure", f"it has more than {MAX_ENTRIES} files, disks or other entries")

    def _take(self, parent: str, name: str, said: dict[str, str]) -> None:
        """If Keyhole reads this kind of element, store its attributes or begin to collect its text."""
        place = (parent, name)
        if place == FILE:
            self._files.append(_unambiguous(said))
        elif place in DISKS:
            self._disks.append(_unambiguous(said))
        elif place == PROPERTY_PATH:
            said = _unambiguous(said)
            self._properties[said.get("key", "")] = said.get("value", "")
        elif name in SETTINGS:
            self._host += of_setting(_unambiguous(said, SETTING))
        elif name == INCLUSION:
            self._host += of_inclusion(said)
        elif not self._depth and (name == "ResourceType" or name in RESOURCES or place == OVIRT_PATH):
            self._text, self._length, self._depth = [], 0, len(self._path)
        if self._machines:
            self._host += of_virtualbox(name, said)

    def characters(self, content: str) -> None:
        """Handle a piece of an element's text."""
        if self._depth and self._length <= MAX_TEXT:
            content = content if self._length else content.lstrip()
            self._text.append(content)
            self._length += len(content)

    def endElement(self, _name: str) -> None:  # noqa: N802 - SAX calls it so
        """Handle the end of an element."""
        name = self._path.pop()
        self._machines -= name == VIRTUALBOX_MACHINE
        if self._depth > len(self._path):
            self._depth = 0
            self._in_item(name, "".join(self._text).rstrip())
        elif self._item.depth > len(self._path):
            self._end_item()

    def _in_item(self, name: str, text: str) -> None:
        """Store the text of an item's element until the item ends."""
        self._item.depth = len(self._path)
        if name == "ResourceType":
            self._item.kind = text
        elif text:
            self._item.resources.append(text)

    def _end_item(self) -> None:
        item, self._item = self._item, _Item()
        kind = number_of(item.kind)
        for text in item.resources:
            self._resources.append(Resource(kind, text))
            self._host += of_resource(text)

    def descriptor(self) -> Descriptor:
        """Return the parsed descriptor. Call this at the end of the text."""
        return Descriptor(
            tuple(_file(said) for said in self._files),
            tuple(_disk(said, self._properties) for said in self._disks),
            tuple(self._resources),
            tuple(self._host),
        )


def _attributes(attrs: AttributesImpl) -> dict[str, str]:
    """Return an element's attributes by local name.

    If two attributes have the same local name and different values, a NUL joins their values, so that
    `_unambiguous` can detect them.
    """
    said: dict[str, str] = {}
    for key, value in attrs.items():
        name = _local(key)
        said[name] = value if said.get(name, value) == value else f"{said[name]}\0{value}"
    return said


def _unambiguous(said: dict[str, str], read: frozenset[str] = READ) -> dict[str, str]:
    """Return the attributes unchanged.

    Raises:
        OVFError: An attribute in `read` has two different values.
    """
    for name in sorted(read.intersection(said)):
        if "\0" in said[name]:
            message = f"an element has two values of {name}, and some readers use the first, some the last"
            raise OVFError("ovf_reference", message, Severity.CRITICAL)
    return said


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _file(said: dict[str, str]) -> File:
    return File(
        id=said.get("id", ""),
        href=said.get("href", ""),
        size=number_of(said.get("size", "")),
        compression=said.get("compression", ""),
        chunk_size=(number_of(said["chunkSize"]) or 0) if "chunkSize" in said else None,
    )


def _disk(said: dict[str, str], properties: dict[str, str]) -> Disk:
    unit = unit_of(said.get("capacityAllocationUnits", "byte"))
    capacity = said.get("capacity", "")
    stands_for = PROPERTY.fullmatch(capacity.strip())
    number = number_of(properties.get(stands_for[1], "") if stands_for else capacity)
    known = number is not None and unit is not None and number * unit <= MAX_CAPACITY
    return Disk(
        id=said.get("diskId", ""),
        file=said.get("fileRef", ""),
        parent=said.get("parentRef", ""),
        format=said.get("format", ""),
        capacity=number * unit if known and number is not None and unit is not None else None,
        unit=unit or 1,
    )
