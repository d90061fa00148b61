"""The content of the virtual disk: which of its blocks hold data, and the pattern in them.

A block is the unit that the format allocates: a qcow2 cluster, a VHD, VHDX or VDI block, a VMDK grain.
Only the first sector of an allocated block holds a pattern. The rest is zeros, so that an image that stores
gigabytes takes little memory.
"""

from collections.abc import Sequence

from keyhole.builders.image import Image, ceil_div

SECTOR = 512

#: Either how many blocks are allocated, from the disk's start, or the numbers of the allocated blocks, in the
#: order in which they are stored.
Allocated = int | Sequence[int]


def pattern(block: int) -> bytes:
    """The sector at the start of allocated block number `block`: a line of text that names it, 16 times."""
    return b"Keyhole sample block %010d\n" % block * 16


def block_numbers(allocated: Allocated, total: int) -> tuple[int, ...]:
    """The numbers of the allocated blocks on a disk of `total` blocks, in the order they are stored.

    Raises:
        ValueError: a block lies beyond the disk or is named twice.
    """
    numbers = tuple(range(allocated)) if isinstance(allocated, int) else tuple(allocated)
    if any(not 0 <= number < total for number in numbers):
        raise ValueError(f"the disk has blocks 0 to {total - 1}, others were asked for")
    if len(set(numbers)) < len(numbers):
        raise ValueError("a block can be allocated once only")
    return numbers


def guest_disk(virtual_size: int, *, block_size: int, allocated: Allocated = 0) -> Image:
    """The raw disk that a guest sees in an image with these `allocated` blocks of `block_size` bytes."""
    blocks = block_numbers(allocated, ceil_div(virtual_size, block_size))
    return Image.of(virtual_size, ((block * block_size, pattern(block)) for block in blocks))
