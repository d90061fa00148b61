"""Builds tar archives block by block, including archives that no tool would write."""

from collections.abc import Sequence

from keyhole.builders import Image, tar_header
from keyhole.builders.tar import BLOCK, summed

END = bytes(2 * BLOCK)
GNU_MAGIC = b"ustar  \0"
#: A part of an archive: bytes, or the bytes of an image.
Part = bytes | Image


def archive(*parts: Part, end: bytes = END) -> Image:
    """The parts in order, each padded to whole blocks, followed by the archive's end."""
    at, pieces = 0, []
    for part in (*parts, end):
        image = part if isinstance(part, Image) else Image.of(len(part), [(0, part)] if part else [])
        pieces += [(at + offset, data) for offset, data in image.pieces]
        at += -(-image.size // BLOCK) * BLOCK
    return Image.of(at, pieces)


def file(name: bytes, content: Part, *, kind: bytes = b"0") -> tuple[Part, Part]:
    """A file's header and its data."""
    size = content.size if isinstance(content, Image) else len(content)
    return tar_header(name, size, kind=kind), content


def patched(header: bytes, at: int, data: bytes) -> bytes:
    """A header with some bytes replaced, and with a correct checksum."""
    return summed(header[:at] + data + header[at + len(data) :])


def sized(header: bytes, field: bytes) -> bytes:
    """A header whose size field has these bytes."""
    return patched(header, 124, field.ljust(12, b"\0"))


def binary(value: int) -> bytes:
    """A number in GNU tar's format for numbers that are too long for octal."""
    return b"\x80" + value.to_bytes(11, "big")


def gnu(header: bytes) -> bytes:
    """A header with GNU tar's magic."""
    return patched(header, 257, GNU_MAGIC)


def old(header: bytes) -> bytes:
    """A header in the original format, which has no magic."""
    return patched(header, 257, bytes(255))


def long_name(name: bytes, *, kind: bytes = b"L") -> tuple[Part, Part]:
    """GNU tar's member that holds the next member's long name, or (`K`) its long link target."""
    return gnu(tar_header(b"././@LongLink", len(name) + 1, kind=kind)), name + b"\0"


def record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header."""
    length = len(key) + len(value) + 3
    digits = len(b"%d" % (length + len(b"%d" % length)))
    return b"%d %s=%s\n" % (length + digits, key, value)


def extended(*records: tuple[bytes, bytes], kind: bytes = b"x") -> tuple[Part, Part]:
    """An extended header."""
    data = b"".join(record(key, value) for key, value in records)
    return tar_header(b"PaxHeaders/x", len(data), kind=kind), data


def old_sparse(
    name: bytes, size: int, pairs: Sequence[tuple[int, int]], stored: int, *, real_size: int | None = None
) -> list[Part]:
    """The header of a sparse file in GNU tar's old format, and the blocks that continue its map."""
    fields = [binary(offset) + b"%011o\0" % length for offset, length in pairs]
    more = [fields[at : at + 21] for at in range(4, len(fields), 21)]
    header = gnu(tar_header(name, stored, kind=b"S"))
    header = patched(header, 386, b"".join(fields[:4]))
    header = patched(header, 482, bytes([bool(more)]) + binary(size if real_size is None else real_size))
    blocks = [
        b"".join(part).ljust(504, b"\0") + bytes([number < len(more)]) + bytes(7)
        for number, part in enumerate(more, 1)
    ]
    return [header, *blocks]
