"""Combines the header of a member in a tar archive with the preceding headers that describe the same member.

If a name is too long for a header, GNU tar writes the name into a member of kind `L` or `K` before the
header, and pax writes it into an extended header. In this module, a header that describes the next member
"announces" it. If a member is announced twice, GNU tar uses the last announcement, and Python uses the first.
So Keyhole refuses an archive with such a member.
"""

from dataclasses import dataclass

from keyhole.inspectors.archives.names import shown
from keyhole.inspectors.archives.tar.header import (
    BODILESS,
    CONTINUED,
    DIRECTORY,
    EXTENDED,
    GLOBAL,
    HARD_LINK,
    LONG_LINK,
    LONG_NAME,
    SOLARIS_EXTENDED,
    SPARSE,
    SYMLINK,
    Header,
    TarError,
    ambiguous,
)
from keyhole.inspectors.archives.tar.pax import REAL_SIZE, Records, parse

#: The kinds of headers that describe the next member, or all members.
ANNOUNCING = frozenset({*EXTENDED, GLOBAL, LONG_NAME, LONG_LINK})
LINKS = frozenset({HARD_LINK, SYMLINK})
#: The largest size that the octal field of a header can state.
MAX_OCTAL = 8**11 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an archive.

    `stored` is how many bytes of data follow the member's header. `also` is the name that Python reads; it is
    empty if Python reads `name`.
    """

    header: Header
    name: bytes
    also: bytes
    link: bytes
    stored: int
    records: Records

    @property
    def kind(self) -> bytes:
        """The kind of the member, one character."""
        return self.header.kind

    @property
    def is_folder(self) -> bool:
        """Whether the member is a folder, by its kind or, in old archives, by a slash after its name."""
        return self.kind == DIRECTORY or self.name.endswith(b"/")

    @property
    def is_file(self) -> bool:
        """Whether the member is a file. Extractors treat a member of an unknown kind as a file."""
        return self.kind not in BODILESS and not self.is_folder


class Announced:
    """The facts that earlier headers state about the next member."""

    def __init__(self) -> None:
        self._records: Records | None = None
        self._long: dict[bytes, bytes] = {}

    def add(self, header: Header, data: bytes) -> None:
        """Add a header that announces the next member, and the data of this header.

        Raises:
            TarError: The data are malformed, or readers interpret the header differently.
        """
        text = data.partition(b"\0")[0]
        if header.kind == GLOBAL:
            if self._records or self._long or parse(data).decides:
                raise ambiguous("an extended header describes all members, and not all readers apply it")
        elif header.kind in EXTENDED and self._records is None and not self._long:
            self._records = parse(data)
            if header.kind == SOLARIS_EXTENDED and self._records.decides:
                raise ambiguous("an extended header has Solaris's type, which Go and others read as a file")
        elif header.kind in {LONG_NAME, LONG_LINK} - self._long.keys() and text and self._records is None:
            self._long[header.kind] = text
        else:
            raise ambiguous("a member is announced twice, and some readers use the first, some the last")

    def entry(self, header: Header) -> Entry:
        """Return the member with this header, completed with the facts that earlier headers announced.

        Raises:
            TarError: The member began in another archive, has no name, or is different for different readers.
        """
        records = self._records or Records()
        announced = records.name or self._long.get(LONG_NAME)
        entry = Entry(
            header,
            name=announced or header.name,
            also=b"" if announced else header.also,
            link=records.values.get(b"linkpath") or self._long.get(LONG_LINK) or header.link,
            stored=_stored(header, records),
            records=records,
        )
        if entry.kind == CONTINUED:
            raise TarError("data_file", f"{shown(entry.name)} began in another archive")
        if not entry.name:
            raise TarError("structure", "a member has no name")
        if records.number(REAL_SIZE) not in {None, entry.stored} and not records.sparse:
            raise ambiguous(
                f"libarchive reads another size of {shown(entry.name)}, from star's key for sparse files"
            )
        # If the name in the member's own header ends in a slash, some readers treat the member as a folder,
        # even if an earlier header announces another name.
        folder_to_some = header.name.endswith(b"/") or not entry.is_file
        if folder_to_some and (entry.stored or records.sparse):
            raise ambiguous(f"{shown(entry.name)} is not a file and has data, which not all readers skip")
        if entry.link and entry.kind not in LINKS:
            raise ambiguous(f"{shown(entry.name)} is not a link but has a target, so BusyBox makes a link")
        if entry.also and entry.kind in LINKS:
            raise ambiguous(f"{shown(entry.name)} is a link for which Python reads another folder")
        if entry.kind == SPARSE and records.sparse:
            raise ambiguous(f"{shown(entry.name)} is sparse in two formats")
        return entry


def _stored(header: Header, records: Records) -> int:
    """Return how many bytes follow a header. A size in an extended header overrides the header's size."""
    said = records.number(b"size")
    if said is None or said == header.size:
        return header.size
    if header.size or said <= MAX_OCTAL:
        # A writer needs a size in an extended header only if the size does not fit into the header. Then it
        # writes zero into the header. Here the header states another size, or the size would fit into the
        # header. So readers that support extended headers and readers that do not would see different
        # members.
        raise ambiguous(f"a header states {header.size} bytes, the extended header before it {said}")
    return said
