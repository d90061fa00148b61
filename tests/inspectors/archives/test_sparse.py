"""Files packed with holes, in each of GNU tar's formats, wherever the map is stored."""

from pathlib import Path

import pytest

from keyhole.builders import Image, gpt_disk, qcow2, tar_header
from keyhole.inspectors import Facts
from keyhole.inspectors.archives.tar.sparse import MAX_EXTENTS
from tests.inspectors.archives.blocks import archive, extended, file, old_sparse, patched
from tests.inspectors.archives.walking import walk
from tests.inspectors.inspecting import facts_of
from tests.inspectors.one_inspector import image_of, run_tool

KIB, MIB, GIB = 1024, 1024**2, 1024**3
FORMATS = [
    ("--format=oldgnu",),
    ("--format=gnu",),
    *(("--format=posix", f"--sparse-version={version}") for version in ("0.0", "0.1", "1.0")),
]
LAST = file(b"last", b"text")
DATA = bytes(range(256)) * 4


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


@pytest.mark.parametrize("form", FORMATS, ids=" ".join)
def test_a_disk_that_gnu_tar_packed_sparsely_is_what_it_was(tmp_path: Path, form: tuple[str, ...]) -> None:
    """Compute Engine's format: GiB of a disk in an archive of some KiB."""
    disk = gpt_disk(10 * GIB)
    for number in range(40):
        disk = disk.patched((number + 1) * 16 * MIB, bytes([number + 1]) * 4096)
    disk.write_to(tmp_path / "disk.raw")
    qcow2(GIB, allocated=2).write_to(tmp_path / "second.qcow2")
    run_tool("tar", "tar", "-S", *form, "-C", tmp_path, "-cf", tmp_path / "a.tar", "disk.raw", "second.qcow2")
    image = image_of(tmp_path / "a.tar")
    assert image.size < 2 * MIB
    facts = walk(image)
    assert facts.findings == ()
    assert [member.name for member in facts.members] == ["disk.raw", "second.qcow2"]
    assert facts.members[0].size == 10 * GIB
    assert facts.members[0].facts == facts_of(disk)
    assert facts.members[1].facts == facts_of(qcow2(GIB, allocated=2))


def test_a_map_in_the_extended_header_is_one_of_data() -> None:
    records = [(b"GNU.sparse.size", b"4096"), (b"GNU.sparse.map", b"512,512,2048,512")]
    assert checks(walk(archive(*extended(*records), tar_header(b"s", 1024), DATA, *LAST))) == []


MAPS = {
    "goes back": [(1024, 512), (512, 512)],
    "overlaps": [(0, 1024), (512, 512)],
    "beyond the end": [(0, 512), (8192, 512)],
    "more than is stored": [(0, 512), (1024, 1024)],
    "less than is stored": [(0, 512)],
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_cannot_be_is_a_contradiction(name: str) -> None:
    assert checks(walk(archive(*old_sparse(b"s", 8192, MAPS[name], 1024), DATA, *LAST))) == ["structure"]


@pytest.mark.parametrize("name", MAPS)
def test_and_so_it_is_in_the_other_formats(name: str) -> None:
    pairs = MAPS[name]
    listed = b",".join(b"%d,%d" % pair for pair in pairs)
    lines = b"%d\n" % len(pairs) + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    by_turns = [(key, b"%d" % value) for pair in pairs for key, value in zip(KEYS, pair, strict=True)]
    for records, content in (
        ([(b"GNU.sparse.size", b"8192"), (b"GNU.sparse.map", listed)], DATA),
        ([(b"GNU.sparse.size", b"8192"), *by_turns], DATA),
        ([*VERSION_1, (b"GNU.sparse.realsize", b"8192")], lines.ljust(512, b"\0") + DATA),
    ):
        image = archive(*extended(*records), tar_header(b"s", len(content)), content, *LAST)
        assert checks(walk(image)) == ["structure"], records


KEYS = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
VERSION_1 = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]


@pytest.mark.parametrize(
    ("records", "check"),
    [
        ([(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")], "unsupported_subformat"),
        ([(b"GNU.sparse.major", b"1")], "unsupported_subformat"),
        ([(b"GNU.sparse.map", b"0,512")], "structure"),
        ([(b"GNU.sparse.size", b"1024"), (b"GNU.sparse.map", b"0,512,1024")], "structure"),
        ([(b"GNU.sparse.size", b"1024"), (b"GNU.sparse.map", b"0,-512")], "structure"),
        ([(b"GNU.sparse.size", b"1024"), (KEYS[0], b"0")], "structure"),
        ([(b"GNU.sparse.size", b"9" * 19), (b"GNU.sparse.map", b"0,1024")], "structure"),
        (
            [(b"GNU.sparse.size", b"1024"), (b"GNU.sparse.map", b"0,0"), (KEYS[0], b"0"), (KEYS[1], b"0")],
            "ambiguous_format",
        ),
        ([*VERSION_1, (b"GNU.sparse.size", b"1024")], "ambiguous_format"),
        ([*VERSION_1, (b"GNU.sparse.realsize", b"1024")], "structure"),
        ([(b"GNU.volume.filename", b"disk")], "data_file"),
    ],
)
def test_what_an_extended_header_may_not_say_of_a_sparse_file(
    records: list[tuple[bytes, bytes]], check: str
) -> None:
    image = archive(*extended(*records), tar_header(b"s", len(DATA)), DATA, *LAST)
    assert checks(walk(image)) == [check]


def test_the_rest_of_a_file_of_another_archive_is_its_matter() -> None:
    assert checks(walk(archive(*LAST, tar_header(b"s", 4, kind=b"M"), b"rest"))) == ["data_file"]


def test_a_sparse_file_of_another_kind_of_tar_is_not_read() -> None:
    header = patched(old_sparse(b"s", 4096, [(0, 1024)], 1024)[0], 257, b"ustar\x0000")
    assert checks(walk(archive(header, DATA, *LAST))) == ["unsupported_subformat"]


def test_a_map_of_thousands_is_read_and_one_of_more_is_not() -> None:
    def packed(count: int) -> Image:
        pairs = [(number * 1024, 512) for number in range(count)]
        return archive(*old_sparse(b"s", count * 1024, pairs, count * 512), Image(count * 512), *LAST)

    assert checks(walk(packed(20_000))) == []
    assert checks(walk(packed(MAX_EXTENTS + 1))) == ["member_limit"]


def test_a_file_that_is_all_hole_is_zeros() -> None:
    facts = walk(archive(*old_sparse(b"s", 8 * GIB, [(8 * GIB, 0)], 0), *LAST))
    (member,) = facts.members
    assert (member.offset, member.size, member.facts.format) == (None, 8 * GIB, None)
    assert facts.details["other_files"] == 1


def test_a_cut_map_is_truncation() -> None:
    image = archive(*old_sparse(b"s", 64 * KIB, [(number * 1024, 512) for number in range(30)], 15360))
    assert checks(walk(image.truncated(1024))) == ["truncated"]
    assert checks(walk(image.truncated(1500))) == ["truncated"]
