"""A compressed image gets the same facts as the plain image when all of it has been read."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, dmg, gpt_disk, mbr_disk, qcow2, tar, udf, vdi, vhd_fixed
from keyhole.inspectors import Facts, Inspection, Wholeness, get_inspector
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.facts import DECOMPRESSION_LIMIT
from keyhole.inspectors.inside import Inside
from tests.conftest import FACTS, FIXTURE_IMAGES, QemuImages
from tests.examples import EXAMPLES, Example
from tests.inspectors.compression.packed import ERRORS, GIB, KIB, MIB, PACKED, UNPACKED, noise, places
from tests.inspectors.feeding import WAYS, Run, told_at_once
from tests.inspectors.one_inspector import image_of
from tests.slow import slow
from tests.tools import need

Way = Callable[[Run, Image, st.DrawFn], Run]
#: Images that take long to compress.
MOST_PACKED = 3 * MIB


def plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)] if data else [])


def packed(name: str, image: Image) -> Image:
    return plain(PACKED[name](image.to_bytes()))


def within(facts: Facts) -> Facts:
    """The facts about the content of a compressed object."""
    (member,) = facts.members
    return member.facts


def facts_of(image: Image, decompression: Decompression | None = None) -> Facts:
    """The facts about an image with these limits, when nothing is missing."""
    inspection = Inspection(inside=Inside(decompression=decompression or Decompression()))
    told_at_once(inspection, image)
    return inspection.facts()


@pytest.mark.parametrize("name", PACKED)
def test_each_has_an_inspector(name: str) -> None:
    kind = get_inspector(name)
    assert kind is not None
    assert str(kind()) == name


def plain_examples() -> Iterator[Example]:
    """An image of every variant of a disk."""
    return (one for one in EXAMPLES.values() if not one.inspector.IS_CONTAINER)


@pytest.mark.parametrize("name", PACKED)
def test_what_it_holds_is_known_as_if_it_lay_there_plain(name: str) -> None:
    for one in plain_examples():
        if one.image.size > MOST_PACKED:
            continue
        facts = facts_of(packed(name, one.image))

        assert (facts.format, facts.findings, facts.wholeness) == (name, (), Wholeness.PROVEN), one.name
        assert within(facts) == replace(facts_of(one.image), first_bytes=within(facts).first_bytes), one.name
        assert facts.members[0].size == facts.details["decompressed_bytes"] == one.image.size, one.name
        assert facts.virtual_size == within(facts).virtual_size, one.name


def test_so_it_is_of_large_ones() -> None:
    for one in plain_examples():
        if one.image.size > MOST_PACKED:
            facts = facts_of(packed("zstd", one.image))
            assert within(facts) == facts_of(one.image), one.name


@pytest.mark.parametrize("name", PACKED)
def test_a_text_that_is_compressed_is_nothing_in_something(name: str) -> None:
    facts = facts_of(plain(PACKED[name](b"nothing that is known\n" * 100)))
    assert (facts.format, facts.findings) == (name, ())
    assert (within(facts).format, within(facts).complete) == (None, True)


@pytest.mark.parametrize("name", PACKED)
def test_nothing_that_is_compressed_is_nothing_too(name: str) -> None:
    facts = facts_of(plain(PACKED[name](b"")))
    assert (facts.format, facts.findings, within(facts).actual_size) == (name, (), 0)


@pytest.mark.parametrize(
    "front",
    [b"\x1f\x8b", b"\x1f\x8b\x07", b"BZh", b"BZh0", b"BZh9\0\0\0\0\0\0", b"\xfd7zXZ", b"\x28\xb5\x2f"],
)
def test_what_only_begins_a_little_like_it_is_something_else(front: bytes) -> None:
    assert facts_of(plain(front + b"\xff" * 1000)).format is None


def test_a_header_is_told_and_not_believed() -> None:
    data = PACKED["gzip"](gpt_disk(2 * MIB).to_bytes())
    header = data[:3] + b"\x18" + (1_700_000_000).to_bytes(4, "little") + data[8:10]
    facts = facts_of(plain(header + b"../\x1b[2Jdisk.raw\0a comment\0" + data[10:]))

    assert facts.details["original_name"] == r"../\x1b[2Jdisk.raw"
    assert (facts.details["comment"], facts.details["mtime"]) == ("a comment", 1_700_000_000)
    assert (facts.members[0].name, facts.findings) == ("content", ())


def test_a_size_that_zstd_states_is_told() -> None:
    assert facts_of(packed("zstd", gpt_disk(2 * MIB))).details["stated_bytes"] == 2 * MIB


# Cut, changed and unchanged data


#: The number of bytes that identify the format.
MARK = {"gzip": 3, "xz": 6, "zstd": 4, "bzip2": 10, "lz4": 4, "lzma": 14}


@pytest.mark.parametrize("name", PACKED)
def test_what_is_cut_off_is_damaged_wherever_it_is_cut(name: str) -> None:
    data = PACKED[name](noise(1, 3000))
    for end in (*range(MARK[name], 50), *range(50, len(data), 97), *range(len(data) - 30, len(data))):
        facts = facts_of(plain(data[:end]))
        assert [finding.check for finding in facts.findings] == ["truncated"], end
        assert not within(facts).complete
        assert facts.wholeness is Wholeness.UNCHECKED


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_what_was_changed_is_whole_only_if_the_library_says_so(name: str) -> None:
    """A changed unused field in a header leaves the data unchanged. Every other change is found."""
    original = mbr_disk(64 * KIB).patched(1000, noise(2, 4000)).to_bytes()
    data = PACKED[name](original)
    # A header of the lzma format has no magic number, so with another dictionary it can be invalid.
    for at in [place for place in places(data) if name != "lzma" or place > MARK[name]]:
        for bit in (0, 3, 7):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            facts = facts_of(plain(changed))
            try:
                same = UNPACKED[name](changed) == original
            except ERRORS:
                same = False
            in_order = facts.format == name and not facts.findings and within(facts).complete
            assert in_order == same, (at, bit, facts.findings)


@pytest.mark.parametrize(
    ("name", "at", "check"),
    [("gzip", -8, "checksum_mismatch"), ("gzip", -4, "checksum_mismatch"), ("zstd", -1, "checksum_mismatch"),
     ("xz", -30, "structure"), ("bzip2", -2, "structure"), ("lz4", -1, "checksum_mismatch")],
)  # fmt: skip
def test_a_checksum_that_is_not_that_of_the_data_is_a_finding(name: str, at: int, check: str) -> None:
    """liblzma and libbz2 do not report what is corrupt."""
    data = bytearray(PACKED[name](gpt_disk(2 * MIB).to_bytes()))
    data[at] ^= 1
    facts = facts_of(plain(bytes(data)))
    assert [finding.check for finding in facts.findings] == [check]
    assert (within(facts).format, within(facts).complete) == ("raw", False)


# Limits of decompression


@pytest.mark.parametrize("name", PACKED)
def test_what_is_longer_than_may_be_made_of_it_is_left_undecided(name: str) -> None:
    disk = packed(name, gpt_disk(3 * MIB))
    facts = facts_of(disk, Decompression(output=2 * MIB))
    assert (facts.format, facts.findings, facts.complete) == (name, (), True)
    assert (within(facts).format, within(facts).complete, within(facts).unseen) == (
        "raw",
        False,
        DECOMPRESSION_LIMIT,
    )
    assert (within(facts).virtual_size, facts.members[0].size, facts.virtual_size) == (None, None, None)


@pytest.mark.parametrize("name", PACKED)
def test_what_is_just_as_long_is_known(name: str) -> None:
    disk = packed(name, gpt_disk(3 * MIB))
    assert within(facts_of(disk, Decompression(output=3 * MIB))).complete
    assert not within(facts_of(disk, Decompression(output=3 * MIB - 1))).complete


def with_noise(image: Image) -> Image:
    """A disk with incompressible noise in the middle."""
    return image.patched(MIB, noise(3, 2 * MIB))


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_of_what_is_too_long_to_be_read_no_more_is_read_than_tells_something(name: str) -> None:
    """The disk's last sector is beyond the limit of decompression."""
    inspection = Inspection(inside=Inside(decompression=Decompression(output=3 * MIB, input=MIB)))
    disk = packed(name, with_noise(gpt_disk(4 * MIB)))
    told_at_once(inspection, disk)
    facts = inspection.facts()
    assert (within(facts).format, within(facts).unseen) == ("raw", DECOMPRESSION_LIMIT)
    assert int(str(facts.details["decompressed_bytes"])) < 2 * MIB


def test_what_leads_outside_is_found_in_front_of_what_is_too_long() -> None:
    disk = with_noise(qcow2(64 * MIB, backing_file="/etc/shadow").appended(bytes(4 * MIB)))
    facts = facts_of(packed("gzip", disk), Decompression(input=MIB))
    assert [finding.check for finding in within(facts).findings] == ["backing_file"]
    assert within(facts).virtual_size == 64 * MIB


@pytest.mark.parametrize(
    "image", [gpt_disk(3 * MIB), vhd_fixed(3 * MIB), udf(2000)], ids=["raw", "vhd", "iso"]
)
def test_a_disk_that_is_as_long_as_the_object_has_no_size_until_that_is_known(image: Image) -> None:
    inspection = Inspection()
    inspection.eat_chunk(image.read(0, 2 * MIB))
    assert inspection.facts().virtual_size is None


def test_what_has_passed_is_given_if_it_is_wanted_later() -> None:
    """UDF's anchor refers to structures before it, and a DMG's trailer to its property list."""
    for image in (udf(), dmg(2 * MIB, allocated=2)):
        assert within(facts_of(packed("xz", image))) == facts_of(image)


def test_what_passed_too_long_ago_is_missed() -> None:
    image = dmg(8 * MIB, allocated=8).patched(3 * MIB, b'<?xml version="1.0" encoding="UTF-8"?>')
    image = with_noise(image).patched(image.size - 512 + 216, (3 * MIB + 17).to_bytes(8, "big"))
    facts = facts_of(packed("gzip", image))
    assert (within(facts).format, within(facts).complete, within(facts).unseen) == ("dmg", False, None)


# The law


@given(st.data(), st.sampled_from(sorted(PACKED)), st.sampled_from(WAYS))
def test_an_inspection_knows_the_same_however_the_bytes_came(
    data: st.DataObject, name: str, way: Way
) -> None:
    """Over good, cut and changed data, data with bytes after it, and narrow and wide limits."""
    image = data.draw(
        st.sampled_from([gpt_disk(2 * MIB), qcow2(MIB, allocated=2), vdi(MIB), plain(b"text" * 99)])
    )
    content = bytearray(PACKED[name](image.patched(image.size // 2, noise(4, 90)).to_bytes()))
    content += data.draw(st.sampled_from([b"", b"", bytes(8), b"behind", PACKED[name](b"another")]))
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    whole = plain(bytes(content))
    cut = data.draw(st.sampled_from([whole.size, whole.size, whole.size - 5, whole.size // 2]))
    limits = data.draw(
        st.sampled_from(
            [Decompression(), Decompression(output=300_000), Decompression(input=100), Decompression(1, 1)]
        )
    )
    image = whole.truncated(cut)
    reference = told_at_once(Inspection(inside=Inside(decompression=limits)), image).facts()
    assert way(Inspection(inside=Inside(decompression=limits)), image, data.draw).facts() == reference


@pytest.mark.slow
@given(st.data(), st.sampled_from(["gzip", "zstd"]), st.sampled_from(WAYS))
def test_so_it_does_of_what_is_read_in_many_pieces(data: st.DataObject, name: str, way: Way) -> None:
    image = packed(name, LONG)
    limits = data.draw(
        st.sampled_from([Decompression(), Decompression(input=200_000), Decompression(1 << 20)])
    )
    reference = told_at_once(Inspection(inside=Inside(decompression=limits)), image).facts()
    assert way(Inspection(inside=Inside(decompression=limits)), image, data.draw).facts() == reference


@pytest.mark.slow
@given(st.data(), st.sampled_from(WAYS))
def test_so_it_does_of_an_archive_of_compressed_images(data: st.DataObject, way: Way) -> None:
    """One member is decompressed at a time, and the order makes no difference."""
    limits = data.draw(st.sampled_from([Decompression(), Decompression(output=300_000), Decompression(1, 1)]))
    image = ARCHIVE
    if data.draw(st.booleans()):
        image = image.truncated(data.draw(st.integers(0, image.size)))
    reference = told_at_once(Inspection(inside=Inside(decompression=limits)), image).facts()
    assert way(Inspection(inside=Inside(decompression=limits)), image, data.draw).facts() == reference


ARCHIVE = tar(
    [
        ("a.gz", packed("gzip", gpt_disk(2 * MIB).patched(MIB, noise(6, 300_000)))),
        ("b.vdi", vdi(MIB, allocated=1)),
        ("c.xz", packed("xz", qcow2(MIB, allocated=2))),
        ("d.tar.zst", packed("zstd", tar([("e.gz", packed("gzip", vdi(MIB))), ("f.qcow2", qcow2(MIB))]))),
        ("g.bz2", packed("bzip2", gpt_disk(2 * MIB).patched(MIB, noise(7, 300_000)))),
    ]
)
SHORT = [gpt_disk(2 * MIB), qcow2(MIB, allocated=2), vdi(MIB), plain(b"text" * 99)]
LONG = gpt_disk(3 * MIB).patched(MIB, noise(5, 700_000))


# Tools

TOOLS = {
    "gzip": ["gzip -1", "gzip -9", "gzip --rsyncable", "pigz -p2 -b128"],
    "xz": [
        "xz -0", "xz -9e", "xz --block-size=300KiB", "xz -T2 -0", "xz --check=none", "xz --check=sha256",
        "xz --delta=dist=4 --lzma2", "xz --x86 --lzma2",
    ],
    "zstd": [
        "zstd -q -1", "zstd -q --ultra -22", "zstd -q --long=27", "zstd -q --no-check",
        "zstd -q -T2 -B512KiB", "pzstd -q -p2",
    ],
    "bzip2": ["bzip2 -1", "bzip2 -9"],
    "lz4": [
        "lz4 -q -1", "lz4 -q -9 -B4 -BD", "lz4 -q -BX --content-size", "lz4 -q --no-frame-crc",
        "lz4 -q --fast=9 -B7",
    ],
    "lzma": ["lzma -0", "xz --format=lzma -9e", "xz --format=lzma --lzma1=dict=96MiB,lc=0,lp=3,pb=1"],
}  # fmt: skip


#: Tools that are slow.
THOROUGH = {"xz -9e", "zstd -q --ultra -22", "xz --format=lzma -9e"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "command"),
    [
        slow(name, command) if command in THOROUGH else (name, command)
        for name, commands in TOOLS.items()
        for command in commands
    ],
)
def test_what_tools_pack_is_known_as_if_it_lay_there_plain(name: str, command: str) -> None:
    facts = facts_of(plain(filtered(command, LONG.to_bytes())))
    assert (facts.format, facts.findings, within(facts)) == (name, (), facts_of(LONG))


def filtered(command: str, data: bytes) -> bytes:
    """The output of a tool for this input. If it is not installed, the test is skipped; in CI it fails."""
    tool, *options = command.split()
    need(tool)
    return subprocess.run([tool, *options, "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FACTS))
def test_what_qemu_made_and_xz_packed_is_known_as_if_it_lay_there_plain(
    name: str, qemu_images: QemuImages
) -> None:
    as_it_is = facts_of(plain((FIXTURE_IMAGES / f"{name}.xz").read_bytes()), Decompression(output=GIB))
    assert within(as_it_is) == facts_of(image_of(qemu_images[name].path))
