"""A member of a tar archive, as its own header and the headers before it describe it.

If a name is too long for a header, GNU tar announces it by a member of the kind `L` or `K`, and pax by an
extended header. If a member is announced twice, GNU tar uses the last announcement and Python the first.
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

#: The kinds that describe the next member, or all members.
ANNOUNCING = frozenset({*EXTENDED, GLOBAL, LONG_NAME, LONG_LINK})
LINKS = frozenset({HARD_LINK, SYMLINK})
#: The largest size that the octal field of a header can state.
MAX_OCTAL = 8**11 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A member. `stored` is how many bytes of data follow its header.

    `also` is the name that Python reads, if that differs from `name`.
    """

    header: Header
    name: bytes
    also: bytes
    link: bytes
    stored: int
    records: Records

    @property
    def kind(self) -> bytes:
        """The kind, as one character."""
        return self.header.kind

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder: its kind says so, or its name ends in a slash, as in old archives."""
        return self.kind == DIRECTORY or self.name.endswith(b"/")

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which has data. Extractors take an unknown kind for a file."""
        return self.kind not in BODILESS and not self.is_folder


class Announced:
    """The facts that earlier headers state about the next member."""

    def __init__(self) -> None:
        self._records: Records | None = None
        self._long: dict[bytes, bytes] = {}

    def add(self, header: Header, data: bytes) -> None:
        """Add a header that announces the next member, with its data.

        Raises:
            TarError: The header cannot be read, or readers interpret it differently.
        """
        text = data.partition(b"\0")[0]
        if header.kind == GLOBAL:
            if self._records or self._long or parse(data).decides:
                raise ambiguous("not all readers apply what an extended header states for all members")
        elif header.kind in EXTENDED and self._records is None and not self._long:
            self._records = parse(data)
            if header.kind == SOLARIS_EXTENDED and self._records.decides:
                raise ambiguous("an extended header has Solaris's type, which Go and others take for a file")
        elif header.kind in {LONG_NAME, LONG_LINK} - self._long.keys() and text and self._records is None:
            self._long[header.kind] = text
        else:
            raise ambiguous("a member is announced twice, and readers take the first or the last")

    def entry(self, header: Header) -> Entry:
        """Return the member that has this header, with all that was announced about it.

        Raises:
            TarError: The member began in another archive, has no name, or readers do not agree on it.
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
                f"{shown(entry.name)} has another size to libarchive, by a key of star for sparse files"
            )
        # Some readers take an old file for a folder if only the name in its own header ends in a slash.
        folder_to_some = header.name.endswith(b"/") or not entry.is_file
        if folder_to_some and (entry.stored or records.sparse):
            raise ambiguous(f"{shown(entry.name)} is not a file and has data, which not all readers skip")
        if entry.link and entry.kind not in LINKS:
            raise ambiguous(f"{shown(entry.name)} is not a link and has a target, to which BusyBox links it")
        if entry.also and entry.kind in LINKS:
            raise ambiguous(f"{shown(entry.name)} is a link that Python sees in another folder")
        if entry.kind == SPARSE and records.sparse:
            raise ambiguous(f"{shown(entry.name)} is sparse in two formats")
        return entry


def _stored(header: Header, records: Records) -> int:
    """Return how many bytes follow a header. A size in an extended header overrides the header's."""
    said = records.number(b"size")
    if said is None or said == header.size:
        return header.size
    if header.size or said <= MAX_OCTAL:
        # Only a size that does not fit the header needs a record, and the header then states zero. This
        # record is there to mislead readers that use it, or readers that do not.
        raise ambiguous(f"a header says {header.size} bytes, the extended one before it {said}")
    return said
