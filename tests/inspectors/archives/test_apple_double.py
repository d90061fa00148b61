"""The AppleDouble files that macOS adds to archives are not members unless they have other content."""

import pytest

from keyhole.builders import Image, qcow2, tar
from keyhole.inspectors.archives.apple_double import MARK, is_apple_double
from tests.inspectors.archives.blocks import archive, file
from tests.inspectors.archives.walking import walk

MIB, GIB = 1024**2, 1024**3
ATTRIBUTES = MARK + bytes.fromhex("00020000") + b"Mac OS X        ".ljust(338, b"\0")
DISK = qcow2(GIB, allocated=2)
#: An AppleDouble file with a large resource fork.
FORK = Image.of(3 * MIB, [(0, ATTRIBUTES), (2 * MIB, b"icons")])


@pytest.mark.parametrize(
    "name", ["._disk.qcow2", "./._disk.qcow2", "a/b/._disk.qcow2", "__MACOSX/disk.qcow2"]
)
@pytest.mark.parametrize("size", [len(ATTRIBUTES), FORK.size])
def test_an_apple_double_file_is_no_member(name: str, size: int) -> None:
    facts = walk(tar([(name, FORK.truncated(size)), ("disk.qcow2", DISK)]))
    assert [member.name for member in facts.members] == ["disk.qcow2"]
    assert facts.findings == ()


@pytest.mark.parametrize("name", ["._disk.qcow2", "__MACOSX/a/disk.qcow2"])
def test_a_disk_that_is_called_like_one_is_a_member(name: str) -> None:
    facts = walk(tar([(name, qcow2(GIB, backing_file="/etc/shadow")), ("disk.qcow2", DISK)]))
    assert [member.name for member in facts.members] == [name, "disk.qcow2"]
    assert facts.members[0].facts.findings


@pytest.mark.parametrize("name", [b"._disk.raw", b"disk.raw"])
def test_a_large_file_is_a_member_if_its_name_or_its_content_is_another(name: bytes) -> None:
    unknown = Image.of(3 * MIB, [(0, b"\xffunknown")])
    content = unknown if name.startswith(b".") else FORK
    facts = walk(archive(*file(name, content), *file(b"disk.qcow2", DISK)))
    assert [member.name for member in facts.members] == [name.decode(), "disk.qcow2"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (b"._a.ovf", True),
        (b"a/._b", True),
        (b"__MACOSX/a", True),
        (b"__MACOSX", False),
        (b"a._b", False),
        (b"._a/b", False),
    ],
)
def test_it_is_known_by_its_name_and_its_mark(name: bytes, *, is_one: bool) -> None:
    assert is_apple_double(name, ATTRIBUTES) is is_one
    assert not is_apple_double(name, b"<?xml version='1.0'?>")
