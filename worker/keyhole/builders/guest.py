"""The content of the virtual disk in an image: which blocks have data, and the pattern in these blocks.

A block is the unit in which the format allocates space: a cluster in qcow2, a block in VHD, VHDX and VDI, a
grain in VMDK. In an allocated block, only the first sector has a pattern. The other sectors are zeros, so
that an image that stores gigabytes takes little memory.
"""

from collections.abc import Sequence

from keyhole.builders.image import Image, ceil_div

SECTOR = 512

#: States which blocks are allocated. A number n means the first n blocks of the disk. A sequence contains the
#: numbers of the allocated blocks, in the order in which the image stores the blocks.
Allocated = int | Sequence[int]


def pattern(block: int) -> bytes:
    """Return the first sector of the allocated block `block`: a line of text with its number, 16 times."""
    return b"Keyhole sample block %010d\n" % block * 16


def block_numbers(allocated: Allocated, total: int) -> tuple[int, ...]:
    """Return the numbers of the allocated blocks of a disk with `total` blocks, in the order of storage.

    Raises:
        ValueError: A block is not on the disk, or is allocated twice.
    """
    numbers = tuple(range(allocated)) if isinstance(allocated, int) else tuple(allocated)
    if any(not 0 <= number < total for number in numbers):
        raise ValueError(f"a block is not on the disk, which has blocks 0 to {total - 1}")
    if len(set(numbers)) < len(numbers):
        raise ValueError("a block is allocated twice")
    return numbers


def guest_disk(virtual_size: int, *, block_size: int, allocated: Allocated = 0) -> Image:
    """Return the raw disk that a guest sees in an image with these `allocated` blocks.

    `block_size` is in bytes.
    """
    blocks = block_numbers(allocated, ceil_div(virtual_size, block_size))
    return Image.of(virtual_size, ((block * block_size, pattern(block)) for block in blocks))
