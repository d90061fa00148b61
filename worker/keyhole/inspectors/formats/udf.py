"""The volume structures of UDF that show how long the volume is. All fields are little-endian.

Source: ECMA-167, 3rd edition: part 2, section 9 (volume recognition), part 3, sections 7.2 (descriptor tag)
and 10 (volume descriptors); OSTA UDF 2.60, section 2.2 (places of the anchors, lengths of the sequences).

The recognition sequence begins at 32768. It has one descriptor every 2,048 bytes, or one in every block if
blocks are larger. `NSR02` or `NSR03` between `BEA01` and `TEA01` says that there is a UDF volume. An anchor
points to the volume's other descriptors. There are anchors in at least two of these places: block 256, the
last block N, and block N - 256. mkudffs makes blocks of 512 to 32,768 bytes.

| offset | bytes | field of a descriptor's tag |
|---|---|---|
| 0 | 2 | 1 primary, 2 anchor, 3 pointer, 5 partition, 6 logical volume, 8 terminating |
| 4 | 1 | sum of the tag's bytes except this one |
| 8 | 2 | CRC-16 (CCITT) of the bytes after the tag |
| 10 | 2 | number of bytes that the CRC covers, at most up to the block's end |
| 12 | 4 | number of the block that contains the descriptor |

| descriptor | offset | bytes | field |
|---|---|---|---|
| anchor | 16 | 4 + 4 | main sequence of descriptors: length in bytes, first block |
| anchor | 24 | 4 + 4 | reserve sequence: length in bytes, first block |
| partition | 188 | 4 + 4 | first block, number of blocks |
| logical volume | 84 | 128 | name: type of characters, characters; the last byte states the length of both |
"""

from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import unpack_from

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.text import printable

DESCRIPTOR_BYTES = 512
TAG_BYTES = 16
ANCHOR_BLOCK = 256
ANCHOR, POINTER, PARTITION, LOGICAL_VOLUME, TERMINATING = 2, 3, 5, 6, 8
#: UDF requires at least 16 blocks for a sequence, and tools make it that long, so no more blocks are read. If
#: blocks are large, all that tools write fits into fewer blocks.
MAX_SEQUENCE_BLOCKS, MAX_SEQUENCE_BYTES = 16, 256 * 1024

BEGINS = b"BEA01"
RECOGNISED = (b"NSR02", b"NSR03")
#: All identifiers in a recognition sequence of UDF, and as the last one the identifier of ISO 9660.
IDENTIFIERS = (BEGINS, *RECOGNISED, b"TEA01", b"BOOT2", b"CDW02", b"CD001")
NOTHING = bytes(5)

#: The distance in bytes between descriptors of a recognition sequence, unless blocks are larger.
APART = 2048
LARGEST_BLOCK = 32_768
#: Groups of block sizes that are tried in this order. Sizes in one group are tried at once, because reading
#: their anchors costs no more than reading one. A disc that also has ISO 9660 has blocks of 2,048 bytes.
BLOCK_SIZES = ((512,), (1024, 2048))
BRIDGE_BLOCK_SIZES = ((512,), (2048,), (1024,))


@dataclass(frozen=True, slots=True)
class Anchor:
    """The two sequences of volume descriptors that an anchor points to, in bytes."""

    block_size: int
    main: ByteRange
    reserve: ByteRange

    @property
    def end(self) -> int:
        """The offset where the later of the two sequences ends."""
        return max(part.end for part in (self.main, self.reserve) if part.length or part is self.main)

    @property
    def read(self) -> ByteRange:
        """The part of the main sequence that is read."""
        most = min(MAX_SEQUENCE_BLOCKS * self.block_size, MAX_SEQUENCE_BYTES)
        return ByteRange(self.main.offset, min(self.main.length, most))


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume, as its sequence of descriptors describes it.

    Attributes:
        end: The offset where the last partition ends, in bytes; zero if there is no partition.
        name: The name of the logical volume.
        intact: Whether all descriptors match their checksums and their places.
        continued: Whether the sequence continues elsewhere.
    """

    end: int
    name: str
    intact: bool
    continued: bool


def block_sizes(identifiers: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """The block sizes that the distance between descriptors allows, in groups that are tried in order.

    Args:
        identifiers: The identifiers of the structures at every 2,048 bytes from 32768 on.
    """
    begins = identifiers.index(BEGINS) if BEGINS in identifiers else 0
    behind = (number for number, name in enumerate(identifiers[begins + 1 :], 1) if name in IDENTIFIERS)
    distance = next(behind, 1)
    if distance > 1:
        return ((distance * APART,),)
    return BRIDGE_BLOCK_SIZES if b"CD001" in identifiers else BLOCK_SIZES


def anchor_at(data: bytes, block_size: int, block: int) -> Anchor | None:
    """The anchor in a block, or `None` if the block does not hold a valid one."""
    if not _is_descriptor(data[:block_size], block) or _identifier(data) != ANCHOR:
        return None
    main_length, main_block, reserve_length, reserve_block = unpack_from("<4I", data, 16)
    return Anchor(
        block_size,
        ByteRange(main_block * block_size, main_length),
        ByteRange(reserve_block * block_size, reserve_length),
    )


def read_sequence(data: bytes, anchor: Anchor) -> Volume:
    """Read the main sequence, up to its terminating descriptor."""
    end, name, intact, continued = 0, "", True, False
    for block, descriptor in _descriptors(data, anchor):
        identifier = _identifier(descriptor)
        if identifier == TERMINATING or not any(descriptor[:TAG_BYTES]):
            break
        if not _is_descriptor(descriptor, block):
            intact = False
        elif identifier == PARTITION:
            first, blocks = unpack_from("<2I", descriptor, 188)
            end = max(end, (first + blocks) * anchor.block_size)
        elif identifier == LOGICAL_VOLUME:
            name = _name(descriptor[84:212])
        elif identifier == POINTER:
            continued = True
    return Volume(end, name, intact, continued)


def _descriptors(data: bytes, anchor: Anchor) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data) - DESCRIPTOR_BYTES + 1, anchor.block_size):
        yield (anchor.main.offset + at) // anchor.block_size, data[at : at + anchor.block_size]


def _identifier(descriptor: bytes) -> int:
    return int.from_bytes(descriptor[:2], "little")


def _is_descriptor(data: bytes, block: int) -> bool:
    """Whether a block's descriptor matches its tag's sum, its CRC and the block number that it states."""
    if len(data) < DESCRIPTOR_BYTES:
        return False
    checksum, crc, length, location = unpack_from("<4xBxxxHHI", data)
    return bool(
        checksum == (sum(data[:TAG_BYTES]) - checksum) & 0xFF
        and location == block
        and length <= len(data) - TAG_BYTES
        and crc_hqx(data[TAG_BYTES : TAG_BYTES + length], 0) == crc
    )


def _name(field: bytes) -> str:
    """The name in a field of OSTA compressed Unicode, which has characters of 8 or 16 bits."""
    text = field[1 : min(field[127], 127)]
    return printable(text, "utf-16-be" if field[0] == 16 else "latin-1")
