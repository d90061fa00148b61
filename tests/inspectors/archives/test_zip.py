"""ZIP archives: every member is found and inspected, in place or while it is decompressed."""

import io
import zipfile
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, gpt_disk, iso, qcow2, vdi, vhd_fixed, vmdk_sparse, zip_archive
from keyhole.inspectors import Facts, Inspection, Wholeness, get_inspector
from keyhole.inspectors.archives.zip.inspector import ZipInspector
from keyhole.inspectors.archives.zip.records import TAIL_BYTES
from keyhole.inspectors.archives.zip.walk import MAX_ENTRIES
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.container import MAX_MEMBERS
from keyhole.inspectors.facts import DECOMPRESSION_LIMIT
from keyhole.inspectors.inside import MAX_DEPTH, Inside
from tests.inspectors.archives.walking import walk
from tests.inspectors.archives.zips import (
    LINK,
    Part,
    descriptor,
    field_of,
    image,
    zipped,
)
from tests.inspectors.compression.packed import PACKED
from tests.inspectors.feeding import WAYS, told_at_once
from tests.inspectors.inspecting import facts_of
from tests.inspectors.laws import keeps_the_law, mutated

KIB, MIB, GIB = 1024, 1024**2, 1024**3
TEXT = b"what to know of this archive\n"
README = image(TEXT)
DISK = qcow2(MIB, allocated=2).to_bytes()


def by_python(method: int, *members: tuple[str, Image]) -> Image:
    """An archive written by Python's zipfile."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content.to_bytes())
    return image(written.getvalue())


ARCHIVES = {
    "stored": zip_archive([("a.qcow2", qcow2(GIB, allocated=3)), ("readme", README), ("b.vdi", vdi(GIB))]),
    "deflated": by_python(8, ("a.qcow2", qcow2(MIB)), ("readme", README), ("b.raw", gpt_disk(2 * MIB))),
    "described": image(
        zipped(
            [
                Part(b"a.raw", DISK, 8, flags=8, local={"crc": 0, "packed": 0, "size": 0},
                     behind=descriptor(DISK, len(Part(b"", DISK, 8).stored))),
                Part(b"link", b"a.raw", mode=LINK),
                Part(b"folder/", b""),
                Part(b"folder/readme", TEXT, 8),
            ],
            comment=b"made by hand",
        )
    ),
    "nested": zip_archive(
        [("inner.zip", by_python(0, ("disk.vmdk", vmdk_sparse(GIB)))), ("large", Image(2 * MIB))]
    ),
    "several methods": by_python(14, ("a.qcow2", qcow2(MIB)), ("b.gz", image(PACKED["gzip"](DISK)))),
}  # fmt: skip


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


def names(facts: Facts) -> list[tuple[str, str | None]]:
    return [(member.name, member.facts.format) for member in facts.members]


# Members


def test_disks_are_members_and_the_rest_is_counted() -> None:
    facts = walk(ARCHIVES["stored"])
    assert (facts.format, facts.findings, facts.wholeness) == ("zip", (), Wholeness.PROVEN)
    assert names(facts) == [("a.qcow2", "qcow2"), ("b.vdi", "vdi")]
    assert facts.details == {"other_files": 1}
    assert facts.virtual_size == 2 * GIB


@pytest.mark.parametrize(
    "disk", [qcow2(GIB, allocated=5), vhd_fixed(MIB), gpt_disk(2 * MIB), iso(), vdi(GIB)]
)
def test_a_stored_disk_is_in_an_archive_what_it_is_alone(disk: Image) -> None:
    facts = walk(zip_archive([("readme", README), ("disk", disk), ("more", README)]))
    (member,) = facts.members
    assert (member.offset, member.size) == (36 + len(TEXT) + 34, disk.size)
    assert member.facts == facts_of(disk)


@pytest.mark.parametrize("method", [8, 12, 14])
@pytest.mark.parametrize(
    "disk", [qcow2(MIB, allocated=5), vhd_fixed(MIB), gpt_disk(2 * MIB), iso(), vdi(MIB)]
)
def test_a_compressed_disk_is_known_as_if_it_lay_there_plain(method: int, disk: Image) -> None:
    facts = walk(by_python(method, ("readme", README), ("disk", disk), ("more", README)))
    assert (facts.findings, facts.wholeness, facts.details) == ((), Wholeness.PROVEN, {"other_files": 2})
    (member,) = facts.members
    assert (member.offset, member.size, member.facts) == (None, disk.size, facts_of(disk))


@pytest.mark.parametrize(("method", "name"), [(93, "zstd"), (95, "xz")])
def test_so_it_is_of_methods_that_python_does_not_write(method: int, name: str) -> None:
    facts = walk(image(zipped([Part(b"disk", DISK, method, packed=PACKED[name](DISK))])))
    assert facts.findings == ()
    assert facts.members[0].facts == facts_of(qcow2(MIB, allocated=2))


def test_lzma_is_unpacked_with_and_without_a_mark_of_its_end() -> None:
    written = by_python(14, ("disk", qcow2(MIB, allocated=2))).to_bytes()
    assert written[6] & 2
    facts = walk(image(written))
    assert (facts.findings, facts.members[0].facts.findings) == ((), ())
    start = 30 + len("disk")
    properties, *_ = [written[start : start + 9]]
    alone = PACKED["lzma"](DISK)
    assert properties[4:5] == alone[:1]
    packed = b"\x09\x14\5\0" + alone[:5] + alone[13:]
    assert (
        walk(image(zipped([Part(b"disk", DISK, 14, packed=packed, flags=2)]))).members[0].facts.findings == ()
    )


@pytest.mark.parametrize(("size", "members"), [(MIB, ["large"]), (MIB - 1, [])])
@pytest.mark.parametrize("method", [0, 8])
def test_a_large_file_that_nothing_recognises_is_a_member(size: int, members: list[str], method: int) -> None:
    facts = walk(by_python(method, ("large", Image.of(size, [(0, b"\xffnothing")]))))
    assert [member.name for member in facts.members] == members
    assert facts.details["other_files"] == 1 - len(members)


@pytest.mark.parametrize("name", ["__MACOSX/._disk.raw", "d/._disk.raw"])
def test_what_macos_adds_is_no_member(name: str) -> None:
    added = Image.of(2 * MIB, [(0, bytes.fromhex("00051607") + b"\0\2\0\0Mac OS X")])
    facts = walk(zip_archive([("disk.qcow2", qcow2(GIB)), (name, added)]))
    assert (names(facts), facts.findings) == ([("disk.qcow2", "qcow2")], ())
    # The name alone makes this file a member.
    assert len(walk(zip_archive([("disk.qcow2", qcow2(GIB)), (name, qcow2(GIB))])).members) == 2


def test_an_archive_without_disks_has_no_members() -> None:
    facts = walk(zip_archive([("readme", README)]))
    assert (facts.format, facts.members, facts.virtual_size) == ("zip", (), None)


@pytest.mark.parametrize("comment", [b"", b"a comment", b"c" * 65_535])
def test_an_archive_of_nothing_is_one(comment: bytes) -> None:
    facts = walk(zip_archive([], comment=comment))
    assert (facts.format, facts.findings, facts.wholeness) == ("zip", (), Wholeness.PROVEN)


def test_a_large_archive_has_its_numbers_in_zip64() -> None:
    facts = walk(
        zip_archive([("a.raw", gpt_disk(5 * GIB)), ("b.qcow2", qcow2(GIB)), ("c.raw", gpt_disk(6 * GIB))])
    )
    assert (facts.findings, facts.wholeness) == ((), Wholeness.PROVEN)
    assert names(facts) == [("a.raw", "raw"), ("b.qcow2", "qcow2"), ("c.raw", "raw")]
    assert facts.virtual_size == 12 * GIB


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(("method", "mark"), [(0, True), (8, True), (8, False)])
def test_what_a_descriptor_says_stands_behind_the_data(method: int, mark: bool, wide: bool) -> None:
    extra = field_of(1, bytes(16)) if wide else b""
    unknown = {"crc": 0, "packed": 0, "size": 0, "extra": extra}
    behind = descriptor(DISK, len(Part(b"", DISK, method).stored), mark=mark, wide=wide)
    part = Part(b"disk", DISK, method, flags=8, local=unknown, behind=behind)
    facts = walk(image(zipped([part, replace(part, name=b"another")])))
    assert (checks(facts), len(facts.members)) == ([], 2)


def test_the_order_of_the_directory_makes_no_difference() -> None:
    parts = [Part(b"a", DISK), Part(b"b", TEXT), Part(b"c", DISK, 8)]
    assert walk(image(zipped(parts, order=[2, 0, 1]))) == walk(image(zipped(parts)))


def test_the_format_has_an_inspector() -> None:
    assert get_inspector("zip") is ZipInspector


# Compression, and the limits of decompression


def test_of_a_disk_that_is_longer_than_may_be_made_of_it_the_rest_is_left_undecided() -> None:
    inspection = Inspection(inside=Inside(decompression=Decompression(output=2 * MIB)))
    told_at_once(inspection, by_python(8, ("disk", gpt_disk(3 * MIB))))
    (member,) = inspection.facts().members
    assert (member.facts.format, member.facts.complete, member.facts.unseen) == (
        "raw",
        False,
        DECOMPRESSION_LIMIT,
    )
    assert (member.size, inspection.facts().wholeness) == (None, Wholeness.PROVEN)


@pytest.mark.parametrize(
    ("changes", "check"),
    [({"size": len(DISK) - 1}, "size_mismatch"), ({"size": len(DISK) + 1}, "size_mismatch"),
     ({"crc": 1}, "checksum_mismatch")],
)  # fmt: skip
def test_what_comes_out_is_as_the_directory_states(changes: dict[str, int], check: str) -> None:
    facts = walk(image(zipped([Part(b"disk", DISK, 8, local=changes, directory=changes)])))
    assert checks(facts.members[0].facts) == [check]


def test_data_that_are_corrupt_or_go_on_are_a_finding() -> None:
    packed = Part(b"", DISK, 8).stored
    for data, check in (
        (packed[:-1], "truncated"),
        (packed + b"x", "trailing_data"),
        (b"\xff" * 50, "structure"),
    ):
        facts = walk(image(zipped([Part(b"disk", DISK, 8, packed=data)])))
        assert [one.check for one in facts.members[0].facts.findings] == [check]


def test_zeros_by_the_gigabyte_are_a_bomb() -> None:
    packed = Part(b"", bytes(65 * MIB), 8).stored
    facts = walk(
        image(zipped([Part(b"disk", b"", 8, packed=packed, local={"size": GIB}, directory={"size": GIB})]))
    )
    assert checks(facts.members[0].facts) == ["decompression_bomb"]


# Limits


@pytest.mark.slow
def test_more_members_than_are_looked_at_are_a_finding() -> None:
    disk = vdi(MIB)
    more = walk(zip_archive([(f"{number}.vdi", disk) for number in range(MAX_MEMBERS + 1)]))
    assert (len(more.members), checks(more)) == (MAX_MEMBERS, ["member_limit"])


def test_more_entries_than_are_read_are_a_finding() -> None:
    folder = zip_archive([("f/", Image(0))])
    header = folder.read(32, 48)
    data = header * (MAX_ENTRIES + 1)
    from keyhole.builders.zip import end_records

    whole = image(folder.read(0, 32) + data + end_records(MAX_ENTRIES + 1, len(data), 32))
    assert checks(walk(whole)) == ["member_limit"]


def test_archives_in_archives_are_looked_into_so_deep() -> None:
    disk = vdi(MIB)
    inner = disk
    for depth in range(MAX_DEPTH + 1):
        facts = walk(inner)
        for _ in range(depth):
            assert checks(facts) == []
            facts = facts.members[0].facts
        assert facts.format == "vdi"
        inner = zip_archive([("inner", inner)])
    facts = walk(inner)
    for _ in range(MAX_DEPTH):
        facts = facts.members[0].facts
    assert (facts.members, checks(facts)) == ((), ["member_limit"])


# The end


def test_every_cut_is_noticed() -> None:
    whole = ARCHIVES["described"]
    for size in range(4, whole.size):
        facts = walk(whole.truncated(size))
        assert (checks(facts), facts.wholeness) == (["truncated"], Wholeness.UNCHECKED), size
        assert facts.complete


def test_what_is_in_the_front_and_in_the_end_is_not_asked_for_twice() -> None:
    whole = zip_archive([("disk.raw", gpt_disk(GIB))])
    inspection = Inspection()
    inspection.feed(0, whole.read(0, 256 * KIB))
    inspection.finish(whole.size)
    assert {gap.end for gap in inspection.missing()} == {whole.size}
    assert max(gap.length for gap in inspection.missing()) == TAIL_BYTES
    inspection.feed(whole.size - TAIL_BYTES, whole.read(whole.size - TAIL_BYTES, TAIL_BYTES))
    assert inspection.facts().members[0].facts.content == ("gpt",)


def test_small_members_are_looked_at_as_they_come() -> None:
    """One read contains hundreds of members. Keyhole does not fetch them again."""
    whole = by_python(8, *((f"{number}.txt", README) for number in range(300)))
    inspection = Inspection()
    inspection.feed(0, whole.read(0, whole.size))
    inspection.finish(whole.size)
    assert inspection.missing() == []
    assert inspection.facts().details == {"other_files": 300}


# Laws


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
@given(data=st.data())
def test_an_archive_is_known_the_same_however_the_bytes_came(name: str, data: st.DataObject) -> None:
    keeps_the_law(ZipInspector, [ARCHIVES[name]], data)


@given(data=st.data(), name=st.sampled_from(list(ARCHIVES)), way=st.sampled_from(WAYS))
def test_and_so_are_its_members(data: st.DataObject, name: str, way: object) -> None:
    assert callable(way)
    whole = ARCHIVES[name]
    if data.draw(st.booleans()):
        whole = mutated(whole, Random(data.draw(st.integers(0, 2**32))))  # noqa: S311 - to choose mutations
    assert (
        way(Inspection(), whole, data.draw).facts()
        == told_at_once(Inspection(), whole).facts()
        == walk(whole)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_mutated_archive_breaks_nothing(name: str) -> None:
    choose = Random(name)  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(100):
        facts = walk(mutated(ARCHIVES[name], choose))
        assert facts.complete
        assert len(facts.findings) < 100
        assert all(len(one.message) < 2048 and one.message.isprintable() for one in facts.findings)
