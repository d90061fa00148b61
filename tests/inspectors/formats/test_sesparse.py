"""SESparse: what each check says, of an extent that fails it and of one that only looks as if."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, guest_disk, sesparse
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.vmdk.sesparse import SESparseInspector
from tests.conftest import QemuImg
from tests.inspectors.test_hostile import mutated
from tests.inspectors.test_law import WAYS, Single, told_at_once
from tests.slow import slow

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

IMAGES = [
    sesparse(64 * MIB, allocated=(5000, 0, 9999)),
    sesparse(7 * MIB, allocated=3),
    sesparse(200 * GIB, allocated=(0, 50_000_000)),
    sesparse(MIB),
    sesparse(MIB, allocated=1, replay_journal=True),
]
#: What every extent is told, for its descriptor is elsewhere.
ALWAYS = ["unsupported_subformat"]
#: Where the builder puts the structures of a disk of 64 MiB.
VOLATILE, DIRECTORY = 512, (1 + 1 + 2 + 2048) * 512
TABLES = DIRECTORY + 512
GRAIN_TABLES_FIELD, GRAINS_FIELD = 144, 192


def inspected(image: Image) -> SESparseInspector:
    """The inspector of an image once nothing is missing."""
    inspector = SESparseInspector()
    run = Single(inspector)
    told_at_once(run, image)
    assert run.error is None
    return inspector


def checks_of(image: Image) -> list[str]:
    return [finding.check for finding in inspected(image).checks()]


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
    assert "does not lie near the front" in "".join(finding.message for finding in inspector.checks())
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("numbers", [(0, 1, 2), (9000, 3, 5000)])
def test_every_cut_is_noticed(numbers: tuple[int, ...]) -> None:
    image = sesparse(64 * MIB, allocated=numbers)
    for size in [*range(8, 3000, 61), *range(3000, image.size, 9973), image.size - 1]:
        inspector = inspected(image.truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.wholeness is Wholeness.UNCHECKED


def test_another_magic_is_another_format() -> None:
    image = sesparse(GIB).patched(7, b"\1")
    assert not inspected(image).format_match
    assert checks_of(image) == []


@pytest.mark.parametrize("length", range(0, 600, 7))
def test_the_front_alone_tells_whether_it_is_one(length: int) -> None:
    front = IMAGES[0].read(0, length)
    assert SESparseInspector.matches_prefix(front) == (length >= 8)
    assert not SESparseInspector.matches_prefix(front[1:])


@pytest.mark.qemu
def test_qemu_reads_what_the_guest_wrote(qemu_img: QemuImg, tmp_path: Path) -> None:
    """QEMU opens an extent by a descriptor."""
    blocks = (*range(5000, 9200), 0, 40)
    sesparse(64 * MIB, allocated=blocks).write_to(tmp_path / "x-sesparse.vmdk")
    raw = guest_disk(64 * MIB, block_size=4096, allocated=blocks).write_to(tmp_path / "raw")
    descriptor = tmp_path / "x.vmdk"
    lines = ["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff", 'createType="seSparse"']
    descriptor.write_text("\n".join([*lines, 'RW 131072 SESPARSE "x-sesparse.vmdk"', ""]))
    qemu_img.run("compare", "-f", "vmdk", "-F", "raw", descriptor, raw)


@given(st.sampled_from(IMAGES), st.randoms(use_true_random=False), st.sampled_from(WAYS), st.data())
def test_it_knows_the_same_however_the_bytes_came(
    image: Image, choose: random.Random, way: Any, data: st.DataObject
) -> None:
    """The law, over good images and mutated ones."""
    image = mutated(image, choose)
    reference = told_at_once(Single(SESparseInspector()), image).facts()
    assert way(Single(SESparseInspector()), image, data.draw).facts() == reference


@pytest.mark.parametrize("mutations", [100, slow(1000)])
def test_a_mutated_image_never_breaks_it_and_never_asks_for_much(mutations: int) -> None:
    choose = random.Random(2)  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(mutations):
        inspector = inspected(mutated(choose.choice(IMAGES), choose))
        assert sum(inspector.context_info.values()) < 128 * KIB
        far = [at for at in inspector._regions.values() if at.held and at.offset + at.length > 256 * KIB]
        assert len(far) <= 2
        assert 0 <= inspector.virtual_size < 1 << 76
        assert len(inspector.checks()) < 50
        assert all(len(finding.message) < 2048 for finding in inspector.checks())
        inspector.details()


@given(st.binary(max_size=3000))
def test_any_bytes_behind_the_magic_raise_nothing(noise: bytes) -> None:
    data = u64(0xCAFEBABE) + noise
    inspector = inspected(Image.of(len(data), [(0, data)]))
    assert inspector.format_match
    inspector.checks()
    inspector.details()
