"""Consecutive streams, and data between and after them, treated as by the formats' own tools."""

import subprocess

import lz4.frame
import pytest

from keyhole.builders import Image, gpt_disk
from keyhole.inspectors import Facts, Wholeness
from tests.inspectors.compression.packed import IN_A_ROW, MIB, PACKED, lz4_frame, noise, skippable, zstd_frame
from tests.inspectors.inspecting import facts_of
from tests.tools import need

DISK = gpt_disk(2 * MIB)
DATA = DISK.to_bytes()
EMPTY = {name: pack(b"") for name, pack in PACKED.items()}


def known(data: bytes) -> Facts:
    return facts_of(Image.of(len(data), [(0, data)]))


def is_whole(facts: Facts) -> bool:
    """Whether an image is the disk, and in order."""
    inside = facts.members[0].facts
    return (inside, facts.findings, facts.wholeness) == (facts_of(DISK), (), Wholeness.PROVEN)


def parts(name: str, at: int) -> tuple[bytes, bytes]:
    """The disk, compressed as two streams."""
    return PACKED[name](DATA[:at]), PACKED[name](DATA[at:])


@pytest.mark.parametrize("name", IN_A_ROW)
@pytest.mark.parametrize("at", [0, 1, 511, 512, 513, 70_000, len(DATA) - 1])
def test_streams_in_a_row_are_one(name: str, at: int) -> None:
    first, second = parts(name, at)
    facts = known(first + second)
    assert is_whole(facts)
    assert facts.details["streams"] == 2


@pytest.mark.parametrize("name", IN_A_ROW)
def test_a_stream_for_each_few_kilobytes_is_no_bomb(name: str) -> None:
    """Tools that pack in parallel or for random access write such files, with an empty stream at the end."""
    streams = [PACKED[name](DATA[at : at + 16384]) for at in range(0, len(DATA), 16384)]
    facts = known(b"".join(streams) + EMPTY[name])
    assert is_whole(facts)
    assert facts.details["streams"] == len(streams) + 1


def test_many_streams_reach_over_the_pieces_in_which_the_object_is_read() -> None:
    data = noise(1, 600_000)
    streams = b"".join(PACKED["gzip"](data[at : at + 1000]) for at in range(0, len(data), 1000))
    facts = known(streams)
    assert (facts.findings, facts.members[0].size) == ((), len(data))


@pytest.mark.parametrize("zeros", [4, 8, 4096, 70_000 // 4 * 4])
def test_padding_of_xz_lies_between_streams_and_behind_them(zeros: int) -> None:
    first, second = parts("xz", 1000)
    assert is_whole(known(first + bytes(zeros) + second + bytes(zeros)))


@pytest.mark.parametrize("zeros", [1, 3, 512, 10_000, 200_000])
def test_zeros_behind_gzip_are_padding(zeros: int) -> None:
    assert is_whole(known(PACKED["gzip"](DATA) + bytes(zeros)))


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_frames_that_are_to_be_skipped_are_skipped_wherever_they_are(name: str) -> None:
    first, second = parts(name, 1000)
    frame = skippable(b"a table of what lies where" * 10, 14)
    facts = known(skippable(b"1234") + first + frame + skippable(b"") + second + frame)
    assert is_whole(facts)
    assert facts.format == name
    assert is_whole(known(first + skippable(noise(2, 300_000)) + second))


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_a_frame_that_is_to_be_skipped_and_is_not_all_there_is_cut_off(name: str) -> None:
    facts = known(PACKED[name](DATA) + skippable(bytes(1000))[:-1])
    assert [finding.check for finding in facts.findings] == ["truncated"]


def test_legacy_frames_of_lz4_are_named_and_not_decompressed() -> None:
    facts = known(b"\x02\x21\x4c\x18" + bytes(1000))
    assert (facts.format, [one.check for one in facts.findings]) == ("lz4", ["unsupported_subformat"])


def test_an_lz4_dictionary_that_is_not_in_the_object_leads_outside() -> None:
    assert [finding.check for finding in known(lz4_frame(dictionary=9)).findings] == ["data_file"]


@pytest.mark.parametrize(("option", "at"), [("content_checksum", -1), ("block_checksum", -5)])
def test_each_checksum_of_lz4_is_compared(option: str, at: int) -> None:
    data = bytearray(lz4.frame.compress(DATA, store_size=False, **{option: True}))
    data[at] ^= 1
    assert [finding.check for finding in known(bytes(data)).findings] == ["checksum_mismatch"]


def test_a_size_that_lz4_states_is_compared() -> None:
    header = lz4.frame.compress(DATA + b"x")[:15]
    facts = known(header + lz4.frame.compress(DATA)[15:])
    assert facts.details["stated_bytes"] == len(DATA) + 1
    assert [finding.check for finding in facts.findings] == ["size_mismatch"]


def test_nothing_but_frames_to_be_skipped_is_no_zstd() -> None:
    assert known(skippable(b"1234") * 10).format is None


def test_a_dictionary_that_is_not_in_the_object_leads_outside() -> None:
    frame = zstd_frame(window_descriptor=0, dictionary=9)
    assert [finding.check for finding in known(frame).findings] == ["data_file"]


# Data after the stream. The tools' behaviour: 0 accept, 2 warn, 1 refuse.

BEHIND = {
    "a zero": b"\0",
    "zeros": bytes(4),
    "many zeros": bytes(20_000),
    "zeros and something": bytes(512) + b"something" * 100,
    "a letter": b"x",
    "text": b"something that is no stream" * 10,
    "a magic number": b"\x1f\x8b\x08\0",
    "half a magic number": b"\xfd7z",
    "gzip": EMPTY["gzip"],
    "xz": EMPTY["xz"],
    "zstd": EMPTY["zstd"],
    "bzip2": EMPTY["bzip2"],
    "lz4": EMPTY["lz4"],
    "lzma": EMPTY["lzma"],
    "zeros and gzip": bytes(512) + EMPTY["gzip"],
    "zeros and xz": bytes(512) + EMPTY["xz"],
    "three zeros and xz": bytes(3) + EMPTY["xz"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("behind", BEHIND)
def test_what_the_tool_takes_behind_the_data_is_taken_and_nothing_else(name: str, behind: str) -> None:
    need(name)
    data = PACKED[name](DATA) + BEHIND[behind]
    tool = subprocess.run(
        [name, "-tq" if name in {"zstd", "lz4"} else "-t"], input=data, capture_output=True, check=False
    )
    takes = tool.returncode == 0 and not tool.stderr
    if name == "zstd" and behind in {"gzip", "xz", "lz4", "lzma"}:
        takes = False  # the command also accepts other formats' files

    facts = known(data)
    assert is_whole(facts) == takes, tool.stderr
    if not takes:
        assert facts.findings[0].check in {"trailing_data", "truncated"}
        assert facts.members[0].facts.format == "raw"


@pytest.mark.parametrize("name", PACKED)
def test_it_is_said_where_something_lies_behind(name: str) -> None:
    data = PACKED[name](DATA)
    (finding,) = known(data + b"something").findings
    assert finding.message.startswith(f"{len(data)} bytes in, ")


@pytest.mark.parametrize("name", ["gzip", "xz"])
def test_padding_without_end_is_something_that_lies_behind(name: str) -> None:
    inside = Image.of(8 * MIB, [(0, PACKED[name](DATA))])
    (finding,) = facts_of(inside).findings
    assert finding.check == "trailing_data"
