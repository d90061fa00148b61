"""The signatures of Apple's file systems.

Offsets and lengths are in bytes. A superblock's offset counts from the beginning of the volume, a field's
offset (after `@`) from the beginning of the superblock. The fields of apfs are little-endian, all other
fields are big-endian.

| name | superblock | magic | conditions |
|---|---|---|---|
| hfs | 1024, 130 bytes | `BD` | the allocation block size u32@20 is a multiple of 512; no HFS+ is embedded: @124 is neither `H+` nor `HX` |
| hfsplus | 1024, 512 bytes | `H+`, `HX` | the version u16@2 is 4 or 5; the block size u32@40 is a power of two, at least 512 |
| hfsplus in a wrapper | 1024, 130 bytes | `BD` | @124 is `H+` or `HX`; the allocation block size u32@20 is a multiple of 512; the embedded volume (first block u16@126, number of blocks u16@128) lies within the number of blocks u16@18 |
| apfs | 0, 4096 bytes | `NXSB` @32 | the object type u16@24 is 1, the subtype u32@28 is 0, the block size u32@36 is 4096; the Fletcher-64 u64@0 matches the rest of the superblock |

Sources: "Inside Macintosh: Files", chapter 2 (master directory block); Technical Note TN1150 "HFS Plus Volume
Format" (volume header, HFS wrapper); "Apple File System Reference", nx_superblock_t and obj_phys_t.

Keyhole checks the same fields as libblkid 2.41, with these exceptions:

- In an HFS+, libblkid checks only the magic number, which has two bytes, and whether the block size is at
  least 512. About one in 30,000 random sectors passes these checks, so Keyhole also checks the version, like
  Linux.
- In a wrapped HFS+, libblkid also reads the volume header inside the wrapper, at the place that the wrapper
  states. Keyhole reads only the wrapper.
- Some versions of libblkid do not check the checksum of apfs. Keyhole recognises an apfs with a wrong
  checksum and reports it as damaged.
"""  # noqa: E501 - the rows of the table are one line each

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.volumes.checksums import fletcher64
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

#: HFS+ has version 4, HFSX version 5. Linux accepts both versions with both signatures.
HFSPLUS_SIGNATURES = (b"H+", b"HX")
HFSPLUS_VERSIONS = (4, 5)
APFS_BLOCK = 4096


def _hfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return _blocks_of_sectors(superblock) and superblock[124:126] not in HFSPLUS_SIGNATURES


def _hfsplus_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    if place.magic == b"BD":
        return _wraps_hfsplus(superblock)
    block = superblock.be(40, 4)
    return superblock.be(2, 2) in HFSPLUS_VERSIONS and block >= SECTOR and block.bit_count() == 1


def _wraps_hfsplus(superblock: Superblock) -> bool:
    first, blocks = superblock.be(126, 2), superblock.be(128, 2)
    return (
        superblock[124:126] in HFSPLUS_SIGNATURES
        and _blocks_of_sectors(superblock)
        and blocks > 0
        and first + blocks <= superblock.be(18, 2)
    )


def _blocks_of_sectors(superblock: Superblock) -> bool:
    block = superblock.be(20, 4)
    return block > 0 and block % SECTOR == 0


def _apfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return superblock.le(24, 2) == 1 and superblock.le(28, 4) == 0 and superblock.le(36, 4) == APFS_BLOCK


def _apfs_intact(superblock: Superblock, _place: Place, _view: View) -> bool:
    return fletcher64(superblock[8:]) == superblock.le(0, 8)


HFS = Signature("hfs", (Place(1024, 130, b"BD"),), _hfs_sound)
HFSPLUS = Signature(
    "hfsplus",
    (Place(1024, 130, b"BD"), *(Place(1024, SECTOR, magic) for magic in HFSPLUS_SIGNATURES)),
    _hfsplus_sound,
)
APFS = Signature("apfs", (Place(0, APFS_BLOCK, b"NXSB", 32),), _apfs_sound, intact=_apfs_intact)
