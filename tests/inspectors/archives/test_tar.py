"""Tar archives: every member is found and inspected in place, and the archive's end is known."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, dmg, gpt_disk, iso, qcow2, tar, tar_header, vdi, vhd_fixed, vmdk_sparse
from keyhole.builders.image import round_up
from keyhole.builders.tar import BLOCK
from keyhole.inspectors import Facts, Inspection, Severity, Wholeness, get_inspector
from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.inspectors.archives.tar.inspector import MAX_ENTRIES, MAX_EXTENDED, MAX_PADDING
from keyhole.inspectors.container import FEW_OPEN, MAX_MEMBERS, MAX_OPEN, MAX_OPEN_BYTES
from keyhole.inspectors.inside import MAX_DEPTH
from tests.inspectors.archives.blocks import (
    END,
    archive,
    extended,
    file,
    long_name,
    old,
    old_sparse,
    patched,
    sized,
)
from tests.inspectors.archives.walking import walk
from tests.inspectors.feeding import WAYS, told_at_once
from tests.inspectors.inspecting import facts_of
from tests.inspectors.laws import keeps_the_law, mutated

KIB, MIB, GIB = 1024, 1024**2, 1024**3
TEXT = b"what to know of this archive\n"
README = Image.of(len(TEXT), [(0, TEXT)])
SPARSE_DISK = gpt_disk(3 * MIB)
SPARSE_PAIRS = [(0, 32 * KIB), (3 * MIB - 32 * KIB, 32 * KIB), (3 * MIB, 0)]
STORED = b"".join(SPARSE_DISK.read(*pair) for pair in SPARSE_PAIRS)

ARCHIVES = {
    "disks": tar([("a.qcow2", qcow2(GIB, allocated=3)), ("readme", README), ("b.vdi", vdi(GIB))]),
    "names": archive(
        *extended((b"path", b"x.vdi"), (b"comment", b"none")),
        *file(b"b", vdi(MIB)),
        *long_name(b"long" * 50),
        *file(b"c", vhd_fixed(MIB)),
    ),
    "sparse": archive(*old_sparse(b"disk.raw", 3 * MIB, SPARSE_PAIRS, len(STORED)), STORED),
    "nested": tar([("inner.tar", tar([("disk.vmdk", vmdk_sparse(GIB))])), ("large", Image(2 * MIB))]),
}


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


def names(facts: Facts) -> list[tuple[str, str | None]]:
    return [(member.name, member.facts.format) for member in facts.members]


# Members


def test_disks_are_members_and_the_rest_is_counted() -> None:
    facts = walk(ARCHIVES["disks"])
    assert (facts.format, facts.findings, facts.wholeness) == ("tar", (), Wholeness.PROVEN)
    assert names(facts) == [("a.qcow2", "qcow2"), ("b.vdi", "vdi")]
    assert facts.details == {"other_files": 1}
    assert facts.virtual_size == 2 * GIB


@pytest.mark.parametrize(
    "disk", [qcow2(GIB, allocated=5), vhd_fixed(MIB), gpt_disk(2 * MIB), iso(), vdi(GIB)]
)
def test_a_disk_is_in_an_archive_what_it_is_alone(disk: Image) -> None:
    facts = walk(tar([("readme", README), ("disk", disk), ("more", README)]))
    (member,) = facts.members
    assert (member.offset, member.size) == (3 * BLOCK, disk.size)
    assert member.facts == facts_of(disk)


@pytest.mark.parametrize(("size", "members"), [(MIB, ["large"]), (MIB - 1, [])])
def test_a_large_file_that_nothing_recognises_is_a_member(size: int, members: list[str]) -> None:
    facts = walk(tar([("large", Image.of(size, [(0, b"\xffnothing")]))]))
    assert [member.name for member in facts.members] == members
    assert facts.details["other_files"] == 1 - len(members)


def test_an_archive_without_disks_has_no_members() -> None:
    facts = walk(tar([("readme", README)]))
    assert (facts.format, facts.members, facts.virtual_size) == ("tar", (), None)


def test_names_are_those_of_the_announcement() -> None:
    assert names(walk(ARCHIVES["names"])) == [("x.vdi", "vdi"), ("long" * 50, "vhd")]


def test_a_name_that_ustar_divides_is_one() -> None:
    header = tar_header(b"disk.vdi", vdi(MIB).size, prefix=b"a/folder")
    assert names(walk(archive(header, vdi(MIB)))) == [("a/folder/disk.vdi", "vdi")]


def test_a_member_beyond_8_gib_has_its_size_from_the_extended_header() -> None:
    disk = gpt_disk(9 * GIB)
    image = archive(*extended((b"size", b"%d" % disk.size)), tar_header(b"disk", 0), disk, *file(b"b", TEXT))
    facts = walk(image)
    assert names(facts) == [("disk", "raw")]
    assert (facts.findings, facts.details["other_files"]) == ((), 1)


@pytest.mark.parametrize(
    "change", [old, lambda header: patched(old(header), 156, b"\0")], ids=["unmarked", "and without a kind"]
)
def test_an_archive_from_before_the_mark_is_known_by_its_checksum(change: object) -> None:
    assert callable(change)
    image = archive(change(tar_header(b"disk", vdi(MIB).size)), vdi(MIB))
    assert names(walk(image)) == [("disk", "vdi")]


def test_without_mark_and_checksum_it_is_no_archive() -> None:
    header = old(tar_header(b"disk", vdi(MIB).size))
    assert facts_of(archive(header[:10] + b"x" + header[11:], vdi(MIB))).format is None


def test_a_marked_header_without_its_checksum_is_damage() -> None:
    facts = walk(ARCHIVES["disks"].patched(10, b"x"))
    assert (facts.format, checks(facts), facts.members) == ("tar", ["checksum_mismatch"], ())


@pytest.mark.parametrize(
    "name", [b"QFI\xfb\0\0\0\3", b"# Disk DescriptorFile\n", b"version=1\n", b"\x1f\x8b\x08"]
)
def test_an_archive_whose_first_name_is_another_formats_mark_is_two_at_once(name: bytes) -> None:
    assert "ambiguous_format" in checks(facts_of(archive(*file(name, TEXT))))


def test_both_names_of_the_format_have_an_inspector() -> None:
    assert get_inspector("tar") is get_inspector("ova") is OVAInspector


# The end


def test_every_cut_is_noticed() -> None:
    image = ARCHIVES["disks"]
    end = image.size // 10240 * 10240 - 10240
    for size in [BLOCK - 1, BLOCK, BLOCK + 1, *range(700, end, 10_007)]:
        facts = walk(image.truncated(size))
        assert facts.complete
        assert checks(facts) == ["truncated"], size


def test_a_cut_disk_is_seen_as_what_is_there_of_it() -> None:
    disk = vdi(GIB, allocated=4)
    facts = walk(tar([("disk", disk)]).truncated(BLOCK + 3 * MIB))
    assert checks(facts) == ["truncated"]
    (member,) = facts.members
    assert member.size == disk.size
    assert replace(member.facts, actual_size=0) == replace(facts_of(disk.truncated(3 * MIB)), actual_size=0)


def test_an_archive_that_ends_with_its_last_member_may_be_whole_and_is_not_known_to_be() -> None:
    facts = walk(archive(*file(b"disk", vdi(MIB)), end=b""))
    assert (facts.findings, facts.wholeness) == ((), Wholeness.UNCHECKED)
    assert names(facts) == [("disk", "vdi")]


@pytest.mark.parametrize("blocks", [1, 2, 20, MAX_PADDING // BLOCK])
def test_zeros_end_an_archive(blocks: int) -> None:
    facts = walk(archive(*file(b"disk", vdi(MIB)), end=bytes(blocks * BLOCK)))
    assert (facts.findings, facts.wholeness) == ((), Wholeness.PROVEN)


@pytest.mark.parametrize("at", [0, BLOCK, 100 * KIB, MAX_PADDING - 2 * BLOCK])
def test_what_stands_behind_the_end_is_found(at: int) -> None:
    image = archive(*file(b"disk", vdi(MIB)), bytes(BLOCK), bytes(at), b"x")
    assert checks(walk(image)) == ["trailing_data"]


def test_more_behind_the_end_than_is_looked_at_is_found_unseen() -> None:
    facts = walk(archive(*file(b"disk", vdi(MIB)), end=bytes(MAX_PADDING + 2 * BLOCK)))
    assert [(one.check, one.severity) for one in facts.findings] == [("trailing_data", Severity.WARNING)]


@pytest.mark.parametrize("end", [bytes(BLOCK), END, bytes(10240)])
def test_a_second_archive_behind_the_end_is_critical(end: bytes) -> None:
    facts = walk(
        archive(*file(b"disk", vdi(MIB)), end, *file(b"other", qcow2(MIB, backing_file="/etc/passwd")))
    )
    assert [(one.check, one.severity) for one in facts.findings] == [("trailing_data", Severity.CRITICAL)]


# Limits


@pytest.mark.slow
def test_more_members_than_are_looked_at_are_a_finding() -> None:
    disk = vdi(MIB)
    whole = walk(tar([(f"{number}.vdi", disk) for number in range(MAX_MEMBERS)]))
    assert (len(whole.members), whole.findings) == (MAX_MEMBERS, ())
    more = walk(tar([(f"{number}.vdi", disk) for number in range(MAX_MEMBERS + 1)]))
    assert (len(more.members), checks(more)) == (MAX_MEMBERS, ["member_limit"])


@pytest.mark.slow
def test_more_headers_than_are_read_are_a_finding() -> None:
    header = tar_header(b"folder/", kind=b"5")
    assert checks(walk(archive(header * (MAX_ENTRIES - 1)))) == []
    assert checks(walk(archive(header * MAX_ENTRIES))) == ["member_limit"]


def test_archives_in_archives_are_looked_into_so_deep() -> None:
    image = vdi(MIB)
    for depth in range(MAX_DEPTH + 1):
        facts = walk(image)
        for _ in range(depth):
            assert checks(facts) == []
            facts = facts.members[0].facts
        assert facts.format == "vdi"
        image = tar([("inner", image)])
    facts = walk(image)
    for _ in range(MAX_DEPTH):
        facts = facts.members[0].facts
    assert (facts.members, checks(facts)) == ((), ["member_limit"])


def test_an_announcement_that_is_too_long_is_not_read() -> None:
    image = archive(tar_header(b"x", MAX_EXTENDED + 1, kind=b"x"), Image(2 * MIB), *file(b"a", TEXT))
    assert checks(walk(image)) == ["structure"]


def test_a_name_of_nearly_a_mebibyte_is_shown_in_part() -> None:
    facts = walk(archive(*long_name(b"n" * (MAX_EXTENDED - 1)), *file(b"disk", vdi(MIB))))
    assert checks(facts) == ["member_path"]
    assert len(facts.findings[0].message) < 300
    assert len(facts.members[0].name) < 1030


def test_ten_thousand_records_are_read() -> None:
    records = [(b"k%d" % number, b"v") for number in range(10_000)]
    assert names(walk(archive(*extended(*records, (b"path", b"disk")), *file(b"a", vdi(MIB))))) == [
        ("disk", "vdi")
    ]


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**87])
def test_a_size_that_no_file_has_is_a_contradiction(size: int) -> None:
    header = sized(tar_header(b"disk"), b"\x80" + size.to_bytes(11, "big"))
    assert checks(walk(archive(header, vdi(MIB)))) == ["structure"]


@pytest.mark.parametrize("size", [2**62, 2**63 - 1])
def test_a_size_beyond_the_object_is_truncation(size: int) -> None:
    header = sized(tar_header(b"disk"), b"\x80" + size.to_bytes(11, "big"))
    assert checks(walk(archive(header, vdi(MIB)))) == ["truncated"]


# Laws


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
@given(data=st.data())
def test_an_archive_is_known_the_same_however_the_bytes_came(name: str, data: st.DataObject) -> None:
    keeps_the_law(OVAInspector, [ARCHIVES[name]], data)


@given(data=st.data(), name=st.sampled_from(list(ARCHIVES)), way=st.sampled_from(WAYS))
def test_and_so_are_its_members(data: st.DataObject, name: str, way: object) -> None:
    assert callable(way)
    image = ARCHIVES[name]
    if data.draw(st.booleans()):
        image = mutated(image, Random(data.draw(st.integers(0, 2**32))))  # noqa: S311 - to choose mutations
    assert (
        way(Inspection(), image, data.draw).facts()
        == told_at_once(Inspection(), image).facts()
        == walk(image)
    )


@pytest.mark.parametrize("name", ["disks", "names", "sparse"])
def test_a_stream_misses_nothing(name: str) -> None:
    image = ARCHIVES[name]
    stream = Inspection()
    for at in range(0, image.size, 64 * KIB):
        stream.eat_chunk(image.read(at, 64 * KIB))
    stream.finish()
    assert stream.missing() == []
    assert stream.facts() == walk(image)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_mutated_archive_breaks_nothing(name: str) -> None:
    choose = Random(name)  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(200):
        facts = walk(mutated(ARCHIVES[name], choose))
        assert facts.complete
        assert len(facts.findings) < 100
        assert all(len(one.message) < 2048 and one.message.isprintable() for one in facts.findings)


def test_what_is_looked_at_in_a_stream_that_missed_it_is_bounded() -> None:
    """A DMG's trailer refers to earlier data.

    In a stream, such a member stays open, and many of them stop the walk.
    """
    disk = dmg(4 * MIB, allocated=4)
    image = tar([(f"{number}.dmg", disk) for number in range(MAX_OPEN + 9)])
    member = BLOCK + round_up(disk.size, BLOCK)
    # Feed the trailer alone, because otherwise the earlier data in the same piece would not be missed.
    trailers = {number * member + BLOCK + disk.size - 512 for number in range(MAX_OPEN + 9)}
    stream = Inspection()
    for at, end in pairwise(sorted({*range(0, image.size, 64 * KIB), *trailers, image.size})):
        stream.eat_chunk(image.read(at, end - at))
    stream.finish()
    held = {name: length for name, length in stream.context_info.items() if "/" in name}
    assert FEW_OPEN <= len({name.split("/")[0] for name in held}) < MAX_OPEN
    assert sum(held.values()) <= 2 * MAX_OPEN_BYTES
    assert not stream.facts().complete
    # A caller that can fetch the missed ranges continues, and gets all facts.
    for _ in range(1000):
        missing = stream.missing()
        if not missing:
            break
        stream.feed(missing[0].offset, image.read(*missing[0]))
    assert stream.facts() == walk(image)
    assert len(stream.facts().members) == MAX_OPEN + 9
