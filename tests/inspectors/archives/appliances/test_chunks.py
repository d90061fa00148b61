"""Appliances with disks in chunks or compressed disks: each is inspected in place as one disk."""

import gzip
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyhole.builders import mbr_disk, qcow2, tar, vmdk_stream_optimized
from keyhole.inspectors import Facts, Inspection, Severity, Wholeness
from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.inspectors.archives.appliances.building import (
    CHUNK,
    DISK,
    DISK_NAME,
    GIB,
    KIB,
    appliance,
    chunked,
    chunks,
    described,
    descriptor,
    findings,
    plain,
)
from tests.inspectors.archives.walking import facts_of, walk
from tests.inspectors.laws import keeps_the_law

PACKED = plain(gzip.compress(DISK.to_bytes(), mtime=0))


TEXT = descriptor(file=chunked())
CHUNKS = chunks(DISK, CHUNK)
GZIP = ' ovf:compression="gzip"'


def test_chunks_are_one_disk() -> None:
    assert len(CHUNKS) > 2
    facts = walk(appliance(TEXT, *CHUNKS))
    assert (facts.format, facts.findings, facts.virtual_size) == ("ova", (), 2 * GIB)
    assert [(one.name, one.size, one.facts) for one in facts.members] == [
        (DISK_NAME, DISK.size, facts_of(DISK))
    ]
    assert facts.details == {"disks": 1, "other_files": 1}
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize("size", [DISK.size - 1, DISK.size, DISK.size + 1, 1000, 4 * KIB])
def test_chunks_have_any_size(size: int) -> None:
    facts = walk(appliance(descriptor(file=chunked(chunk=size)), *chunks(DISK, size)))
    assert (facts.findings, [one.facts for one in facts.members]) == ((), [facts_of(DISK)])


def test_the_last_chunk_may_be_empty() -> None:
    empty = (f"{DISK_NAME}.{len(CHUNKS):09}", plain(b""))
    assert walk(appliance(TEXT, *CHUNKS, empty)).findings == ()


def test_the_size_of_a_file_in_chunks_need_not_be_stated() -> None:
    assert walk(appliance(descriptor(file=chunked(size=None)), *CHUNKS)).findings == ()


def test_chunks_lie_in_any_order_and_before_the_descriptor() -> None:
    order = list(CHUNKS)
    Random("chunks").shuffle(order)  # noqa: S311 - to choose an order, the same in every run
    for files in (order, list(reversed(CHUNKS))):
        facts = walk(tar([*files, ("box.ovf", plain(TEXT))]))
        assert findings(facts) == []
        assert [one.facts for one in facts.members] == [facts_of(DISK)]


def test_without_the_archives_end_it_is_whole_if_all_chunks_are_there() -> None:
    image = appliance(TEXT, *CHUNKS)
    end = max(at + len(data) for at, data in image.pieces)
    facts = walk(image.truncated(-(-end // 512) * 512))
    assert (facts.findings, facts.wholeness) == ((), Wholeness.PROVEN)


@pytest.mark.parametrize("place", range(len(CHUNKS)))
def test_a_chunk_that_is_not_there_is_found(place: int) -> None:
    left = [one for number, one in enumerate(CHUNKS) if number != place]
    assert described(TEXT, *left) == [("ovf_reference", Severity.ERROR)]
    if place < len(CHUNKS) - 1:
        assert described(descriptor(file=chunked(size=None)), *left) == [("ovf_reference", Severity.ERROR)]


def test_chunks_of_which_none_is_there_are_a_missing_file() -> None:
    assert described(TEXT, ("other", plain("x"))) == [("ovf_reference", Severity.ERROR)]


def test_more_chunks_than_are_stated_are_a_contradiction() -> None:
    more = (f"{DISK_NAME}.{len(CHUNKS):09}", plain(b"more"))
    assert "size_mismatch" in {check for check, _ in described(TEXT, *CHUNKS, more)}
    assert "size_mismatch" in {
        check for check, _ in described(descriptor(file=chunked(size=None)), *CHUNKS, more)
    }


@pytest.mark.parametrize("chunk", [CHUNK - 1, CHUNK + 1, 1])
def test_chunks_of_another_size_than_stated_are_a_contradiction(chunk: int) -> None:
    found = described(descriptor(file=chunked(size=None, chunk=chunk)), *CHUNKS)
    assert found == [("size_mismatch", Severity.ERROR)]


def test_another_size_of_the_whole_is_a_contradiction() -> None:
    found = described(descriptor(file=chunked(size=DISK.size - 1)), *CHUNKS)
    assert found == [("size_mismatch", Severity.ERROR)]


@pytest.mark.parametrize("chunk", ["0", "", "many", "-1"])
def test_chunks_of_no_size_are_not_decided(chunk: str) -> None:
    found = described(descriptor(file=chunked(chunk=chunk)), *CHUNKS)
    assert found == [("unsupported_subformat", Severity.WARNING)]


@pytest.mark.parametrize("chunk", ["0", str(CHUNK), str(2**40)])
def test_a_file_that_is_there_as_a_whole_is_taken_so(chunk: str) -> None:
    """VirtualBox ignores `chunkSize`, and virt-v2v first looks for the whole file."""
    facts = walk(appliance(descriptor(file=chunked(chunk=chunk))))
    assert (facts.findings, [one.facts for one in facts.members]) == ((), [facts_of(DISK)])


def test_a_file_that_is_there_as_a_whole_and_in_chunks_is_two() -> None:
    found = described(TEXT, (DISK_NAME, DISK), *chunks(vmdk_stream_optimized(2 * GIB, allocated=4), CHUNK))
    assert ("ambiguous_format", Severity.CRITICAL) in found


def test_a_single_chunk_without_a_stated_size_is_the_file() -> None:
    """VMware has written such archives (virt-v2v, test-i-ova-snapshots)."""
    facts = walk(appliance(descriptor(), (f"{DISK_NAME}.000000000", DISK)))
    assert (facts.findings, [one.facts for one in facts.members]) == ((), [facts_of(DISK)])


def test_several_chunks_without_a_stated_size_are_no_file() -> None:
    assert ("ovf_reference", Severity.ERROR) in described(descriptor(), *CHUNKS)


def test_a_chunk_that_is_a_disk_by_itself_is_a_second_one() -> None:
    """Versions of virt-v2v without chunk support use the last chunk as the disk, and detect its format."""
    evil = qcow2(GIB, backing_file="/etc/shadow")
    whole = plain(DISK.to_bytes().ljust(10 * CHUNK, b"\0") + evil.to_bytes())
    found = described(descriptor(file=chunked(size=None)), *chunks(whole, CHUNK))
    assert ("ambiguous_format", Severity.CRITICAL) in found


def test_a_chunk_that_is_there_twice_is_two() -> None:
    found = described(TEXT, *CHUNKS, CHUNKS[1])
    assert ("ambiguous_format", Severity.CRITICAL) in found


def test_a_cut_archive_is_truncated_and_no_chunk_is_called_missing() -> None:
    image = appliance(TEXT, *CHUNKS)
    for size in (image.size // 2, image.size // 3):
        assert {check for check, _ in findings(walk(image.truncated(size)))} == {"truncated"}


def test_what_is_wrong_with_the_whole_is_found_in_the_whole() -> None:
    cut = DISK.truncated(DISK.size - 100)
    facts = walk(appliance(descriptor(file=chunked(size=None)), *chunks(cut, CHUNK)))
    assert "truncated" in {one.check for one in facts.members[0].facts.findings}


def test_chunks_of_an_archive_without_a_descriptor_are_files() -> None:
    facts = walk(tar(CHUNKS))
    assert facts.format == "tar"
    assert [one.name for one in facts.members] == [CHUNKS[0][0]]


def test_a_stream_misses_what_has_passed_before_it_is_joined() -> None:
    inspection = Inspection()
    image = appliance(TEXT, *CHUNKS).to_bytes()
    for start in range(0, len(image), 4096):
        inspection.eat_chunk(image[start : start + 4096])
    inspection.finish()
    facts = inspection.facts()
    assert not facts.complete
    assert judge(facts) == (Status.INCONCLUSIVE, ("missed",))


# Compressed


def packed(*, size: object = PACKED.size, more: str = GZIP) -> str:
    return descriptor(file=f'<File ovf:href="{DISK_NAME}" ovf:id="file1" ovf:size="{size}"{more}/>')


def content_of(facts: Facts) -> list[tuple[str | None, str | None]]:
    return [(one.facts.format, inner.facts.format) for one in facts.members for inner in one.facts.members]


def test_a_disk_that_is_declared_gzip_is_what_it_holds() -> None:
    facts = walk(appliance(packed(), (DISK_NAME, PACKED)))
    assert (facts.findings, facts.virtual_size) == ((), 2 * GIB)
    assert content_of(facts) == [("gzip", "vmdk")]


def test_the_size_of_a_compressed_file_is_often_that_of_its_content() -> None:
    assert described(packed(size=DISK.size), (DISK_NAME, PACKED)) == []
    assert described(packed(size=1), (DISK_NAME, PACKED)) == [("size_mismatch", Severity.ERROR)]


def test_the_capacity_and_the_format_are_the_contents() -> None:
    other = plain(gzip.compress(qcow2(GIB).to_bytes()))
    found = described(packed(size=other.size), (DISK_NAME, other))
    assert found == [("size_mismatch", Severity.ERROR), ("format_mismatch", Severity.WARNING)]


def test_a_disk_that_is_declared_gzip_and_is_not_is_refused() -> None:
    assert described(packed(size=DISK.size)) == [("format_mismatch", Severity.WARNING)]


@pytest.mark.parametrize("more", ["", ' ovf:compression=""', ' ovf:compression="identity"'])
def test_a_gzip_that_is_not_declared_is_refused(more: str) -> None:
    assert described(packed(more=more), (DISK_NAME, PACKED)) == [("format_mismatch", Severity.WARNING)]


def test_what_is_compressed_may_be_in_chunks() -> None:
    text = descriptor(file=chunked(size=PACKED.size, chunk=400, more=GZIP))
    facts = walk(appliance(text, *chunks(PACKED, 400)))
    assert (facts.findings, content_of(facts)) == ((), [("gzip", "vmdk")])


def test_chunks_may_be_compressed_each() -> None:
    parts = [plain(gzip.compress(part.to_bytes())) for _, part in chunks(DISK, CHUNK)]
    named = [(f"{DISK_NAME}.{number:09}", part) for number, part in enumerate(parts)]
    total = sum(part.size for part in parts)
    facts = walk(appliance(descriptor(file=chunked(size=total, chunk=CHUNK, more=GZIP)), *named))
    assert content_of(facts) == [("gzip", "vmdk")]
    # The files' length is not the stated size, so it is unclear whether that is the size of the compressed
    # data.
    assert findings(facts) == [("size_mismatch", Severity.ERROR)]


# Laws

SMALL = vmdk_stream_optimized(2 * 1024**2, allocated=1)
SMALL_TEXT = descriptor(
    file=chunked(size=SMALL.size, chunk=30_000),
    disk='<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1"/>',
)


@settings(max_examples=40)
@given(data=st.data())
def test_chunks_are_known_the_same_however_the_bytes_came(data: st.DataObject) -> None:
    parts = chunks(SMALL, 30_000)
    first = appliance(SMALL_TEXT, *parts)
    last = tar([*reversed(parts), ("box.ovf", plain(SMALL_TEXT))])
    gap = appliance(SMALL_TEXT, *parts[:1])
    raw = appliance(SMALL_TEXT, *chunks(mbr_disk(100_000 // 512 * 512), 30_000))
    keeps_the_law(OVAInspector, [first, last, gap, raw], data)


def test_a_thousand_chunks_are_one_disk() -> None:
    big = vmdk_stream_optimized(2 * GIB, allocated=3)
    text = descriptor(file=chunked(size=big.size, chunk=big.size // 999))
    facts = walk(appliance(text, *chunks(big, big.size // 999)))
    assert [one.facts for one in facts.members] == [facts_of(big)]
