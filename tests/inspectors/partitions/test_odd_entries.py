"""Tables with one odd entry: Keyhole recognises them as other readers do, and reports the oddity.

The tests run libblkid. The behaviour of Linux is taken from block/partitions/.
"""

import os
from pathlib import Path

import pytest

from keyhole.builders import Image, luks, mbr_disk, qcow2, vdi, vhd_dynamic, vmdk_sparse
from keyhole.inspectors import Facts, Severity, Wholeness
from keyhole.scan.policy import judge
from tests.inspectors.inspecting import facts_of
from tests.inspectors.partitions.labels import (
    GPT,
    PLAIN,
    PROTECTIVE,
    SIZE,
    bsd_disk,
    bsd_summed,
    mac_disk,
    mbr,
    sgi_disk,
    sun_disk,
)
from tests.inspectors.volumes.libblkid import LibBlkid
from tests.tools import need

MIB = 1024**2
SECTORS = SIZE // 512

#: Disks that libblkid and Linux read, by their oddity.
READ = {
    "nothing": mbr(PLAIN),
    "an entry begins at 0": mbr((0, 0x83, 0, 4096)),
    "an entry has no sectors": mbr(PLAIN, (0, 0x83, 8192, 0)),
    "the first entry has no sectors": mbr((0, 0x83, 0, 0), PLAIN),
    "an entry without a type has sectors": mbr(PLAIN, (0, 0, 2**31, 4096)),
    "the only entry has no type": mbr((0, 0, 2048, 4096)),
    "partitions overlap": mbr(PLAIN, (0, 0x83, 3000, 4096)),
    "two are active": mbr((0x80, 0x83, 2048, 4096), (0x80, 0x83, 8192, 4096)),
    "one as Ubuntu's discs have": mbr(PLAIN, (0x80, 0, 0, 1)),
    "FreeBSD's without slices": mbr((0x80, 0xA5, 0, 50_000), PLAIN),
    "a name of FAT without its numbers": mbr(PLAIN, boot=b"\xeb\x3c\x90MSDOS5.0".ljust(54) + b"FAT16   "),
    "a name of NTFS without its numbers": mbr(PLAIN, boot=b"\xeb\x52\x90NTFS    "),
    "LILO": mbr(PLAIN, boot=b"\xfa\xeb\x20\0\0\0LILO"),
}
GPTS = {
    "nothing": GPT().image(),
    "no sectors": GPT().image(protective=((0, 0xEE, 1, 0),)),
    "more sectors than there are": GPT().image(protective=((0, 0xEE, 1, 0xFFFFFFFF),)),
    "another status": GPT().image(protective=((1, 0xEE, 1, SECTORS - 1),)),
    "it is active": GPT().image(protective=((0x80, 0xEE, 1, SECTORS - 1),)),
    "it is the last": GPT().image(protective=((0, 0, 0, 0),) * 3 + (PROTECTIVE,)),
    "a hybrid": GPT().image(protective=((0, 0xEE, 1, 2047), (0x80, 0x83, 2048, 2048))),
    "two": GPT().image(protective=((0, 0xEE, 1, 2047), (0, 0xEE, 4096, SECTORS - 4096))),
}


def asked(image: Image, path: Path) -> str | None:
    """The type of the table according to libblkid."""
    need("blkid")
    with image.write_to(path).open("rb") as file:
        return LibBlkid().table(file.fileno())


def severe(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings if finding.severity is not Severity.INFO]


@pytest.mark.parametrize("name", READ)
def test_a_disk_that_readers_take_is_safe(name: str, tmp_path: Path) -> None:
    facts = facts_of(READ[name])
    assert (facts.format, facts.content) == ("raw", ("dos",))
    assert judge(facts) == ("safe", ())
    assert asked(READ[name], tmp_path / "disk") == "dos"


@pytest.mark.parametrize("name", GPTS)
def test_a_gpt_is_there_whatever_its_protective_entry(name: str, tmp_path: Path) -> None:
    facts = facts_of(GPTS[name])
    assert (facts.format, facts.content, facts.wholeness) == ("raw", ("gpt",), Wholeness.PROVEN)
    assert judge(facts) == ("safe", ())
    assert asked(GPTS[name], tmp_path / "disk") == "gpt"


@pytest.mark.parametrize("first", [0, 2])
def test_a_protective_entry_in_another_place_is_no_good_for_linux(first: int, tmp_path: Path) -> None:
    disk = GPT().image(protective=((0, 0xEE, first, SECTORS - 1),))
    facts = facts_of(disk)
    assert (facts.content, severe(facts)) == (("gpt",), ["structure"])
    assert asked(disk, tmp_path / "disk") == "gpt"


@pytest.mark.parametrize(
    ("disk", "sees"),
    [
        (mbr((1, 0x83, 2048, 4096)), "dos"),
        (mbr(PLAIN, (1, 0, 0, 0)), "dos"),
        (mbr(*[(0x7F, 0x83, 2048, 4096)] * 4), "dos"),
        (mac_disk(600), "mac"),
        (mac_disk(count=9), "mac"),
        (mac_disk(marks=(b"PM", b"XX")), "mac"),
    ],
    ids=["status", "an empty entry's status", "all statuses", "blocks of 600", "entries", "no entry"],
)
def test_what_only_some_take_is_there_and_contradicts_itself(disk: Image, sees: str) -> None:
    facts = facts_of(disk)
    assert (facts.format, facts.content) == ("raw", (sees,))
    assert set(severe(facts)) == {"structure"}


@pytest.mark.parametrize(
    ("disk", "sees"),
    [(sun_disk(wrong=1), "sun"), (sgi_disk(wrong=1), "sgi"), (bsd_disk(SIZE).patched(700, b"x"), "bsd")],
)
def test_a_wrong_checksum_is_said(disk: Image, sees: str) -> None:
    facts = facts_of(disk)
    assert (facts.content, severe(facts)) == ((sees,), ["checksum_mismatch"])


@pytest.mark.parametrize(
    "disk",
    [
        sun_disk(),
        sun_disk(vtoc=(0, 0, 0)),
        sun_disk(vtoc=(2, 8, 0x600DDEEE)),
        sgi_disk(),
        bsd_disk(SIZE, at=128),
    ]
    + [mac_disk(block) for block in (512, 1024, 2048, 4096, 8192, 32768)],
)
def test_the_others_are_safe(disk: Image) -> None:
    assert judge(facts_of(disk)) == ("safe", ())


@pytest.mark.parametrize("disk", [mbr(), mbr((0, 0x83, 2048, 0))])
def test_a_table_without_partitions_is_one_and_proves_nothing(disk: Image, tmp_path: Path) -> None:
    facts = facts_of(disk)
    assert (facts.format, facts.content, severe(facts)) == ("raw", ("dos",), [])
    assert facts.wholeness is Wholeness.UNCHECKED
    assert asked(disk, tmp_path / "disk") == "dos"


@pytest.mark.parametrize(
    "sector",
    [b"\xc9\xc2\xd4\xc1" + mbr(PLAIN).read(4, 508), mbr(PLAIN).read(0, 510) + b"\x55\xab"],
    ids=["AIX", "no 55 AA"],
)
def test_what_no_reader_takes_is_none(sector: bytes, tmp_path: Path) -> None:
    disk = Image.of(SIZE, [(0, sector)])
    assert facts_of(disk).format is None
    assert asked(disk, tmp_path / "disk") != "dos"


def test_entries_of_code_are_none() -> None:
    """The entries' start sectors are outside the disk, and their statuses are undefined."""
    code = bytes(index * 7 % 256 for index in range(510))
    assert facts_of(Image.of(MIB, [(0, code + b"\x55\xaa")])).format is None


def test_an_mbr_that_announces_a_gpt_which_is_not_there(tmp_path: Path) -> None:
    disk = mbr(PROTECTIVE)
    facts = facts_of(disk)
    assert (facts.content, severe(facts)) == (("PMBR",), ["structure"])
    assert asked(disk, tmp_path / "disk") == "PMBR"


def test_of_a_gpt_whose_header_is_lost_the_backup_is_seen(tmp_path: Path) -> None:
    disk = GPT().image().patched(512, bytes(512))
    facts = facts_of(disk)
    assert (facts.content, severe(facts)) == (("gpt",), ["structure"])
    assert asked(disk, tmp_path / "disk") == "gpt"


@pytest.mark.parametrize("front", [bytes(512), mbr(PROTECTIVE).read(0, 510) + bytes(2)])
def test_a_gpt_that_nothing_announces_is_seen_by_few(front: bytes) -> None:
    """No reader except sgdisk shows such a GPT, but Keyhole reports it."""
    facts = facts_of(GPT().image().patched(0, front))
    assert (facts.content, severe(facts)) == (("gpt",), ["structure"])


def test_a_gpt_that_an_mbr_does_not_announce_is_none(tmp_path: Path) -> None:
    """Tools that write an MBR over a GPT leave such a disk."""
    disk = GPT().image(protective=(PLAIN,))
    facts = facts_of(disk)
    assert facts.content == ("dos",)
    assert judge(facts) == ("safe", ())
    assert asked(disk, tmp_path / "disk") == "dos"


# Objects that are also another format

#: Headers that leave the end of their first sector free, and the data that belongs there.
CARRIERS = {
    "qcow2": qcow2(MIB),
    "VDI": vdi(3 * MIB, allocated=2),
    "dynamic VHD": vhd_dynamic(4 * MIB, block_size=MIB),
    "VMDK": vmdk_sparse(2 * MIB),
}
SECTOR_ENDS = {
    "begins at 0": mbr((0, 0x83, 0, 4096)),
    "no sectors": mbr((0, 0x83, 2048, 0)),
    "no partitions": mbr(),
    "status": mbr((1, 0x83, 20, 20)),
    "status, of none": mbr((0, 0x83, 20, 20), (9, 0, 0, 0)),
    "protective": mbr(PROTECTIVE),
    "protective without sectors": mbr((0, 0xEE, 1, 0)),
    "protective from 0 on, another status": mbr((7, 0xEE, 0, 5)),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", SECTOR_ENDS)
def test_an_image_that_is_also_a_disk_is_ambiguous(carrier: str, name: str) -> None:
    """A dynamic VHD's first sector is a copy of its last one, so it has no room for a table."""
    image = CARRIERS[carrier]
    assert severe(facts_of(image)) == []
    facts = facts_of(image.patched(440, SECTOR_ENDS[name].read(440, 72)))
    assert "ambiguous_format" in severe(facts)


@pytest.mark.parametrize("at", [512, 64, 128])
def test_an_image_with_a_disklabel_is_ambiguous(at: int) -> None:
    image = CARRIERS["VDI"] if at == 512 else CARRIERS["qcow2"]
    label = bytearray(bsd_disk(MIB).read(512, 404))
    facts = facts_of(image.patched(at, bsd_summed(label)))
    assert "ambiguous_format" in severe(facts)


@pytest.mark.parametrize("disk", [mac_disk(), mac_disk(32768), sgi_disk(wrong=9)])
def test_a_vdi_with_another_label_is_ambiguous(disk: Image) -> None:
    image = CARRIERS["VDI"]
    for at, data in disk.pieces:
        # In front of a VDI's header, only the magic number of a volume's header fits.
        image = image.patched(at, data[:64] if at == 0 else data)
    assert "ambiguous_format" in severe(facts_of(image))


def test_a_gpt_without_an_mbr_makes_an_image_ambiguous() -> None:
    """sgdisk accepts a GPT without an MBR. Other readers also need the MBR."""
    header = GPT().image().read(512, 92)
    facts = facts_of(CARRIERS["VDI"].patched(512, header.ljust(512, b"\0")))
    assert "ambiguous_format" in severe(facts)


def test_a_vdi_that_is_also_a_volume_is_ambiguous() -> None:
    """The first 64 bytes of a VDI are free, and 55 AA follows its header."""
    boot = bytearray(mbr_disk(MIB).read(0, 512))
    numbers = bytes.fromhex("eb3c906d6b66732e666174000204010002000200 08f8 0200 2000 0200 00000000 00000000")
    boot[: len(numbers)] = numbers
    facts = facts_of(CARRIERS["VDI"].patched(0, bytes(boot[:62])).patched(510, b"\x55\xaa"))
    assert "ambiguous_format" in severe(facts)


#: The magic number of a UFS, at byte 1372 of its superblock. libblkid reads nothing else.
UFS_AT, UFS = 1372, (0x00011954).to_bytes(4, "little")


@pytest.mark.parametrize("carrier", ["qcow2", "VDI", "dynamic VHD"])
@pytest.mark.parametrize("at", [8 * 1024, 64 * 1024])
def test_an_image_that_is_also_a_volume_is_ambiguous(carrier: str, at: int) -> None:
    image = CARRIERS[carrier]
    longer = Image.of(max(image.size, MIB), image.pieces)
    facts = facts_of(longer.patched(at + UFS_AT, UFS))
    assert "ambiguous_format" in severe(facts)


def test_what_a_guest_wrote_into_the_first_grain_of_a_vmdk_is_no_volume_of_its_own() -> None:
    """In small VMDKs the first grain is at 64 KiB, where btrfs has its superblock."""
    image = vmdk_sparse(2 * MIB, allocated=3)
    overhead = int.from_bytes(image.read(64, 8), "little") * 512
    assert "ambiguous_format" not in severe(facts_of(image.patched(overhead + UFS_AT, UFS)))


def test_luks_is_not_two_things_for_what_libblkid_calls_it() -> None:
    assert "ambiguous_format" not in severe(facts_of(luks(2 * MIB)))


def test_random_bytes_that_end_a_sector_with_55_aa_are_no_disk() -> None:
    """About 15 in a million compressed objects have these two bytes at this offset."""
    seen = {
        facts_of(Image.of(64 * MIB, [(0, b"\x1f\x8b\x08\0" + os.urandom(506) + b"\x55\xaa")])).format
        for _ in range(50)
    }
    assert seen == {"gzip"}
