"""Decompression bombs are reported, long images are not, and both need little memory and work."""

from pathlib import Path

import pytest

from keyhole.builders import Image, gpt_disk, qcow2, tar
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.compression.limits import FREE_OUTPUT, MAX_STREAMS, Decompression
from keyhole.inspectors.facts import DECOMPRESSION_LIMIT
from keyhole.inspectors.inside import Inside
from tests.inspectors.compression.memory import memory_taken
from tests.inspectors.compression.packed import (
    GIB,
    IN_A_ROW,
    KIB,
    MIB,
    PACKED,
    bzip2_of_blocks,
    gzip_zeros,
    noise,
    skippable,
    xz_with_dictionary,
    zeros,
    zstd_frame,
)
from tests.inspectors.feeding import told_at_once
from tests.slow import slow


class Work:
    """Counts the decompressed bytes."""

    def __init__(self) -> None:
        self.made = 0

    def count(self, length: int) -> None:
        self.made += length


def known(data: bytes, output: int = FREE_OUTPUT) -> tuple[Facts, Work]:
    work = Work()
    inspection = Inspection(inside=Inside(decompression=Decompression(output, watch=work.count)))
    told_at_once(inspection, Image.of(len(data), [(0, data)]))
    assert inspection.complete
    return inspection.facts(), work


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


# Much data from little


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gzip", 256 * MIB),
        slow("xz", 256 * MIB),
        ("zstd", GIB),
        slow("bzip2", 256 * MIB),
        ("lz4", 256 * MIB),
        slow("lzma", 256 * MIB),
    ],
)
def test_zeros_and_nothing_else_are_a_bomb(name: str, size: int) -> None:
    facts, work = known(zeros(name, size))
    assert checks(facts) == ["decompression_bomb"]
    assert work.made <= FREE_OUTPUT + MIB


@pytest.mark.parametrize("name", [IN_A_ROW[0], *map(slow, IN_A_ROW[1:])])
def test_zeros_behind_a_disks_front_are_a_disk(name: str) -> None:
    """The disk is as long as its partition table states.

    Its only problem is that it exceeds the default limit.
    """
    front = PACKED[name](gpt_disk(GIB).read(0, MIB))
    facts, work = known(front + zeros(name, 256 * MIB))
    assert checks(facts) == []
    assert (facts.members[0].facts.format, facts.members[0].facts.unseen) == ("raw", DECOMPRESSION_LIMIT)
    assert work.made <= FREE_OUTPUT + MIB


@pytest.mark.slow
def test_the_same_zeros_are_nothing_if_all_of_them_may_be_seen() -> None:
    facts, work = known(zeros("gzip", 256 * MIB), output=GIB)
    assert checks(facts) == []
    assert (facts.members[0].facts.format, facts.members[0].size) == (None, 256 * MIB)
    assert work.made == 256 * MIB


def test_what_is_not_known_and_compresses_as_text_does_is_no_bomb() -> None:
    text = b"".join(b"%d bottles of beer on the wall, %x\n" % (i, i * 7919) for i in range(50_000))
    facts, _ = known(PACKED["gzip"](text) * 60)
    assert checks(facts) == []
    assert (facts.members[0].facts.format, facts.members[0].facts.unseen) == (None, DECOMPRESSION_LIMIT)


@pytest.mark.parametrize("outside", PACKED)
@pytest.mark.parametrize("inside", PACKED)
def test_what_is_compressed_twice_is_no_bomb_and_has_its_own_verdict(outside: str, inside: str) -> None:
    disk = gpt_disk(2 * MIB).patched(MIB, noise(1, 3000)).to_bytes()
    data = PACKED[inside](disk)
    facts, work = known(PACKED[outside](data))
    assert checks(facts) == ["nested_compression"]
    within = facts.members[0].facts
    assert (within.format, within.findings) == (inside, ())
    assert within.members[0].facts.format == "raw"
    assert work.made == len(data) + len(disk)


@pytest.mark.slow
def test_a_bomb_that_is_compressed_twice_is_one() -> None:
    """4 KiB expand to 4 MiB, and these would expand to 4 GiB."""
    once = gzip_zeros(4 * GIB)
    facts, work = known(PACKED["gzip"](once))
    assert checks(facts) == ["decompression_bomb"]
    assert work.made < FREE_OUTPUT + len(once) + MIB


def test_one_that_only_its_inner_stream_makes_is_one() -> None:
    facts, _ = known(PACKED["gzip"](zeros("gzip", 128 * MIB) + noise(1, MIB)))
    assert checks(facts) == ["nested_compression"]
    assert checks(facts.members[0].facts) == ["decompression_bomb"]


def test_a_bomb_in_a_bomb_in_a_bomb_is_not_lit() -> None:
    data = zeros("gzip", 64 * MIB)
    for _ in range(5):
        data = PACKED["gzip"](data)
    facts, work = known(data)
    assert checks(facts) == ["nested_compression"]
    assert checks(facts.members[0].facts) == ["decompression_bomb"]
    assert work.made < 4 * KIB


# Memory


def test_a_dictionary_that_takes_too_much_memory_is_a_bomb() -> None:
    packed = PACKED["xz"](gpt_disk(2 * MIB).to_bytes())
    assert checks(known(xz_with_dictionary(packed, 37))[0]) == ["decompression_bomb"]  # 1.5 GiB
    assert checks(known(xz_with_dictionary(packed, 30))[0]) == [
        "decompression_bomb"
    ]  # 128 MiB, and its own size
    assert checks(known(xz_with_dictionary(packed, 29))[0]) == []  # 96 MiB; xz -9 uses 64 MiB


def test_a_window_that_takes_too_much_memory_is_a_bomb() -> None:
    behind = skippable(bytes(600))
    assert checks(known(zstd_frame(window_descriptor=21 << 3) + behind)[0]) == ["decompression_bomb"]  # 2 GiB
    assert checks(known(zstd_frame(window_descriptor=(17 << 3) + 1) + behind)[0]) == ["decompression_bomb"]
    assert checks(known(zstd_frame(window_descriptor=17 << 3) + behind)[0]) == []  # 128 MiB


def test_an_lzma_dictionary_that_takes_too_much_memory_is_a_bomb() -> None:
    packed = PACKED["lzma"](gpt_disk(2 * MIB).to_bytes())
    for size, expected in ((192 * MIB, ["decompression_bomb"]), (96 * MIB, [])):
        assert checks(known(packed[:1] + size.to_bytes(4, "little") + packed[5:])[0]) == expected


# Endless work


@pytest.mark.parametrize("name", IN_A_ROW)
def test_streams_by_the_thousand_that_hold_nothing_are_a_bomb(name: str) -> None:
    facts, work = known(PACKED[name](b"") * (MAX_STREAMS + 100))
    assert checks(facts) == ["decompression_bomb"]
    assert work.made == 0


def test_frames_by_the_thousand_that_are_skipped_are_a_bomb() -> None:
    facts, _ = known(PACKED["zstd"](b"x") + skippable(b"") * (MAX_STREAMS + 100))
    assert checks(facts) == ["decompression_bomb"]


def test_a_name_without_end_is_no_header() -> None:
    front = b"\x1f\x8b\x08\x08" + bytes(6)
    inspection = Inspection()
    run = told_at_once(inspection, Image.of(100 * MIB, [(0, front + b"a" * (4 * MIB))]))
    assert isinstance(run, Inspection)
    assert checks(run.facts()) == ["structure"]
    assert not run.facts().members[0].facts.complete


def test_blocks_of_a_byte_each_are_decoded_as_any() -> None:
    facts, work = known(bzip2_of_blocks(20_000))
    assert checks(facts) == ["structure"]
    assert work.made > 10_000


def test_what_lies_in_others_too_deep_is_not_looked_at() -> None:
    data = gpt_disk(2 * MIB).to_bytes()
    for name in ("gzip", "zstd", "xz"):
        packed = PACKED[name](data)
        data = tar([("inside", Image.of(len(packed), [(0, packed)]))]).to_bytes()
    facts, _ = known(PACKED["bzip2"](data))
    depths = [facts]
    while depths[-1].members:
        depths.append(depths[-1].members[0].facts)
    assert [one.format for one in depths] == ["bzip2", "tar", "xz", "tar", "zstd"]
    assert [checks(one) for one in depths] == [[], [], [], [], ["member_limit"]]


# Memory stays constant


INSPECTED = """
with open(sys.argv[1], "rb") as file:
    size = file.seek(0, 2)
    inspection = Inspection(inside=Inside(decompression=Decompression(1 << 30, 1 << 30)))
    inspection.finish(size)
    while missing := inspection.missing():
        offset, length = missing[0]
        file.seek(offset)
        inspection.feed(offset, file.read(length))
    result = inspection.facts().details["decompressed_bytes"]
"""
IMPORTS = """
from keyhole.inspectors import Inspection
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.inside import Inside
"""


@pytest.mark.parametrize(
    ("name", "window"),
    [slow("gzip", 0), slow("xz", MIB), slow("zstd", 2 * MIB), slow("bzip2", 4 * MIB), slow("lz4", 9 * MIB)],
)
def test_memory_stays_flat_however_much_comes_out(name: str, window: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(PACKED[name](qcow2(MIB).to_bytes()) + zeros(name, 256 * MIB))
    made, taken = memory_taken(IMPORTS, INSPECTED, path)
    assert made > 256 * MIB
    assert taken < 24 * MIB + window


def test_memory_stays_flat_however_much_goes_in(tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(PACKED["gzip"](noise(7, 8 * MIB)) * 12)
    made, taken = memory_taken(IMPORTS, INSPECTED, path)
    assert made == 96 * MIB
    assert taken < 32 * MIB
