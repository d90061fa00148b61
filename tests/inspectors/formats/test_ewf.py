"""EWF: the finding of each check, for files that fail it and for similar good files, also by ewfacquire."""

import random
import struct
from pathlib import Path
from zlib import adler32

import pytest

from keyhole.builders import Image, ewf, ewf2
from keyhole.builders.ewf import NEXT
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.ewf import EWFInspector
from tests.inspectors.one_inspector import KIB, MIB, checks_of, image_of, inspected, run_tool

#: Offsets in the builder's files: the volume section, its data, and the next section.
VOLUME, VOLUME_DATA, SECTORS = 13, 89, 89 + 1052


def with_sum(data: bytes) -> bytes:
    return data + struct.pack("<I", adler32(data))


def with_volume(image: Image, at: int, change: bytes) -> Image:
    """An image with another statement about its medium, and the right checksum."""
    data = bytearray(image.read(VOLUME_DATA, 1048))
    data[at : at + len(change)] = change
    return image.patched(VOLUME_DATA, with_sum(bytes(data)))


def with_descriptor(image: Image, at: int, kind: bytes, following: int) -> Image:
    """An image with the descriptor of another section at `at`, and the right checksum."""
    return image.patched(at, with_sum(struct.pack("<16sQQ40x", kind, following, 0)))


@pytest.mark.parametrize("size", [MIB, 7 * MIB])
def test_a_good_file_is_whole_and_without_findings(size: int) -> None:
    inspector = inspected(EWFInspector, ewf(size, allocated=3))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("ewf", "E01", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_libewf_reads_what_the_builder_stored(tmp_path: Path) -> None:
    path = ewf(MIB, allocated=(0, 5)).write_to(tmp_path / "a.E01")
    assert "(1048576 bytes)" in run_tool("ewf-tools", "ewfinfo", path)
    assert "SUCCESS" in run_tool("ewf-tools", "ewfverify", path)


def acquired(folder: Path, *options: str) -> dict[str, Image]:
    """The files that ewfacquire makes from a disk of 3 MiB, by their suffixes."""
    noise = random.Random("a disk").randbytes(MIB)  # noqa: S311 - data that compresses badly
    disk = Image.of(3 * MIB, [(MIB, noise)]).write_to(folder / "disk.dd")
    run_tool("ewf-tools", "ewfacquire", "-u", "-q", *options, "-t", folder / "made", disk)
    return {path.suffix: image_of(path) for path in sorted(folder.glob("made.*"))}


@pytest.mark.parametrize("variant", ["encase1", "encase5", "encase6", "encase7", "ftk", "linen6", "ewfx"])
@pytest.mark.parametrize("compression", ["none", "best"])
def test_what_ewfacquire_makes_is_whole_and_every_cut_of_it_noticed(
    variant: str, compression: str, tmp_path: Path
) -> None:
    (image,) = acquired(tmp_path, "-f", variant, "-c", compression).values()
    inspector = inspected(EWFInspector, image)
    assert (inspector.subformat, inspector.virtual_size) == ("E01", 3 * MIB)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    choose = random.Random(variant)  # noqa: S311 - to choose cuts, the same in every run
    for size in [image.size - 1, *(choose.randrange(20, image.size) for _ in range(20))]:
        assert "truncated" in checks_of(EWFInspector, image.truncated(size)), size


@pytest.mark.parametrize("variant", ["smart", "ewf"])
def test_a_smart_file_is_whole(variant: str, tmp_path: Path) -> None:
    """A SMART file has a shorter volume section, and its last section refers to the end of the file."""
    (image,) = acquired(tmp_path, "-f", variant).values()
    inspector = inspected(EWFInspector, image)
    assert (inspector.subformat, inspector.virtual_size) == ("S01", 3 * MIB)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_a_set_of_segments_is_never_one_whole_file(tmp_path: Path) -> None:
    segments = acquired(tmp_path, "-S", str(MIB), "-c", "none")
    assert list(segments) == [".E01", ".E02", ".E03", ".E04"]
    found = {suffix: checks_of(EWFInspector, image) for suffix, image in segments.items()}
    assert found == {
        ".E01": ["data_file"],
        ".E02": ["data_file"],
        ".E03": ["data_file"],
        ".E04": ["data_file"],
    }
    assert all(inspected(EWFInspector, image).wholeness is Wholeness.UNCHECKED for image in segments.values())


def test_every_cut_is_noticed() -> None:
    image = ewf(MIB, allocated=3)
    for size in [8, 12, *range(13, 2000, 61), *range(2000, image.size, 9001), image.size - 1]:
        inspector = inspected(EWFInspector, image.truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.wholeness is Wholeness.UNCHECKED


def test_an_end_that_was_written_for_another_place_is_no_end() -> None:
    """If bytes in the middle are lost, the last section is intact but states another offset than its own."""
    image = ewf(MIB)
    shorter = Image.of(image.size - 512, [(0, image.read(0, 5000)), (5000, image.read(5512, image.size))])
    assert checks_of(EWFInspector, shorter) == ["truncated"]


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (4, struct.pack("<I", 31), "structure"),
        (4, bytes(4), "structure"),
        (8, bytes(4), "structure"),
        (12, bytes(4), "structure"),
        (16, b"\xff" * 8, "structure"),
    ],
)
def test_a_volume_that_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert checks_of(EWFInspector, with_volume(ewf(MIB), at, change)) == [found]


def test_a_last_chunk_may_be_a_part_of_one() -> None:
    inspector = inspected(EWFInspector, with_volume(ewf(MIB), 16, struct.pack("<Q", 2047)))
    assert inspector.checks() == []
    assert inspector.virtual_size == MIB - 512


def test_a_medium_that_no_number_counts_has_no_size() -> None:
    image = with_volume(ewf(MIB), 4, struct.pack("<3IQ", *[2**32 - 1] * 3, 2**64 - 1))
    inspector = inspected(EWFInspector, image)
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.virtual_size == 0


@pytest.mark.parametrize("at", [VOLUME + 3, VOLUME + 17, VOLUME + 74, VOLUME_DATA + 5, VOLUME_DATA + 1050])
def test_a_changed_byte_does_not_have_its_checksum(at: int) -> None:
    image = ewf(MIB)
    changed = image.patched(at, bytes([image.read(at, 1)[0] ^ 1]))
    assert "checksum_mismatch" in checks_of(EWFInspector, changed)


@pytest.mark.parametrize(
    ("kind", "following", "found"),
    [
        (b"sectors", SECTORS + 75, "structure"),
        (b"sectors", 13, "structure"),
        (b"sectors", 2**64 - 1, "structure"),
        (b"done", 5000, "structure"),
    ],
)
def test_a_chain_that_breaks_is_found(kind: bytes, following: int, found: str) -> None:
    assert found in checks_of(EWFInspector, with_descriptor(ewf(MIB), SECTORS, kind, following))


@pytest.mark.parametrize("length", [0, 93, 95, 1053, 100_000])
def test_a_volume_section_of_another_length_is_found(length: int) -> None:
    image = with_descriptor(ewf(MIB), VOLUME, b"volume", VOLUME_DATA + length)
    assert "structure" in checks_of(EWFInspector, image)
    assert inspected(EWFInspector, image).virtual_size == 0


def test_a_chain_without_a_volume_near_the_front_has_no_size() -> None:
    inspector = inspected(EWFInspector, ewf(MIB, first=random.Random(0).randbytes(300 * KIB)))  # noqa: S311
    assert [finding.check for finding in inspector.checks()] == ["unsupported_subformat"]
    assert inspector.virtual_size == 0


def test_an_endless_chain_is_left() -> None:
    image = ewf(MIB)
    for number in range(1000):
        at = 13 + 76 * number
        image = with_descriptor(image, at, b"header", at + 76)
    assert len(inspected(EWFInspector, image).context_info) < 20


def test_segments_are_numbered_from_1() -> None:
    assert checks_of(EWFInspector, ewf(MIB, segment=0)) == ["structure"]


def test_of_an_ex01_all_but_the_medium_is_known() -> None:
    inspector = inspected(EWFInspector, ewf2())
    assert (inspector.subformat, inspector.virtual_size) == ("Ex01", 0)
    assert [finding.check for finding in inspector.checks()] == ["unsupported_subformat"]
    assert inspector.wholeness is Wholeness.PROVEN
    assert "data_file" in checks_of(EWFInspector, ewf2(last=NEXT))
    assert "data_file" in checks_of(EWFInspector, ewf2(segment=2))
    assert "unknown_features" in checks_of(EWFInspector, ewf2().patched(8, b"\3"))


def test_every_cut_of_an_ex01_is_noticed() -> None:
    image = ewf2()
    for size in range(8, image.size):
        inspector = inspected(EWFInspector, image.truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    "front", [b"LVF\t\r\n\xff\0", b"EVF\t\n\r\xff\0", b"EVF2\r\n\x81", b"\0EVF\t\r\n\xff\0"]
)
def test_another_signature_makes_no_ewf(front: bytes) -> None:
    assert not EWFInspector.matches_prefix(front)
