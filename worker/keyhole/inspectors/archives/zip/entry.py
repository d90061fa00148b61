r"""Parses the two headers of a ZIP archive's member: its entry in the directory, and its local header.

Source: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.9, 4.3.12, 4.4, 4.5.3 (ZIP64) and 4.6.9 (Unicode path). The
local header precedes the member's data. All fields are little-endian.

| directory | local | bytes | field |
|---|---|---|---|
| 0 | 0 | 4 | "PK\1\2" in the directory, "PK\3\4" before the data |
| 4 | | 2 | version made by: the upper byte is the system, 3 for Unix |
| 6 | 4 | 2 | version needed to extract |
| 8 | 6 | 2 | flags: bit 0 encrypted, 1 LZMA data have an end marker, 3 a descriptor follows the data, 6 and 13 strong encryption, 11 the name is UTF-8 |
| 10 | 8 | 2 | method |
| 12 | 10 | 4 | time and date |
| 16 | 14 | 4 | CRC-32 |
| 20 | 18 | 8 | compressed and uncompressed size |
| 28 | 26 | 4 | lengths of the name and of the extra fields, which follow the header in this order |
| 32 | | 2 | length of the comment, which follows the extra fields |
| 34 | | 4 | disk, internal attributes |
| 38 | | 4 | external attributes: the upper half is the mode on Unix |
| 42 | | 4 | offset of the local header |

Readers that can seek use the directory, and readers of a stream use the local headers. So Keyhole requires
that both headers agree. There is one exception: a writer that cannot seek leaves the checksum and the sizes
out of the local header, and writes them into a descriptor after the data. The descriptor can begin with
"PK\7\10", and its sizes have 4 or 8 bytes.
"""  # noqa: E501 - the rows of the table are one line each

import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

from keyhole.inspectors.archives.zip.records import ZipError

DIRECTORY_MARK, DIRECTORY = b"PK\1\2", struct.Struct("<4s6H3L5H2L")
LOCAL_MARK, LOCAL = b"PK\3\4", struct.Struct("<4s5H3L2H")
DESCRIPTOR_MARK = b"PK\7\10"
#: The length in bytes of the longest descriptor: mark, checksum and two sizes of 8 bytes.
MAX_DESCRIPTOR = 24
ENCRYPTED, DESCRIBED, STRONG, UTF_8, MASKED = 1 << 0, 1 << 3, 1 << 6, 1 << 11, 1 << 13
ZIP64_FIELD, UNICODE_PATH_FIELD = 0x0001, 0x7075
BEYOND = 0xFFFFFFFF
STORED, AES = 0, 99
SEPARATORS = (b"/", b"\\")


@dataclass(frozen=True, slots=True)
class Entry:
    """A member according to the directory.

    The member has `size` bytes. Its data have `packed` bytes in the archive. Its local header is at `offset`.
    """

    name: bytes
    unicode_name: bytes | None
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    mode: int
    offset: int

    @property
    def is_encrypted(self) -> bool:
        """Whether the data need a password."""
        return bool(self.flags & (ENCRYPTED | STRONG | MASKED)) or self.method == AES

    @property
    def is_named_in_utf8(self) -> bool:
        """Whether the name is valid UTF-8.

        Such a member needs no Unicode field. That field contains a second name: if it exists nevertheless,
        some readers use the second name, and other readers use this name.
        """
        try:
            self.name.decode()
        except UnicodeDecodeError:
            return False
        return True

    @property
    def is_folder(self) -> bool:
        """Whether the member is a folder: its name ends in a slash or a backslash."""
        return self.name.endswith(SEPARATORS)

    @property
    def is_folder_to_some(self) -> bool:
        """Whether the member is a folder according to its mode on Unix, but not according to its name."""
        return stat.S_ISDIR(self.mode) and not self.is_folder

    @property
    def is_link(self) -> bool:
        """Whether the member is a symbolic link according to its mode on Unix.

        Keyhole ignores which system made the archive, because not all readers check for Unix.
        """
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        """Whether the member is a device or a socket according to its mode on Unix.

        A pipe is treated as a file: Info-ZIP writes the mode of a pipe for data that it read from a pipe, and
        all readers extract a file.
        """
        kind = stat.S_IFMT(self.mode)
        return kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO}


def read_directory(data: bytes, count: int) -> Iterator[Entry]:
    """Parse the entries of a directory. `count` is the number of entries that the end record states.

    Raises:
        ZipError: The directory has another number of entries, or an entry is malformed.
    """
    at = 0
    for number in range(count):
        if not data.startswith(DIRECTORY_MARK, at) or at + DIRECTORY.size > len(data):
            raise ZipError(
                "structure", f"the ZIP directory has {number} entries, the end record states {count}"
            )
        fields = DIRECTORY.unpack_from(data, at)
        name_length, extra_length, comment_length, disk = fields[10:14]
        name_at = at + DIRECTORY.size
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        if at > len(data):
            raise ZipError("structure", "an entry of the ZIP directory ends after the directory")
        if disk not in {0, 0xFFFF}:
            raise ZipError("unsupported_subformat", "the ZIP archive is one of several files")
        name = data[name_at:extra_at]
        extra = _fields(data[extra_at : extra_at + extra_length])
        size, packed, offset = _zip64(extra, fields[9], fields[8], fields[16])
        yield Entry(
            name,
            _unicode_name(extra, name),
            flags=fields[3],
            method=fields[4],
            checksum=fields[7],
            packed=packed,
            size=size,
            mode=fields[15] >> 16,
            offset=offset,
        )
    if at != len(data):
        raise ZipError(
            "ambiguous_format",
            f"the ZIP directory continues after the {count} entries that the end record states",
        )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The descriptor that should follow a member's data. It has the checksum and the sizes.

    The sizes have 8 bytes if a size does not fit into 4 bytes, or if the local header has a ZIP64 field. This
    field tells a reader of a stream the length of the sizes. If the data are not compressed, the descriptor
    must begin with its mark, because only the mark tells such a reader where the data end.
    """

    entry: Entry
    has_zip64: bool

    def is_all_of(self, data: bytes) -> bool:
        """Return whether the bytes are exactly this descriptor."""
        entry = self.entry
        wide = self.has_zip64 or max(entry.packed, entry.size) > BEYOND
        numbers = struct.pack("<LQQ" if wide else "<LLL", entry.checksum, entry.packed, entry.size)
        return data == DESCRIPTOR_MARK + numbers or (data == numbers and entry.method != STORED)


@dataclass(frozen=True, slots=True)
class Local:
    """The local header, which precedes a member's data."""

    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    name_length: int
    extra_length: int

    @classmethod
    def read(cls, data: bytes) -> "Local":
        """Parse the header, without the name and the extra fields that follow the header.

        Raises:
            ZipError: The bytes are not a local header.
        """
        if len(data) < LOCAL.size or not data.startswith(LOCAL_MARK):
            raise ZipError("structure", "the ZIP directory refers to an offset where no member begins")
        fields = LOCAL.unpack(data)
        return cls(fields[2], fields[3], *fields[6:11])

    @property
    def length(self) -> int:
        """The length in bytes of the header, the name and the extra fields, which precede the data."""
        return LOCAL.size + self.name_length + self.extra_length

    def descriptor(self, entry: Entry, rest: bytes) -> Descriptor | None:
        """Return the descriptor that should follow the data; `None` if the header announces no descriptor.

        `rest` has the name and the extra fields.

        Raises:
            ZipError: The extra fields are malformed.
        """
        if not self.flags & DESCRIBED:
            return None
        return Descriptor(entry, ZIP64_FIELD in _fields(rest[self.name_length :]))

    def differences(self, entry: Entry, rest: bytes) -> Iterator[str]:
        """Yield the fields that differ from the directory. `rest` has the name and the extra fields.

        Raises:
            ZipError: The extra fields are malformed.
        """
        name = rest[: self.name_length]
        extra = _fields(rest[self.name_length :])
        size, packed, _ = _zip64(extra, self.size, self.packed, 0)
        if name != entry.name or _unicode_name(extra, name) not in {None, entry.unicode_name or name}:
            yield "name"
        if self.method != entry.method:
            yield "method"
        # An ASCII name is the same with and without the UTF-8 flag.
        if (self.flags ^ entry.flags) & ~(UTF_8 if name.isascii() else 0):
            yield "flags"
        for said, stated, what in (
            (self.checksum, entry.checksum, "checksum"),
            (packed, entry.packed, "compressed size"),
            (size, entry.size, "size"),
        ):
            if said != stated and (said or not self.flags & DESCRIBED):
                yield what


def _fields(extra: bytes) -> Mapping[int, bytes]:
    """Return the extra fields by their kinds.

    Raises:
        ZipError: The fields are malformed, or readers interpret them differently.
    """
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4 + length
        if kind in fields and kind in {ZIP64_FIELD, UNICODE_PATH_FIELD}:
            raise ZipError("ambiguous_format", "a ZIP member has the same extra field twice")
        fields[kind] = extra[at - length : at]
    # Up to three zeros at the end are padding, which Android's tools write. They are too few for a field.
    if at > len(extra) or any(extra[at:]):
        raise ZipError(
            "structure", "an extra field of a ZIP member is longer than the space for extra fields"
        )
    return fields


def _zip64(extra: Mapping[int, bytes], size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return size, compressed size and offset.

    If all bits of a value are set, the real value is in the ZIP64 field. The ZIP64 field contains only these
    real values, in this order: size, compressed size, offset.
    """
    field, at = extra.get(ZIP64_FIELD, b""), 0
    numbers = []
    for said in (size, packed, offset):
        if said != BEYOND:
            numbers.append(said)
        elif at + 8 > len(field):
            raise ZipError("structure", "a ZIP member refers to a ZIP64 field but has none")
        else:
            numbers.append(int.from_bytes(field[at : at + 8], "little"))
            at += 8
    return numbers[0], numbers[1], numbers[2]


def _unicode_name(extra: Mapping[int, bytes], name: bytes) -> bytes | None:
    """Return the name in the Unicode path field; `None` if the field does not belong to the member's name.

    The field belongs to the name if it has the name's checksum.
    """
    field = extra.get(UNICODE_PATH_FIELD)
    if (
        field is None
        or len(field) < 5
        or field[0] != 1
        or int.from_bytes(field[1:5], "little") != crc32(name)
    ):
        return None
    return field[5:]
