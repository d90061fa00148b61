"""Discs with a partition table, for use on USB sticks: they are whole, and get blkid's types."""

import subprocess
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.inspectors import Wholeness
from keyhole.scan.settings import ScanSettings
from tests.tools import environment, need, run

#: Debian's isolinux has these files. Without them, only discs that need none are made.
ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
HYBRID_MBR = Path("/usr/lib/ISOLINUX/isohdpfx.bin")
BOOT = "-b boot.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table"
EFI = "-eltorito-alt-boot -e efi.img -no-emul-boot"
XORRISO = "xorriso -as mkisofs -quiet -r -J -V TEST -o disc.iso"
GENISOIMAGE = "genisoimage -quiet -r -V TEST -o disc.iso"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
UBUNTU = (
    f"-append_partition 2 {ESP} tree/efi.img -appended_part_as_gpt -partition_offset 16 "
    "-iso_mbr_part_type a2a0d0ebe5b9334487c068b6b72699c7 tree"
)

#: The commands that make a disc of `tree`, by the name of the table.
HYBRIDS = {
    "xorriso, an MBR": (f"{XORRISO} {BOOT} -isohybrid-mbr mbr.bin tree", "dos"),
    "as Debian's": (f"{XORRISO} {BOOT} -isohybrid-mbr mbr.bin {EFI} -isohybrid-gpt-basdat tree", "dos"),
    "as Fedora's": (
        f"{XORRISO} {BOOT} -isohybrid-mbr mbr.bin {EFI} -isohybrid-gpt-basdat -isohybrid-apm-hfsplus tree",
        "dos",
    ),
    "as Ubuntu's": (
        f"{XORRISO} {BOOT} --grub2-mbr mbr.bin --mbr-force-bootable {UBUNTU}",
        "gpt",
    ),
    "an appended partition": (
        f"{XORRISO} {BOOT} -isohybrid-mbr mbr.bin -append_partition 2 0xef tree/efi.img tree",
        "dos",
    ),
    "an appended partition in a GPT": (
        f"{XORRISO} {BOOT} -append_partition 2 {ESP} tree/efi.img -appended_part_as_gpt tree",
        "gpt",
    ),
    "a partition that begins behind": (
        f"{XORRISO} {BOOT} -isohybrid-mbr mbr.bin -partition_offset 16 tree",
        "dos",
    ),
    "a protective MBR": (f"{XORRISO} --protective-msdos-label tree", "dos"),
    "a GPT for EFI": (f"{XORRISO} -efi-boot-part --efi-boot-image -e efi.img -no-emul-boot tree", "gpt"),
    "for Macs": (f"{XORRISO} -hfsplus tree", "mac"),
    "for MIPS": (f"{XORRISO} -mips-boot noise tree", "sgi"),
    "for SPARC": (f"{XORRISO} -sparc-boot tree/efi.img tree", "sun"),
    "for PowerPC": (f"{XORRISO} -chrp-boot-part tree", "dos"),
    "genisoimage, for SPARC": (f"{GENISOIMAGE} -sparc-boot tree/efi.img,tree/efi.img tree", "sun"),
    "genisoimage, for Macs": (f"{GENISOIMAGE} -hfs tree", "dos"),
    "genisoimage, a Mac's partition": (f"{GENISOIMAGE} -hfs -part tree", "dos"),
    "isohybrid": (f"{GENISOIMAGE} {BOOT} tree; isohybrid disc.iso", "dos"),
    "isohybrid, UEFI": (f"{GENISOIMAGE} {BOOT} {EFI} tree; isohybrid --uefi disc.iso", "dos"),
    "isohybrid, second": (f"{GENISOIMAGE} {BOOT} tree; isohybrid --entry 2 --type 0x83 disc.iso", "dos"),
    "grub-mkrescue": ("grub-mkrescue -o disc.iso tree", None),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tree to put on a disc, and with boot code."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(bytes(range(256)) * 1000)
    run(f"mkfs.fat -C {tree / 'efi.img'} 1440", tmp_path)
    (tree / "boot.bin").write_bytes(ISOLINUX.read_bytes() if ISOLINUX.exists() else bytes(4096))
    (tmp_path / "mbr.bin").write_bytes(HYBRID_MBR.read_bytes() if HYBRID_MBR.exists() else bytes(432))
    return tmp_path


def by_blkid(disc: Path) -> set[str]:
    """The types that blkid reports for the file system and the partition table."""
    need("blkid")
    done = subprocess.run(
        ["blkid", "-p", "-o", "export", disc], capture_output=True, text=True, check=True, env=environment()
    )
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {printed[name] for name in ("TYPE", "PTTYPE") if name in printed}


@pytest.mark.slow
@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_is_safe_and_what_blkid_says(folder: Path, name: str) -> None:
    commands, table = HYBRIDS[name]
    if "isohybrid " in commands and not ISOLINUX.exists():
        pytest.skip("isolinux is not there: isohybrid takes no other boot code")
    for command in commands.split(";"):
        run(command, folder)
    disc = folder / "disc.iso"

    report = scan_path(disc, ScanSettings())

    assert (report.format, report.status, report.findings) == ("iso", "safe", ())
    assert report.wholeness is Wholeness.PROVEN
    assert by_blkid(disc) <= set(report.content)
    assert table is None or table in report.content
    assert report.requests <= 4


@pytest.mark.parametrize("options", ["", "-udf", "-udf -J -r", "-udf -iso-level 3", "-r -apple", "-no-pad"])
def test_so_is_what_genisoimage_makes(folder: Path, options: str) -> None:
    run(f"genisoimage -quiet {options} -o disc.iso tree", folder)

    report = scan_path(folder / "disc.iso", ScanSettings())

    assert (report.format, report.status, report.findings) == ("iso", "safe", ())
    assert by_blkid(folder / "disc.iso") <= set(report.content)
