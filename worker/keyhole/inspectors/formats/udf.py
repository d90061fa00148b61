"""The volume structures of UDF that show how long the volume is. All fields are little-endian.

Source: ECMA-167, 3rd edition: part 2, section 9 (volume recognition), part 3, sections 7.2 (descriptor tag)
and 10 (volume descriptors); OSTA UDF 2.60, section 2.2 (places of the anchors, lengths of the sequences).

A UDF disc begins with a recognition sequence at byte 32768. The sequence has a descriptor every 2,048 bytes,
or a descriptor in every block if blocks are larger. If the disc has a UDF volume, the sequence has a
descriptor `NSR02` or `NSR03` between `BEA01` and `TEA01`. An anchor points to the volume's other descriptors.
A disc has an anchor in at least two of these blocks: block 256, the last block N, and block N - 256. The tool
mkudffs writes blocks of 512 to 32,768 bytes.

| offset | bytes | field of a descriptor's tag |
|---|---|---|
| 0 | 2 | type: 1 primary, 2 anchor, 3 pointer, 5 partition, 6 logical volume, 8 terminating |
| 4 | 1 | sum of the tag's other bytes, modulo 256 |
| 8 | 2 | CRC-16 (CCITT) of the bytes after the tag |
| 10 | 2 | number of bytes that the CRC covers; these bytes must be in the same block |
| 12 | 4 | number of the block that contains the descriptor |

| descriptor | offset | bytes | field |
|---|---|---|---|
| anchor | 16 | 4 + 4 | main sequence of descriptors: length in bytes, first block |
| anchor | 24 | 4 + 4 | reserve sequence: length in bytes, first block |
| partition | 188 | 4 + 4 | first block, number of blocks |
| logical volume | 84 | 128 | name: character type (1 byte), characters; the last byte counts the bytes used |
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
#: At most this many blocks and bytes of a sequence are read. UDF requires at least 16 blocks for a sequence,
#: and tools write exactly 16. If blocks are large, the limit in bytes allows fewer than 16 blocks. These
#: blocks still contain all descriptors that tools write.
MAX_SEQUENCE_BLOCKS, MAX_SEQUENCE_BYTES = 16, 256 * 1024

BEGINS = b"BEA01"
RECOGNISED = (b"NSR02", b"NSR03")
#: All identifiers in a recognition sequence of UDF, followed by the identifier of ISO 9660.
IDENTIFIERS = (BEGINS, *RECOGNISED, b"TEA01", b"BOOT2", b"CDW02", b"CD001")
NOTHING = bytes(5)

#: The distance in bytes between two descriptors of a recognition sequence, unless blocks are larger.
APART = 2048
LARGEST_BLOCK = 32_768
#: Groups of block sizes, in the order in which Keyhole tries them. All sizes of a group are tried at once,
#: because reading all their anchors needs no more requests than reading one anchor. If a disc also has ISO
#: 9660, Keyhole uses `BRIDGE_BLOCK_SIZES` instead. These groups contain 2,048 bytes before 1,024, because
#: discs with ISO 9660 usually have blocks of 2,048 bytes.
BLOCK_SIZES = ((512,), (1024, 2048))
BRIDGE_BLOCK_SIZES = ((512,), (2048,), (1024,))


@dataclass(frozen=True, slots=True)
class Anchor:
    """An anchor: the block size in bytes, and the ranges of the two sequences that it points to."""

    block_size: int
    main: ByteRange
    reserve: ByteRange

    @property
    def end(self) -> int:
        """The higher of the offsets in bytes where the two sequences end."""
        return max(part.end for part in (self.main, self.reserve) if part.length or part is self.main)

    @property
    def read(self) -> ByteRange:
        """The range of the main sequence, cut to the part that is read."""
        most = min(MAX_SEQUENCE_BLOCKS * self.block_size, MAX_SEQUENCE_BYTES)
        return ByteRange(self.main.offset, min(self.main.length, most))


@dataclass(frozen=True, slots=True)
class Volume:
    """The facts about a volume that its main sequence of descriptors states.

    Attributes:
        end: The offset in bytes where the last partition ends; zero if there is no partition.
        name: The name of the logical volume.
        intact: Whether all descriptors match their checksums and their block numbers.
        continued: Whether a descriptor points to another sequence that continues this one.
    """

    end: int
    name: str
    intact: bool
    continued: bool


def block_sizes(identifiers: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """Return the possible block sizes in bytes, in groups. Keyhole tries the groups in this order.

    If the descriptors of the recognition sequence are more than 2,048 bytes apart, their distance is the only
    possible block size.

    Args:
        identifiers: The identifier fields (5 bytes) of the 2,048-byte sectors from byte 32768 on.
    """
    begins = identifiers.index(BEGINS) if BEGINS in identifiers else 0
    behind = (number for number, name in enumerate(identifiers[begins + 1 :], 1) if name in IDENTIFIERS)
    distance = next(behind, 1)
    if distance > 1:
        return ((distance * APART,),)
    return BRIDGE_BLOCK_SIZES if b"CD001" in identifiers else BLOCK_SIZES


def anchor_at(data: bytes, block_size: int, block: int) -> Anchor | None:
    """Return the anchor in a block, or `None` if the block does not contain a valid anchor.

    Args:
        data: The bytes from the beginning of the block on.
        block_size: The block size in bytes.
        block: The number of the block.
    """
    if not _is_descriptor(data[:block_size], block) or _identifier(data) != ANCHOR:
        return None
    main_length, main_block, reserve_length, reserve_block = unpack_from("<4I", data, 16)
    return Anchor(
        block_size,
        ByteRange(main_block * block_size, main_length),
        ByteRange(reserve_block * block_size, reserve_length),
    )


def read_sequence(data: bytes, anchor: Anchor) -> Volume:
    """Parse the main sequence of descriptors in `data`, up to the terminating descriptor."""
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
    """Return whether a block contains a descriptor whose sum, CRC and block number are correct."""
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
    """Return the name in a field of OSTA compressed Unicode, which has characters of 8 or 16 bits."""
    text = field[1 : min(field[127], 127)]
    return printable(text, "utf-16-be" if field[0] == 16 else "latin-1")
