"""Names that are equal on some file systems, if one of them belongs to a disk or a descriptor."""

from pathlib import Path

import pytest

from keyhole.builders import OVADisk, ova, ovf, qcow2, tar_header, vdi, vmdk_sparse
from keyhole.inspectors import Facts
from keyhole.inspectors.archives.namesakes import folded
from tests.inspectors.archives.blocks import archive, file, gnu, patched
from tests.inspectors.archives.readers import by_tarfile
from tests.inspectors.archives.walking import walk

MIB = 1024**2
TEXT = b"text"


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("disk.img", "DISK.IMG"),
        ("disk.img", "Disk.img"),
        ("a/disk.img", "A/disk.img"),
        ("größe.img", "GRÖSSE.img"),
        ("é.img", "e\u0301.img"),
        ("Σ.img", "ς.img"),
        ("disk.img", "disk.img."),
        ("disk.img", "disk.img "),
        ("a./disk.img", "a/disk.img"),
        ("a/disk.img", "a\\disk.img"),
        ("disk.img", "di\u200csk.img"),
        ("di?sk.img", "di_sk.img"),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_a_disk_whose_name_is_anothers_to_some_is_found(one: str, other: str, *, before: bool) -> None:
    disk, text = file(one.encode(), vdi(MIB)), file(other.encode(), TEXT)
    assert checks(walk(archive(*((*text, *disk) if before else (*disk, *text))))) == ["ambiguous_format"]
    assert checks(walk(archive(*file(one.encode(), vdi(MIB)), *file(other.encode(), vdi(MIB))))) == [
        "ambiguous_format"
    ]


def test_a_link_may_be_the_other() -> None:
    links = tar_header(b"DISK.IMG", kind=b"2", link=b"other")
    assert checks(walk(archive(*file(b"disk.img", vdi(MIB)), links))) == ["ambiguous_format"]


@pytest.mark.parametrize(
    ("one", "other"), [("readme", "README"), ("a/x_mark.h", "a/x_MARK.h"), ("disk2.img", "disk.img2")]
)
def test_names_of_other_files_may_differ_in_case_alone(one: str, other: str) -> None:
    image = archive(*file(b"disk.img", vdi(MIB)), *file(one.encode(), TEXT), *file(other.encode(), TEXT))
    assert checks(walk(image)) == []


def test_a_descriptor_is_replaced_by_a_link_of_its_name() -> None:
    disk = OVADisk("disk.vmdk", vmdk_sparse(MIB), MIB)
    descriptor = file(b"a.ovf", ovf([disk]).encode())
    parts = (*descriptor, *file(b"disk.vmdk", disk.content), *file(b"other", TEXT))
    assert checks(walk(archive(*parts))) == []
    for name in (b"a.ovf", b"A.OVF"):
        found = checks(walk(archive(*parts, tar_header(name, kind=b"2", link=b"other"))))
        assert found == ["ambiguous_format"], name
    assert checks(walk(ova([disk]))) == []


def test_bytes_that_are_no_utf_8_are_told_apart() -> None:
    image = archive(*file(b"\xe9.img", vdi(MIB)), *file(b"\xc9.img", TEXT), *file(b"\xff", TEXT))
    assert checks(walk(image)) == []
    assert folded(b"\xe9\xff") == b"\xe9\xff"


# Members to which Python gives another name


TIMES = b"15302460014\00015302460013\0"


def with_times(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A header of GNU tar's incremental backups."""
    return patched(gnu(tar_header(name, size, kind=kind)), 345, TIMES)


def test_the_times_of_an_incremental_backup_are_no_part_of_the_name() -> None:
    disk = qcow2(MIB)
    facts = walk(archive(with_times(b"disk", disk.size), disk))
    assert (checks(facts), [member.name for member in facts.members]) == ([], ["disk"])


def test_to_python_they_are_so_a_file_of_that_name_is_a_second_one(tmp_path: Path) -> None:
    disk = qcow2(MIB)
    also = b"15302460014/disk"
    parts = (with_times(b"disk", disk.size), disk), file(also, vdi(MIB))
    archive(*parts[0]).write_to(tmp_path / "a.tar")
    assert by_tarfile(tmp_path / "a.tar") == [(also.decode(), disk.size)]
    for first, second in (parts, parts[::-1]):
        assert "ambiguous_format" in checks(walk(archive(*first, *second)))
    assert checks(walk(archive(with_times(b"disk", disk.size), disk, *file(b"15302460014/x", TEXT)))) == []


@pytest.mark.parametrize(
    "times", [b"15302460014 15302460013\0", b"folder\0", TIMES + b"x", b"15302460014/a\0"]
)
def test_other_bytes_there_are_found(times: bytes) -> None:
    disk = qcow2(MIB)
    header = patched(gnu(tar_header(b"disk", disk.size)), 345, times)
    assert checks(walk(archive(header, disk))) == ["ambiguous_format"]


def test_a_link_with_such_times_is_found() -> None:
    header = patched(gnu(tar_header(b"l", kind=b"2", link=b"disk")), 345, TIMES)
    assert checks(walk(archive(*file(b"disk", vdi(MIB)), header))) == ["ambiguous_format"]
