"""A small file in an archive is a member if some reader would open it as a disk."""

import subprocess
from pathlib import Path

import pytest

from keyhole.api import scan_object
from keyhole.builders import Image, qcow2, tar
from keyhole.inspectors.archives.member import LARGE
from tests.inspectors.archives import readers
from tests.inspectors.archives.blocks import archive, file
from tests.inspectors.archives.walking import walk

GIB = 1024**3
DISK = qcow2(GIB, allocated=2)
EXTENT = b'\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8 FLAT "secret" 0\n'
FIRST_LINE = b"# Disk DescriptorFile\nversion=1\nCID=1"
#: Texts that make a reader open another file if it treats them as VMDKs.
DESCRIPTORS = {
    "as VMware writes it": FIRST_LINE + EXTENT,
    "a line break in front": b"\n" + FIRST_LINE + EXTENT,
    "UTF-8's mark in front": b"\xef\xbb\xbf" + FIRST_LINE + EXTENT,
    "no space": b"#Disk DescriptorFile\nversion=1\nCID=1" + EXTENT,
    "a long comment": b"#" + b"x" * 5000 + b"\n" + FIRST_LINE + EXTENT,
    "prose in front": b"What to know of this disk:\n" + b"it is fine.\n" * 600 + FIRST_LINE + EXTENT,
    "no first line": b"CID=1" + EXTENT,
    "no version": b"# a comment" + EXTENT,
    "Windows' line breaks": (FIRST_LINE + EXTENT).replace(b"\n", b"\r\n"),
    "NULs behind": FIRST_LINE + EXTENT + bytes(600),
}


def named(content: bytes, name: str = "notes.txt") -> Image:
    return tar([("disk.qcow2", DISK), (name, Image.of(len(content), [(0, content)]))])


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_text_that_qemu_opens_as_a_vmdk_is_a_member(tmp_path: Path, name: str) -> None:
    readers.need("qemu-img")
    (tmp_path / "secret").write_bytes(bytes(4096))
    (tmp_path / "notes.txt").write_bytes(DESCRIPTORS[name])
    asked = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", "notes.txt"], cwd=tmp_path, capture_output=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
    report = scan_object(str(named(DESCRIPTORS[name]).write_to(tmp_path / "a.tar")))
    assert [member.format for member in report.members] == ["qcow2", "vmdk"]
    assert (report.status, report.members[0].status) == ("unsafe", "safe")


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\0\0\0\0\0\0\3",
        b"7z\xbc\xaf\x27\x1c\0\4",
        b"Rar!\x1a\x07\0",
        b"encrcdsa\0\0\0\2",
        b"\x3a\xff\x26\xed\1\0\0\0",
        b"QFI\xfb\0\0\0\x09",
    ],
)
def test_what_bears_a_formats_mark_is_a_member(content: bytes) -> None:
    facts = walk(named(content.ljust(700, b"\0")))
    assert [member.name for member in facts.members] == ["disk.qcow2", "notes.txt"]


@pytest.mark.parametrize("name", ["box.img", "a/DISK.VMDK", "x.raw", "x.iso", "x.qcow2", ".vhd"])
@pytest.mark.parametrize("content", [b"", b"no disk"])
def test_what_has_a_disks_suffix_is_a_member(tmp_path: Path, name: str, content: bytes) -> None:
    image = named(content, name)
    assert [member.name for member in walk(image).members] == ["disk.qcow2", name]
    assert scan_object(str(image.write_to(tmp_path / "a.tar"))).status == "unrecognized"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.json", b'{"provider": "libvirt", "format": "qcow2"}'),
        ("Vagrantfile", b'Vagrant.configure("2") do |config|\nend\n'),
        ("machine.mf", b"SHA256(disk.qcow2)= 00\n"),
        ("machine.nvram", b"\xff" * 4096),
        ("machine.vmx", b'.encoding = "UTF-8"\nscsi0:0.fileName = "disk.qcow2"\n'),
        ("img", b"text"),
        ("vmdk.txt", b"text"),
        ("notes.txt", b"see createType, and # Disk DescriptorFile"),
    ],
)
def test_other_small_files_are_counted(tmp_path: Path, name: str, content: bytes) -> None:
    image = named(content, name)
    facts = walk(image)
    assert ([member.name for member in facts.members], facts.details["other_files"]) == (["disk.qcow2"], 1)
    assert scan_object(str(image.write_to(tmp_path / "a.tar"))).status == "safe"


def test_a_large_file_is_a_member_whatever_it_is() -> None:
    unknown = Image.of(LARGE, [(0, b"\xffnothing")])
    assert len(walk(archive(*file(b"a", DISK), *file(b"b", unknown))).members) == 2
    assert len(walk(archive(*file(b"a", DISK), *file(b"b", unknown.truncated(LARGE - 1)))).members) == 1
