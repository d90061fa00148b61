"""Partition tables with one changed byte: a table that libblkid recognises is recognised by Keyhole.

Conversely, a disk is safe only if libblkid recognises its table.
"""

import os
from pathlib import Path
from random import Random

import pytest

from keyhole.builders import Image
from keyhole.scan.policy import judge
from tests.inspectors.inspecting import facts_of
from tests.inspectors.partitions.labels import GPT, PLAIN, bsd_disk, mac_disk, mbr, sgi_disk, sun_disk
from tests.inspectors.volumes.libblkid import LibBlkid

MIB = 1024**2
TABLES = {"dos", "PMBR", "gpt", "mac", "bsd", "sun", "sgi"}
#: A disk, and the changes to it.
DISKS = {
    "dos": (mbr(PLAIN, (0x80, 0x83, 8192, 4096)), range(440, 512)),
    "gpt": (GPT().image(), range(446, 512 + 100)),
    "gpt, its entries": (GPT(count=4).image(), range(1024, 1024 + 60)),
    "mac": (mac_disk(), (*range(20), *range(512, 600), *range(1024, 1100))),
    "sun": (sun_disk(), (*range(128, 200), *range(420, 512))),
    "sgi": (sgi_disk(), (*range(20), *range(312, 512))),
    "bsd": (bsd_disk(8 * MIB), range(512, 512 + 200)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISKS)
def test_a_changed_byte_makes_no_table_disappear(name: str, tmp_path: Path, libblkid: LibBlkid) -> None:
    disk, places = DISKS[name]
    random = Random(name)  # noqa: S311 - the same changes in every run
    descriptor = os.open(disk.write_to(tmp_path / "disk"), os.O_RDWR)
    for at in places:
        was = disk.read(at, 1)
        for value in {0, 1, 0x80, 0xFF, was[0] ^ 1, was[0] + 1 & 0xFF, random.randrange(256)} - {was[0]}:
            changed = bytes([value])
            os.pwrite(descriptor, changed, at)
            theirs = _by_libblkid(libblkid, descriptor)
            compare(disk.patched(at, changed), theirs, f"byte {at} as {value}")
            os.pwrite(descriptor, was, at)
    os.close(descriptor)


def _by_libblkid(libblkid: LibBlkid, descriptor: int) -> str | None:
    kind = libblkid.table(descriptor)
    # libblkid reports no type for a disklabel, but it reports the partitions.
    return "bsd" if kind is None and libblkid.partitions(descriptor) else kind


def compare(image: Image, theirs: str | None, change: str) -> None:
    facts = facts_of(image)
    ours = next((name for name in facts.content if name in TABLES), None)
    if theirs in TABLES:
        assert ours == theirs or judge(facts)[0] == "damaged", (change, ours, theirs)
        assert ours is not None, (change, theirs)
    if judge(facts)[0] == "safe":
        assert ours == theirs, (change, ours, theirs)
