"""SESparse: the finding of each check, for extents that fail it and for similar good extents."""

from functools import partial
from pathlib import Path

import pytest

from keyhole.builders import guest_disk, sesparse
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.vmdk.sesparse import SESparseInspector
from tests.conftest import QemuImg
from tests.inspectors import one_inspector

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

#: The finding for every extent, because its descriptor is in another file.
ALWAYS = ["unsupported_subformat"]
#: The offsets of the builder's structures, for a disk of 64 MiB.
VOLATILE, DIRECTORY = 512, (1 + 1 + 2 + 2048) * 512
TABLES = DIRECTORY + 512
GRAIN_TABLES_FIELD, GRAINS_FIELD = 144, 192


inspected = partial(one_inspector.inspected, SESparseInspector)


checks_of = partial(one_inspector.checks_of, SESparseInspector)


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.mark.parametrize("size", [512, 7 * MIB, GIB + 512, 128 * GIB, 64 * TIB])
def test_a_good_extent_is_whole_and_told_to_be_an_extent(size: int) -> None:
    inspector = inspected(sesparse(size, allocated=1))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("vmdk", "seSparse", size)
    assert [finding.check for finding in inspector.checks()] == ALWAYS
    assert inspector.wholeness is (Wholeness.PROVEN if size <= 128 * GIB else Wholeness.SAMPLED)
    assert inspector.details() == {"version": "2.1", "grain_size": 4096}


def test_wholeness_is_sampled_where_there_is_more_than_one_table() -> None:
    assert inspected(sesparse(64 * MIB, allocated=(0, 5000))).wholeness is Wholeness.SAMPLED


def test_an_extent_without_grains_is_whole() -> None:
    assert inspected(sesparse(GIB)).wholeness is Wholeness.PROVEN


def test_a_journal_that_must_be_replayed_is_found() -> None:
    inspector = inspected(sesparse(GIB, allocated=1, replay_journal=True))
    assert [finding.check for finding in inspector.checks()] == [*ALWAYS, "log_replay"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (8, 1, "unknown_features"),
        (8, 0x0000000200000002, "unknown_features"),
        (40, 1, "unknown_features"),
        (48, 1, "unknown_features"),
        (72, 1 << 63, "unknown_features"),
        (208, 1, "unknown_features"),
        (504, 1 << 63, "unknown_features"),
        (VOLATILE + 32, 1, "unknown_features"),
        (VOLATILE + 504, 1 << 63, "unknown_features"),
        (VOLATILE, 0xCAFEBABE, "structure"),
        (16, (64 * TIB) // 512 + 1, "structure"),
        (16, 2**64 - 1, "structure"),
        (24, 16, "structure"),
        (32, 128, "structure"),
        (80, 0, "structure"),
        (80, 512, "structure"),
        (96, 1, "metadata_overlap"),
        (112, 3, "metadata_overlap"),
        (136, 0, "structure"),
        (144, 2052, "metadata_overlap"),
        (DIRECTORY, 2 << 60, "structure"),
        (DIRECTORY, 1, "structure"),
        (DIRECTORY, 0x1000_0001_0000_0000, "structure"),
        (DIRECTORY, 1 << 60 | 4, "structure"),
        (DIRECTORY + 8, 1 << 60, "metadata_overlap"),
        (TABLES + 8, 4 << 60, "structure"),
        (TABLES + 8, 1, "structure"),
        (TABLES + 8, 3 << 60 | 4, "structure"),
        (TABLES + 8, 3 << 60 | 1 << 48, "truncated"),
        (TABLES + 8, 3 << 60 | 2**48 - 1, "truncated"),
        (DIRECTORY, 1 << 60 | 2**32 - 1, "truncated"),
        (88, 2**64 - 1, "truncated"),
        (104, 2**64 - 1, "truncated"),
        (120, 2**64 - 1, "truncated"),
        (128, 2**64 - 1, "truncated"),
        (152, 2**64 - 1, "truncated"),
        (168, 2**64 - 1, "truncated"),
        (184, 2**64 - 1, "truncated"),
        (GRAINS_FIELD, 2**64 - 1, "truncated"),
    ],
)
def test_fields_have_their_checks(at: int, value: int, check: str) -> None:
    image = sesparse(64 * MIB, allocated=1)
    assert checks_of(image) == ALWAYS
    inspector = inspected(image.patched(at, u64(value)))
    assert check in [finding.check for finding in inspector.checks()]


@pytest.mark.parametrize("entry", [0, 1 << 60, 2 << 60, 1 << 60 | 77])
def test_an_entry_that_stores_nothing_is_no_grain(entry: int) -> None:
    assert checks_of(sesparse(64 * MIB, allocated=1).patched(TABLES + 8, u64(entry))) == ALWAYS


def test_room_for_grains_that_are_not_there_is_no_lack() -> None:
    image = sesparse(64 * MIB, allocated=1)
    assert int.from_bytes(image.read(GRAINS_FIELD + 8, 8), "little") * 512 > image.size
    assert checks_of(image) == ALWAYS


def test_a_volatile_header_is_read_where_it_lies() -> None:
    image = sesparse(64 * MIB, allocated=1, replay_journal=True)
    volatile = image.read(VOLATILE, 512)
    moved = image.patched(80, u64(2)).patched(96, u64(3) + u64(1)).patched(VOLATILE, bytes(512))
    assert checks_of(moved) == [*ALWAYS, "structure"]
    assert checks_of(moved.patched(2 * 512, volatile)) == [*ALWAYS, "log_replay"]


def test_a_volatile_header_far_behind_is_not_followed() -> None:
    image = sesparse(64 * MIB, allocated=1)
    inspector = inspected(image.patched(80, u64(512)))
    assert inspector.region("volatile").length == 0
    assert "is not near the front" in "".join(finding.message for finding in inspector.checks())
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.qemu
def test_qemu_reads_what_the_guest_wrote(qemu_img: QemuImg, tmp_path: Path) -> None:
    """QEMU opens an extent only through a descriptor."""
    blocks = (*range(5000, 9200), 0, 40)
    sesparse(64 * MIB, allocated=blocks).write_to(tmp_path / "x-sesparse.vmdk")
    raw = guest_disk(64 * MIB, block_size=4096, allocated=blocks).write_to(tmp_path / "raw")
    descriptor = tmp_path / "x.vmdk"
    lines = ["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff", 'createType="seSparse"']
    descriptor.write_text("\n".join([*lines, 'RW 131072 SESPARSE "x-sesparse.vmdk"', ""]))
    qemu_img.run("compare", "-f", "vmdk", "-F", "raw", descriptor, raw)
