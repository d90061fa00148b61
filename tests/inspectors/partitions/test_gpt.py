"""GPTs as UEFI allows them, and as tools write them."""

import subprocess
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.builders import Image
from keyhole.inspectors import Severity, Wholeness
from keyhole.scan.policy import judge
from keyhole.scan.settings import ScanSettings
from tests.inspectors.inspecting import facts_of
from tests.inspectors.partitions.labels import GPT, MIB, PLAIN, SIZE
from tests.inspectors.volumes.libblkid import LibBlkid
from tests.tools import environment, need

LARGE = 16 * MIB


def severe(image: Image) -> list[str]:
    return [finding.check for finding in facts_of(image).findings if finding.severity is not Severity.INFO]


def table_by_libblkid(image: Image, path: Path) -> str | None:
    need("blkid")
    with image.write_to(path).open("rb") as file:
        return LibBlkid().table(file.fileno())


#: Unusual GPTs that UEFI 5.3 allows and that libblkid reads.
ALLOWED = {
    **{f"a header of {length} bytes": GPT(header_bytes=length) for length in (92, 93, 96, 128, 511, 512)},
    **{f"{count} entries": GPT(count=count) for count in (1, 4, 5, 127, 129, 256, 1024, 4096)},
    "a backup further in front": GPT(backup=SIZE // 512 - 100),
    "partitions that overlap": GPT(partitions=((2048, 4095), (3000, 5000))),
    "no end before the beginning": GPT(partitions=((2048, 4095), (5000, 4999))),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_uefi_allows_is_safe(name: str, tmp_path: Path) -> None:
    image = ALLOWED[name].image()
    facts = facts_of(image)
    assert (facts.content, facts.wholeness) == (("gpt",), Wholeness.PROVEN)
    assert judge(facts) == ("safe", ())
    assert table_by_libblkid(image, tmp_path / "disk") == "gpt"


@pytest.mark.parametrize("entry", [256, 512, 4096])
def test_entries_may_be_longer_though_linux_does_not_take_them(entry: int) -> None:
    facts = facts_of(GPT(size=LARGE, entry_bytes=entry, protective=((0, 0xEE, 1, 2**32 - 1),)).image())
    assert facts.content == ("gpt",)
    assert judge(facts) == ("safe", ())


@pytest.mark.parametrize(
    ("gpt", "check"),
    [
        (GPT(header_bytes=91), "structure"),
        (GPT(header_bytes=513), "structure"),
        (GPT(entry_bytes=384), "structure"),
        (GPT(entry_bytes=192), "structure"),
        (GPT(own=2), "structure"),
        (GPT(first_usable=5000, last_usable=4000), "structure"),
        (GPT(last_usable=SIZE // 512), "truncated"),
        (GPT(partitions=((2048, SIZE // 512),)), "truncated"),
        (GPT(size=64 * MIB, count=16384), "unsupported_subformat"),
    ],
)
def test_what_uefi_forbids_is_said(gpt: GPT, check: str) -> None:
    assert check in severe(gpt.image())


@pytest.mark.parametrize("length", [92, 512, 4096])
def test_a_header_in_a_large_sector_may_be_as_long(length: int) -> None:
    facts = facts_of(GPT(sector=4096, header_bytes=length).image())
    assert facts.details["sector_size"] == 4096
    assert judge(facts) == ("safe", ())


@pytest.mark.parametrize("at", [100, 300, 511])
def test_a_checksum_is_of_all_that_a_header_says_it_has(at: int) -> None:
    assert severe(GPT(header_bytes=512).image().patched(512 + at, b"x")) == ["checksum_mismatch"]
    assert severe(GPT().image().patched(512 + at, b"x")) == []


def both(size: int = LARGE) -> Image:
    """A disk with GPTs for sectors of 512 and of 4,096 bytes, which do not overlap."""
    large = GPT(size=size, sector=4096, count=8, backup=size // 4096 - 9)
    small = GPT(size=size, count=8, first_usable=80, last_usable=size // 512 - 100)
    (_, mbr), *_ = small.image().pieces
    return Image.of(size, [(0, mbr[:512]), *small.pieces(), *large.pieces()])


def test_a_disk_may_have_gpts_for_sectors_of_both_sizes(tmp_path: Path) -> None:
    facts = facts_of(both())
    assert facts.details["sector_size"] == 512
    assert judge(facts) == ("safe", ())
    assert table_by_libblkid(both(), tmp_path / "disk") == "gpt"


def test_of_two_gpts_the_intact_one_counts() -> None:
    facts = facts_of(both().patched(512 + 60, b"x"))
    assert facts.details["sector_size"] == 4096
    assert judge(facts) == ("safe", ())


def test_an_mbr_that_is_no_gpt_s_wins_over_what_a_tool_left_behind() -> None:
    assert judge(facts_of(GPT(protective=(PLAIN,)).image())) == ("safe", ())


# GPTs written by tools


def inspected(path: Path) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    report = scan_path(path, ScanSettings())
    return report.status, report.reasons, report.content


@pytest.mark.parametrize(
    "number", [1024, *(pytest.param(few, marks=pytest.mark.slow) for few in (8, 128, 256))]
)
def test_sgdisk_makes_room_for_as_many_as_one_likes(tmp_path: Path, number: int) -> None:
    assert inspected(by_sgdisk(tmp_path, "-S", str(number), "-n", "1:8192:0")) == ("safe", (), ("gpt",))


def test_a_hybrid_of_sgdisk_s_is_safe(tmp_path: Path) -> None:
    disk = by_sgdisk(tmp_path, "-n", "1:8192:+4M", "-n", "2:0:+8M", "-h", "1:2")
    assert inspected(disk) == ("safe", (), ("gpt",))


def by_sgdisk(folder: Path, *options: str) -> Path:
    """A disk of 64 MiB. The tool needs a second for each run."""
    need("sgdisk")
    disk = Image.of(64 * MIB, []).write_to(folder / "disk.img")
    subprocess.run(["sgdisk", *options, disk], check=True, capture_output=True, env=environment())
    return disk


@pytest.mark.slow
def test_a_disk_that_grew_is_safe_and_one_whose_backup_was_moved(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    Image.of(64 * MIB, []).write_to(disk)
    need("sgdisk")
    subprocess.run(["sgdisk", "-n", "1:8192:0", disk], check=True, capture_output=True, env=environment())
    with disk.open("r+b") as file:
        file.truncate(80 * MIB)
    assert inspected(disk) == ("safe", (), ("gpt",))
    subprocess.run(["sgdisk", "-e", disk], check=True, capture_output=True, env=environment())
    assert inspected(disk) == ("safe", (), ("gpt",))


def test_cgpt_s_is_safe(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    Image.of(64 * MIB, []).write_to(disk)
    need("cgpt")
    for command in (["create"], ["boot", "-p"], ["add", "-b", "8192", "-s", "4096", "-t", "data"]):
        subprocess.run(["cgpt", *command, disk], check=True, capture_output=True, env=environment())
    assert inspected(disk) == ("safe", (), ("gpt",))


@pytest.mark.parametrize(
    ("plugin", "table"),
    [
        (["linuxdisk", "dir={folder}", "size=+64M"], "gpt"),
        (["partitioning", "file={part}", "partition-type=gpt"], "gpt"),
        (["partitioning", "file={part}", "file={part}", "partition-type=mbr"], "dos"),
    ],
)
def test_nbdkit_s_are_safe(tmp_path: Path, plugin: list[str], table: str) -> None:
    """nbdkit's headers have 96 bytes."""
    need("nbdkit")
    need("nbdcopy")
    folder, part, disk = tmp_path / "folder", tmp_path / "part", tmp_path / "disk.img"
    folder.mkdir()
    (folder / "file").write_text("text")
    Image.of(4 * MIB, [(0, b"something")]).write_to(part)
    name, *options = (word.format(folder=folder, part=part) for word in plugin)
    subprocess.run(
        ["nbdkit", "-U", "-", name, *options, "--run", f'nbdcopy "$uri" {disk}'],
        check=True,
        capture_output=True,
        env=environment(),
    )
    status, reasons, content = inspected(disk)
    assert (status, reasons, content[0]) == ("safe", (), table)
