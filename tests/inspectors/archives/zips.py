"""Builds ZIP archives with arbitrary headers, including headers that no tool would write."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keyhole.builders import Image
from keyhole.builders.zip import DIRECTORY, END, LOCAL, UNIX, VERSION

STORED, DEFLATED = 0, 8
FILE, LINK = 0o100644, 0o120777
#: The numbers of a member by name, as `headers` writes them.
Changes = Mapping[str, int | bytes]


@dataclass(frozen=True)
class Part:
    """A member. `local` and `directory` are the changed fields of its two headers."""

    name: bytes
    data: bytes
    method: int = STORED
    packed: bytes | None = None
    flags: int = 0
    mode: int = FILE
    extra: bytes = b""
    local: Changes = field(default_factory=dict)
    directory: Changes = field(default_factory=dict)
    #: Bytes before the member's header, and bytes after its data.
    before: bytes = b""
    behind: bytes = b""

    @property
    def stored(self) -> bytes:
        """The member's data in the archive."""
        if self.packed is not None:
            return self.packed
        return deflated(self.data) if self.method == DEFLATED else self.data

    def numbers(self, changes: Changes) -> dict[str, int | bytes]:
        """The fields of one of the member's headers."""
        told: dict[str, int | bytes] = {
            "name": self.name,
            "extra": self.extra,
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(self.stored),
            "size": len(self.data),
            "mode": self.mode,
        }
        return {**told, **changes}


def deflated(data: bytes) -> bytes:
    """Compress data with ZIP's usual method."""
    return zlib.compress(data, 6, wbits=-15)


def local(**told: int | bytes) -> bytes:
    """The header before a member's data."""
    name, extra = bytes(told["name"]), bytes(told["extra"])
    numbers = (told[key] for key in ("flags", "method"))
    sizes = (told[key] for key in ("crc", "packed", "size"))
    return LOCAL.pack(b"PK\3\4", VERSION, *numbers, 0, 33, *sizes, len(name), len(extra)) + name + extra


def entry(at: int, /, **told: int | bytes) -> bytes:
    """The member's header in the directory."""
    name, extra = bytes(told["name"]), bytes(told["extra"])
    numbers = (told[key] for key in ("flags", "method"))
    sizes = (told[key] for key in ("crc", "packed", "size"))
    mode = int(told["mode"]) << 16
    lengths = (len(name), len(extra), 0, told.get("disk", 0), 0)
    offset = int(told.get("offset", at))
    return (
        DIRECTORY.pack(b"PK\1\2", UNIX | VERSION, VERSION, *numbers, 0, 33, *sizes, *lengths, mode, offset)
        + name
        + extra
    )


def end(count: int, size: int, at: int, comment: bytes = b"", /, **told: int) -> bytes:
    """The end record."""
    numbers = {"disk": 0, "first": 0, "here": count, "all": count, "length": size, "offset": at}
    return END.pack(b"PK\5\6", *{**numbers, **told}.values(), len(comment)) + comment


def zipped(
    parts: Sequence[Part],
    *,
    comment: bytes = b"",
    between: bytes = b"",
    order: Sequence[int] = (),
    **told: int,
) -> bytes:
    """A ZIP.

    `between` precedes the directory, `order` sorts its entries, `told` sets fields of the end record.
    """
    data, offsets = b"", []
    for part in parts:
        data += part.before
        offsets.append(len(data))
        data += local(**part.numbers(part.local)) + part.stored + part.behind
    data += between
    headers = [
        entry(offset, **part.numbers(part.directory)) for offset, part in zip(offsets, parts, strict=True)
    ]
    directory = b"".join(headers[number] for number in order or range(len(headers)))
    return data + directory + end(len(order or headers), len(directory), len(data), comment, **told)


def image(data: bytes) -> Image:
    """Bytes as an image."""
    return Image.of(len(data), [(0, data)])


def field_of(kind: int, data: bytes) -> bytes:
    """An extra field of a header."""
    return struct.pack("<HH", kind, len(data)) + data


def unicode_path(name: bytes, of: bytes) -> bytes:
    """The extra field with a member's name in Unicode."""
    return field_of(0x7075, b"\1" + struct.pack("<L", zlib.crc32(of)) + name)


def descriptor(data: bytes, packed: int | None = None, *, mark: bool = True, wide: bool = False) -> bytes:
    """The data descriptor of a member. Its header was written before checksum and sizes were known."""
    packed = len(data) if packed is None else packed
    numbers = struct.pack("<LQQ" if wide else "<LLL", zlib.crc32(data), packed, len(data))
    return (b"PK\7\10" if mark else b"") + numbers
