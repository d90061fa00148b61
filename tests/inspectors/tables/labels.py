"""Partition tables as their specifications say, for what the tools at hand make wrong, or not at all."""

from struct import pack_into, unpack_from

from worker.demo.images import Image

SECTOR = 512


def bsd_disk(size: int, *, at: int = 512, first: int = 2048) -> Image:
    """A disk with a BSD disklabel and one partition, from sector `first` to its end.

    parted 3.5 writes a label whose checksum is wrong, which libblkid does not take, either.
    """
    label = bytearray(404)
    pack_into("<I", label, 0, 0x82564557)
    pack_into("<I", label, 40, SECTOR)
    pack_into("<I", label, 132, 0x82564557)
    pack_into("<H", label, 138, 3)
    sectors = size // SECTOR
    pack_into("<IIIBBH", label, 148, sectors - first, first, 0, 7, 0, 0)
    pack_into("<IIIBBH", label, 148 + 2 * 16, sectors, 0, 0, 0, 0, 0)
    checksum = 0
    for offset in range(0, 148 + 3 * 16, 2):
        checksum ^= unpack_from("<H", label, offset)[0]
    pack_into("<H", label, 136, checksum)
    return Image.of(size, [(at, bytes(label))])
