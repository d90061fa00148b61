"""Parses the disk label of SunOS and Solaris on SPARC, `sun`. All fields are big-endian.

Source: Linux, `block/partitions/sun.c`.

| at | bytes | field |
|---|---|---|
| 128 | 76 | VTOC: version u32 (1), partitions u16@12, sanity u32@60 (0x600DDEEE); zero in old labels |
| 436 | 4 | tracks per cylinder u16, sectors per track u16 |
| 444 | 8 x 8 | partitions: first cylinder u32, sectors u32 |
| 508 | 4 | DA BE, checksum u16: the exclusive or of all 16-bit words is zero |

By convention, the third partition spans the whole disk. A sector has 512 bytes. sfdisk accepts a label with a
wrong checksum, but Linux and libblkid reject it. Keyhole accepts a label with a wrong checksum only if the
label has a VTOC, because the two bytes DA BE can also occur by chance.
"""

from struct import unpack

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import found
from keyhole.inspectors.partitions.table import Partition, Table

MAGIC, MAGIC_AT = b"\xda\xbe", 508
VERSION, SANITY = b"\0\0\0\1", b"\x60\x0d\xde\xee"
WRONG = found("checksum_mismatch", "the disklabel does not match its checksum")


def parse(front: bytes) -> Table | None:
    """Return the partition table of an object that begins with `front`, or `None` if it has no such label."""
    if not front.startswith(MAGIC, MAGIC_AT) or len(front) < SECTOR:
        return None
    label = front[:SECTOR]
    findings = () if _intact(label) else (WRONG,)
    if findings and (label[128:132], label[188:192]) != (VERSION, SANITY):
        return None
    tracks, sectors_a_track = unpack(">HH", label[436:440])
    cylinder = tracks * sectors_a_track * SECTOR
    entries = [unpack(">II", label[at : at + 8]) for at in range(444, 508, 8)]
    used = tuple(Partition(first * cylinder, sectors * SECTOR) for first, sectors in entries if sectors)
    return Table("sun", SECTOR, used, findings)


def _intact(label: bytes) -> bool:
    checksum = 0
    for word in unpack(">256H", label):
        checksum ^= word
    return not checksum
