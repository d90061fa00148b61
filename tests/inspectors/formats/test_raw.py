"""Raw disks are recognised by their partition tables. Other data only looks like a disk."""

from zlib import crc32

import pytest

from keyhole.builders import Image, gpt_disk, mbr_disk
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.raw import RawDiskInspector
from keyhole.inspectors.partitions.front import DiskFront
from keyhole.inspectors.volumes import volumes
from tests.inspectors.inspecting import checks_of, facts_of

MIB = 1024**2


#: The fields of a FAT16 of 1 MiB, and of an NTFS, from byte 11.
FAT16 = bytes.fromhex("0002 04 0100 02 0002 0008 f8 0200 2000 0200 00000000 00000000")
NTFS = bytes.fromhex(
    "0002 08 0000 00 0000 0000 f8 0000 3f00 ff00 00000000 00000000 80008000"
    "ff07000000000000 0400000000000000 0200000000000000 f6000000 01000000"
)


def boot_sector(name: bytes, at: int, numbers: bytes) -> Image:
    """The boot sector of a volume: jump, name, fields, code, the bytes of a partition table, 55 AA."""
    code = bytes(index * 7 % 256 for index in range(512))
    sector = bytearray(b"\xeb\x52\x90" + code[3:510] + b"\x55\xaa")
    sector[11 : 11 + len(numbers)] = numbers
    sector[at : at + len(name)] = name
    sector[446:462] = b"\x80" + bytes(3) + b"\x0c" + bytes(3) + (1).to_bytes(4, "little") * 2
    sector[462:510] = bytes(48)
    return Image.of(MIB, [(0, bytes(sector))])


def test_a_partitioned_disk_is_raw() -> None:
    facts = facts_of(mbr_disk(16 * MIB))
    assert (facts.format, facts.content, facts.virtual_size) == ("raw", ("dos",), 16 * MIB)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_gpt_disk_is_raw_and_whole(sector: int) -> None:
    facts = facts_of(gpt_disk(16 * MIB, sector=sector))
    assert (facts.format, facts.content, facts.virtual_size) == ("raw", ("gpt",), 16 * MIB)
    assert facts.details["sector_size"] == sector
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize(
    ("name", "at", "numbers", "kind"),
    [(b"FAT16   ", 54, FAT16, "vfat"), (b"mkfs.fat", 3, FAT16, "vfat"), (b"NTFS    ", 3, NTFS, "ntfs")],
)
def test_a_volumes_boot_sector_is_no_partition_table(name: bytes, at: int, numbers: bytes, kind: str) -> None:
    assert facts_of(boot_sector(name, at, numbers)).content == (kind,)


@pytest.mark.parametrize(("name", "at"), [(b"NTFS    ", 3), (b"EXFAT   ", 3), (b"FAT16   ", 54)])
def test_a_boot_sector_with_nothing_but_a_volumes_name_is_no_volume(name: bytes, at: int) -> None:
    """libblkid reports a partition table."""
    assert facts_of(boot_sector(name, at, b"")).content == ("dos",)


@pytest.mark.parametrize("size", [0, 1, 511])
def test_less_than_a_sector_is_nothing(size: int) -> None:
    assert facts_of(mbr_disk(16 * MIB).truncated(size)).format is None


def test_partitions_beyond_the_end_are_missing() -> None:
    assert checks_of(mbr_disk(16 * MIB, [(0x83, 2048, 28672)]).truncated(8 * MIB)) == ["truncated"]


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_gpt_disk_that_is_cut_lacks_its_backup(sector: int) -> None:
    disk = gpt_disk(16 * MIB, sector=sector)
    for size in (sector * 2, MIB, 16 * MIB - sector, 16 * MIB - 1):
        facts = facts_of(disk.truncated(size))
        assert {finding.check for finding in facts.findings} == {"truncated"}
        assert facts.wholeness is Wholeness.UNCHECKED


def test_a_gpt_header_with_a_wrong_checksum_is_found() -> None:
    assert "checksum_mismatch" in checks_of(gpt_disk(16 * MIB).patched(512 + 56, b"\xff"))


def test_a_gpt_disk_with_another_backup_is_a_contradiction() -> None:
    assert checks_of(gpt_disk(16 * MIB).patched(16 * MIB - 512, bytes(8))) == ["structure"]


def test_a_protective_mbr_without_a_gpt_is_a_contradiction() -> None:
    assert checks_of(gpt_disk(16 * MIB).patched(512, bytes(8))) == ["structure"]


def with_gpt_header(image: Image, at: int, value: bytes) -> Image:
    """Change the primary GPT header, and correct its checksum."""
    header = bytearray(image.read(512, 92))
    header[at : at + len(value)] = value
    header[16:20] = bytes(4)
    header[16:20] = crc32(header).to_bytes(4, "little")
    return image.patched(512, bytes(header))


@pytest.mark.parametrize("sector", [512, 4096])
def test_gpt_entries_with_a_wrong_checksum_are_found(sector: int) -> None:
    assert checks_of(gpt_disk(16 * MIB, sector=sector).patched(2 * sector + 56, b"X")) == [
        "checksum_mismatch"
    ]


def test_gpt_entries_beyond_the_end_are_missing() -> None:
    assert checks_of(with_gpt_header(gpt_disk(16 * MIB), 72, (2**40).to_bytes(8, "little"))) == ["truncated"]


@pytest.mark.parametrize(("at", "value"), [(84, 0), (84, 100), (80, 2**32 - 1)])
def test_gpt_entries_that_cannot_be_are_a_contradiction(at: int, value: int) -> None:
    assert "structure" in checks_of(with_gpt_header(gpt_disk(16 * MIB), at, value.to_bytes(4, "little")))


def test_a_gpt_partition_beyond_the_end_is_missing() -> None:
    disk = gpt_disk(16 * MIB)
    entries = bytearray(disk.read(1024, 128 * 128))
    entries[40:48] = (2**32).to_bytes(8, "little")
    longer = with_gpt_header(disk.patched(1024, bytes(entries)), 88, crc32(entries).to_bytes(4, "little"))
    assert checks_of(longer) == ["truncated"]


@pytest.mark.parametrize("size", [MIB, 64 * MIB])
def test_the_front_of_a_disk_is_parsed_and_searched_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take longer than anything else that an inspection does for every object."""
    calls: list[str] = []
    parse, marked = DiskFront.parse, volumes.marked
    monkeypatch.setattr(DiskFront, "parse", lambda front: calls.append("tables") or parse(front))
    monkeypatch.setattr(volumes, "marked", lambda front: calls.append("volumes") or marked(front))
    disk = RawDiskInspector(volumes=True)
    disk.finish(size)
    disk.feed(0, bytes(volumes.FRONT))
    disk.feed(size - volumes.FRONT, bytes(volumes.FRONT))
    assert not disk.format_match
    assert not disk.checks()
    assert sorted(calls) == ["tables", "volumes"]
