"""The volume structures of UDF, as far as they say how long the volume is. All fields are little-endian.

Source: ECMA-167, 3rd edition: part 2, section 9 (volume recognition), part 3, sections 7.2 (descriptor tag)
and 10 (volume descriptors); OSTA UDF 2.60, section 2.2 (where the anchors are, how long the sequences are).

In the recognition sequence at 32768, one descriptor each 2,048 bytes (or each block, if blocks are larger),
`NSR02` or `NSR03` between `BEA01` and `TEA01` says that there is a UDF volume. What it consists of hangs on
an anchor: in block 256, in the last block N, or in N - 256, at least two of them. mkudffs makes blocks of
512 to 32,768 bytes.

| offset | bytes | field of a descriptor's tag |
|---|---|---|
| 0 | 2 | 1 primary, 2 anchor, 3 pointer, 5 partition, 6 logical volume, 8 terminating |
| 4 | 1 | sum of the tag's bytes but this one |
| 8 | 2 | CRC-16 (CCITT) of the bytes behind the tag |
| 10 | 2 | how many bytes that is of, up to the block's end |
| 12 | 4 | the block that the descriptor stands in |

| descriptor | offset | bytes | field |
|---|---|---|---|
| anchor | 16 | 4 + 4 | main sequence of descriptors: bytes, first block |
| anchor | 24 | 4 + 4 | the same of the reserve sequence |
| partition | 188 | 4 + 4 | first block, blocks |
| logical volume | 84 | 128 | name: kind of characters, characters; how many bytes of both in the last byte |
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
#: UDF requires at least 16 blocks for a sequence, and tools make it that long; no more of it is read. If the
#: blocks are large, fewer of them hold all that tools write.
MAX_SEQUENCE_BLOCKS, MAX_SEQUENCE_BYTES = 16, 256 * 1024

BEGINS = b"BEA01"
RECOGNISED = (b"NSR02", b"NSR03")
#: All that a recognition sequence consists of, and last what that of ISO 9660 does.
IDENTIFIERS = (BEGINS, *RECOGNISED, b"TEA01", b"BOOT2", b"CDW02", b"CD001")
NOTHING = bytes(5)

#: How far apart the descriptors of a recognition sequence are where blocks are not larger.
APART = 2048
LARGEST_BLOCK = 32_768
#: The sizes of blocks tried, those at once of which an anchor costs no more. A disc of ISO 9660, too, has
#: blocks of 2,048 bytes.
BLOCK_SIZES = ((512,), (1024, 2048))
BRIDGE_BLOCK_SIZES = ((512,), (2048,), (1024,))


@dataclass(frozen=True, slots=True)
class Anchor:
    """The two sequences of volume descriptors, in bytes."""

    block_size: int
    main: ByteRange
    reserve: ByteRange

    @property
    def end(self) -> int:
        """Where the later of both ends."""
        return max(part.end for part in (self.main, self.reserve) if part.length or part is self.main)

    @property
    def read(self) -> ByteRange:
        """The part of the main sequence that is read."""
        most = min(MAX_SEQUENCE_BLOCKS * self.block_size, MAX_SEQUENCE_BYTES)
        return ByteRange(self.main.offset, min(self.main.length, most))


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume by its sequence of descriptors.

    Attributes:
        end: Where the last partition ends, in bytes (zero: there is none).
        name: The logical volume's.
        intact: Whether all descriptors have their checksums and places.
        continued: Whether the sequence goes on elsewhere.
    """

    end: int
    name: str
    intact: bool
    continued: bool


def block_sizes(identifiers: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    """The block sizes that the distance of the descriptors allows, in the order in which they are tried.

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
    """The anchor in a block, if its bytes are one."""
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
    """Whether a block's descriptor has its tag's sum and its CRC and stands where it says."""
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
    """A name of characters of 8 or 16 bits (OSTA compressed Unicode)."""
    text = field[1 : min(field[127], 127)]
    return printable(text, "utf-16-be" if field[0] == 16 else "latin-1")
