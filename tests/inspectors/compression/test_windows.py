"""Keyhole requests the memory for a stream before it decodes it, according to the stream's first bytes."""

import lzma
import struct

import lz4.frame
import pytest

from keyhole.inspectors.compression.bzip2 import BZIP2_BYTES, Bzip2Decoder
from keyhole.inspectors.compression.decoder import Decoder
from keyhole.inspectors.compression.lz4 import Lz4Decoder
from keyhole.inspectors.compression.lzma_alone import LzmaDecoder
from keyhole.inspectors.compression.xz import XzDecoder, xz_dictionary
from keyhole.inspectors.compression.zstd import ZstdDecoder
from keyhole.inspectors.inspection import Inspection
from keyhole.inspectors.memory import held_by
from tests.inspectors.compression.packed import KIB, MIB, PACKED, noise, zstd

#: The memory of xz's presets, according to its manual.
DICTIONARIES = [MIB // 4, MIB, 2 * MIB, 4 * MIB, 4 * MIB, 8 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB]
SMALL = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 4096}
LARGE = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 96 * MIB}


class Notes:
    """Records the requested memory."""

    def __init__(self) -> None:
        self.held = self.most = 0

    def take(self, length: int) -> int:
        self.held += length
        self.most = max(self.most, self.held)
        return length

    def give(self, length: int) -> None:
        self.held -= length


def _block(stream: bytes) -> bytes:
    """The blocks of an xz stream without header, index and footer."""
    index = 4 * (struct.unpack_from("<I", stream, len(stream) - 8)[0] + 1)
    return stream[12 : len(stream) - 12 - index]


@pytest.mark.parametrize("preset", range(10))
def test_the_dictionary_of_xz_stands_in_the_first_block(preset: int) -> None:
    assert xz_dictionary(lzma.compress(b"x", preset=preset)[:64]) == DICTIONARIES[preset]


@pytest.mark.parametrize("before", [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_DELTA, "dist": 4}])
def test_filters_may_stand_before_xz_own(before: dict[str, int]) -> None:
    packed = lzma.compress(b"x" * 5000, filters=[before, LARGE])
    assert xz_dictionary(packed[:64]) == 96 * MIB


def test_a_block_of_xz_may_state_its_sizes() -> None:
    # As `xz --threads` writes it: flags, compressed and uncompressed size with 7 bits per byte, one filter
    assert xz_dictionary(bytes(12) + bytes([5, 0xC0, 0x80, 0x01, 0xFF, 0xFF, 0x03, 0x21, 1, 28])) == 64 * MIB


@pytest.mark.parametrize("head", [b"", lzma.compress(b""), bytes(12) + b"\xff" * 52, bytes(12) + b"\1"])
def test_what_makes_no_sense_takes_nothing(head: bytes) -> None:
    assert xz_dictionary(head[:64]) == 0


def test_of_all_formats_the_first_bytes_tell_it() -> None:
    long = zstd.compress(noise(1, MIB), options={zstd.CompressionParameter.window_log: 20})
    asked: list[tuple[Decoder, bytes, int]] = [
        (ZstdDecoder(), long, MIB),
        (LzmaDecoder(), lzma.compress(b"x", lzma.FORMAT_ALONE, preset=6), 8 * MIB),
        (Bzip2Decoder(), PACKED["bzip2"](b"x"), BZIP2_BYTES),
        (Lz4Decoder(), lz4.frame.compress(bytes(5 * MIB), block_size=7), 8 * MIB + 64 * KIB),
        (XzDecoder(), lzma.compress(b"x", preset=9), 64 * MIB),
    ]
    assert [decoder.window(head[:64]) for decoder, head, _ in asked] == [window for _, _, window in asked]


@pytest.mark.parametrize("name", PACKED)
def test_what_is_asked_for_is_given_back_once_it_is_decompressed(name: str) -> None:
    data = PACKED[name](noise(1, MIB))
    inspection, notes = Inspection(), Notes()
    with held_by(notes):
        inspection.finish(len(data))
        inspection.feed(0, data)
    assert inspection.complete
    assert notes.held == 0
    assert 4 * MIB < notes.most < 32 * MIB


def test_blocks_of_xz_that_need_more_than_the_first_are_not_decompressed() -> None:
    first = lzma.compress(noise(1, 5000), filters=[SMALL])
    data = first[:12] + _block(first) + _block(lzma.compress(noise(2, 5000), filters=[LARGE]))
    inspection = Inspection()
    inspection.finish(len(data))
    inspection.feed(0, data)
    assert [finding.check for finding in inspection.facts().findings] == ["unsupported_subformat"]


def test_streams_of_xz_may_need_more_than_the_first() -> None:
    data = lzma.compress(noise(1, 5000), filters=[SMALL]) + lzma.compress(noise(2, 5000), filters=[LARGE])
    inspection, notes = Inspection(), Notes()
    with held_by(notes):
        inspection.finish(len(data))
        inspection.feed(0, data)
    assert not inspection.facts().findings
    assert notes.most > 64 * MIB
