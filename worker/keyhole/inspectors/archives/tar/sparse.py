"""Reads the maps of sparse files in tar archives.

An archive stores only the pieces of a sparse file that are not holes, one after the other. A map has the
offset and the length of each piece in the file.

Source: GNU tar manual, "Storing Sparse Files": old GNU format, PAX formats 0.0, 0.1 and 1.0.

| format of the map | place of the map |
|---|---|
| old GNU, kind `S` | in the header, 4 pairs of numbers at 386; then in blocks of 21 pairs each |
| 0.0 | extended header: `GNU.sparse.offset` and `GNU.sparse.numbytes` alternate |
| 0.1 | extended header: `GNU.sparse.map`, numbers separated by commas |
| 1.0 | before the data, in blocks: decimal numbers, one on each line; the first is the number of pairs |

An old GNU header has two more fields: `extended`, u8 at 482 (nonzero: a block with more pairs follows, which
has the same field at 504), and the size of the file with its holes, 12 bytes at 483.
"""

from collections.abc import Generator, Iterable

from keyhole.inspectors.archives.tar.header import BLOCK, Header, TarError, ambiguous, number
from keyhole.inspectors.archives.tar.pax import Records, decimal
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.region import ByteRange

#: The most pieces of a sparse file that Keyhole accepts. A disk of one terabyte with a fresh installation has
#: about ten thousand pieces.
MAX_EXTENTS = 65_536
PAIRS_AT, HEADER_PAIRS, EXTENDED_AT, REAL_SIZE_AT = 386, 4, 482, 483
BLOCK_PAIRS, BLOCK_EXTENDED_AT = 21, 504
PAIR_BYTES = 24
#: The longest line of a map of format 1.0, in bytes: the digits of a number of 64 bits.
LINE_BYTES = 20

Pair = tuple[int, int]
#: A generator that yields the ranges of the archive that it needs, and to which the caller sends their bytes.
#: It returns the map and the offset at which the file's data end in the archive.
Reading = Generator[ByteRange | None, bytes, tuple[ExtentMap, int]]


def old_gnu(header: Header, at: int, stored: int) -> Reading:
    """Read the map of a file of kind `S`.

    The map begins in the header. It can continue in blocks after the header, which begin at the offset `at`.
    The file's data follow these blocks and have `stored` bytes.
    """
    if not header.is_gnu:
        raise TarError("unsupported_subformat", "a sparse file is in a format that is not GNU tar's")
    pairs, more = _pairs(header.block, PAIRS_AT, HEADER_PAIRS, header.block[EXTENDED_AT])
    while more:
        block = yield ByteRange(at, BLOCK)
        at += BLOCK
        further, more = _pairs(block, 0, BLOCK_PAIRS, block[BLOCK_EXTENDED_AT])
        pairs += further
        _bounded(len(pairs))
    real_size = number(header.block[REAL_SIZE_AT : REAL_SIZE_AT + 12])
    return lay_out(pairs, real_size, at, stored)


def pax(records: Records, at: int, stored: int) -> Reading:
    """Read the map of a file that an extended header describes as sparse.

    `stored` bytes follow the file's header, from the offset `at`. In format 1.0, these bytes begin with the
    map.
    """
    if b"GNU.sparse.major" in records.values or b"GNU.sparse.minor" in records.values:
        if records.pairs or {b"GNU.sparse.map", b"GNU.sparse.size"} & records.values.keys():
            raise ambiguous("a sparse file has maps of two formats")
        version = (records.number(b"GNU.sparse.major"), records.number(b"GNU.sparse.minor"))
        if version != (1, 0):
            raise TarError("unsupported_subformat", f"a sparse file of format {version[0]}.{version[1]}")
        pairs, length = yield from _lines(at, stored)
        return lay_out(pairs, _real_size(records, b"GNU.sparse.realsize"), at + length, stored - length)
    real_size = _real_size(records, b"GNU.sparse.size")
    listed = records.values.get(b"GNU.sparse.map")
    if listed is None:
        return lay_out(records.pairs, real_size, at, stored)
    if records.pairs:
        raise ambiguous("a sparse file has two maps")
    _bounded(listed.count(b",") // 2)
    numbers = [decimal(text) for text in listed.split(b",")]
    if len(numbers) % 2:
        raise TarError("structure", "the map of a sparse file has an offset without a length")
    return lay_out(list(zip(numbers[::2], numbers[1::2], strict=True)), real_size, at, stored)


def lay_out(pairs: Iterable[Pair], real_size: int, place: int, stored: int) -> tuple[ExtentMap, int]:
    """Return the extents of a sparse file in the archive, and the offset at which its data end.

    The data begin at the offset `place` and have `stored` bytes.

    Raises:
        TarError: The map contradicts itself, or readers interpret it differently.
    """
    extents = ExtentMap(real_size)
    reached, begins = 0, place
    for offset, length in pairs:
        if offset < reached or offset + length > real_size:
            raise TarError(
                "structure", "the map of a sparse file is not in order, or has a piece after the file's end"
            )
        reached = offset + length
        if not length:
            continue
        if (place - begins) % BLOCK:
            raise ambiguous("a sparse file has a piece that ends within a block, which not all readers skip")
        extents.add(offset, length, place)
        place += length
    if extents.stored != stored:
        raise TarError(
            "structure",
            f"the pieces in a sparse file's map have {extents.stored} bytes, but {stored} are stored",
        )
    return extents, place


def _pairs(block: bytes, at: int, count: int, extended: int) -> tuple[list[Pair], bool]:
    """Return the pairs in a block, and whether the next block has more pairs."""
    pairs = []
    for start in range(at, at + count * PAIR_BYTES, PAIR_BYTES):
        if not block[start + 12]:
            # If a pair's length begins with a NUL, GNU tar stops reading the map there, and Python continues.
            # Both readers see the same map only if no more pairs follow.
            if extended or any(block[start : at + count * PAIR_BYTES]):
                raise ambiguous("the map of a sparse file continues where some readers see its end")
            break
        pairs.append((number(block[start : start + 12]), number(block[start + 12 : start + 24])))
    return pairs, bool(extended)


def _lines(at: int, stored: int) -> Generator[ByteRange | None, bytes, tuple[list[Pair], int]]:
    """Read a map of format 1.0, which precedes the data. Return its pairs and its length in bytes."""
    numbers: list[int] = []
    rest, length = b"", 0
    while not numbers or len(numbers) <= 2 * numbers[0]:
        if length + BLOCK > stored or len(rest) > LINE_BYTES:
            raise TarError("structure", "the map of a sparse file does not end where its data begin")
        *lines, rest = (rest + (yield ByteRange(at + length, BLOCK))).split(b"\n")
        length += BLOCK
        numbers += [decimal(line) for line in lines]
        _bounded(numbers[0] if numbers else 0)
    pairs = numbers[1 : 2 * numbers[0] + 1]
    return list(zip(pairs[::2], pairs[1::2], strict=True)), length


def _real_size(records: Records, key: bytes) -> int:
    size = records.number(key)
    if size is None:
        raise TarError("structure", "a sparse file does not state its size")
    return size


def _bounded(extents: int) -> None:
    if extents > MAX_EXTENTS:
        raise TarError("member_limit", f"a sparse file is in more than {MAX_EXTENTS} pieces")
