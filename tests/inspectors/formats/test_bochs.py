"""Bochs: what each check says, of an image that fails it and of one that only looks as if."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, bochs, guest_disk
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.bochs import BochsInspector
from tests.conftest import QemuImg
from tests.inspectors.test_hostile import mutated
from tests.inspectors.test_law import WAYS, Single, told_at_once
from tests.slow import slow

KIB, MIB, GIB = 1024, 1024**2, 1024**3

IMAGES = [
    bochs(7 * MIB, allocated=3),
    bochs(7 * MIB, allocated=3, version=1),
    bochs(2057 * MIB, extent_size=64 * KIB, allocated=(30_000, 3)),
    bochs(512 * GIB, allocated=(0, 500_000)),
    bochs(MIB),
]


def inspected(image: Image) -> BochsInspector:
    """The inspector of an image once nothing is missing."""
    inspector = BochsInspector()
    run = told_at_once(Single(inspector), image)
    assert run.error is None
    return inspector


def checks_of(image: Image) -> list[str]:
    return [finding.check for finding in inspected(image).checks()]


BOTH = pytest.mark.parametrize("version", [1, 2])


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


@BOTH
@pytest.mark.parametrize("size", [0, 512, 7 * MIB, 2057 * MIB, 32 * GIB])
def test_a_good_image_is_whole_and_without_findings(size: int, version: int) -> None:
    inspector = inspected(bochs(size, allocated=min(3, size // MIB), version=version))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("bochs", "growing", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_details() -> None:
    assert inspected(bochs(7 * MIB, extent_size=4096)).details() == {
        "type": "Redolog",
        "subtype": "Growing",
        "version": "2.0",
        "extent_size": 4096,
        "extents": 1792,
    }


def test_wholeness_is_sampled_where_the_catalog_is_longer_than_what_is_held() -> None:
    assert inspected(bochs(32 * GIB, allocated=1)).wholeness is Wholeness.PROVEN
    assert inspected(bochs(33 * GIB, allocated=1)).wholeness is Wholeness.SAMPLED


def test_of_a_long_catalog_the_end_is_looked_at() -> None:
    last = 512 * GIB // MIB - 1
    image = bochs(512 * GIB, allocated=(0, last))
    assert checks_of(image) == []
    assert checks_of(image.truncated(image.size - 1)) == ["truncated"]


@pytest.mark.parametrize("subtype", ["Undoable", "Volatile"])
def test_a_redolog_beside_a_base_image_needs_it(subtype: str) -> None:
    inspector = inspected(bochs(GIB, subtype=subtype))
    assert [finding.check for finding in inspector.checks()] == ["parent_image"]
    assert inspector.subformat == subtype.lower()


@pytest.mark.parametrize(
    ("at", "value"), [(32, b"Undolog"), (48, b"Growin\0"), (48, b"growing"), (64, u32(0x30000)), (64, u32(1))]
)
def test_unknown_types_and_versions_are_found(at: int, value: bytes) -> None:
    assert checks_of(bochs(GIB).patched(at, value)) == ["unknown_features"]


def test_a_type_with_terminal_codes_is_shown_escaped() -> None:
    (finding,) = inspected(bochs(GIB).patched(48, b"\x1b[2J")).checks()
    assert "\x1b" not in finding.message


def test_what_stands_behind_the_zero_of_a_name_does_not_matter() -> None:
    assert checks_of(bochs(GIB).patched(24, b"x").patched(41, b"x").patched(57, b"x")) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (68, 0),
        (68, 511),
        (68, 2**32 - 4),
        (72, 0x100001),
        (76, 0),
        (80, 0),
        (80, 256),
        (80, 3 << 19),
        (80, 1 << 24),
    ],
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: int) -> None:
    inspector = inspected(bochs(GIB, allocated=2).patched(at, u32(value)))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    ("at", "value"),
    [(72, 1023), (76, 255), (88, GIB - 1), (512, 1), (512, 1024)],
    ids=[
        "a short catalog",
        "a short bitmap",
        "a size of broken sectors",
        "two at one place",
        "beyond the last extent",
    ],
)
def test_what_cannot_be_is_a_contradiction(at: int, value: int) -> None:
    image = bochs(GIB, allocated=2)
    assert checks_of(image) == []
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u32(value))))


@BOTH
def test_the_place_of_the_size_depends_on_the_version(version: int) -> None:
    image = bochs(GIB, version=version).patched(80 + 4 * version, u32(MIB))
    assert inspected(image).virtual_size == MIB


@pytest.mark.parametrize("numbers", [(0, 1, 2), (900, 3, 500)])
def test_every_cut_is_noticed(numbers: tuple[int, ...]) -> None:
    image = bochs(GIB, allocated=numbers)
    for size in [*range(24, 700, 13), *range(700, image.size, 40_009), image.size - 1]:
        inspector = inspected(image.truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.wholeness is Wholeness.UNCHECKED


def test_a_magic_that_goes_on_is_another() -> None:
    image = bochs(GIB).patched(22, b"s")
    assert not inspected(image).format_match
    assert checks_of(image) == []


@pytest.mark.qemu
@pytest.mark.parametrize("number", range(len(IMAGES)))
def test_qemu_reads_the_image_and_its_size(number: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    path = IMAGES[number].write_to(tmp_path / "image")
    assert qemu_img(path, "bochs")["virtual-size"] == inspected(IMAGES[number]).virtual_size


@pytest.mark.qemu
@pytest.mark.parametrize(
    "options", [{}, {"version": 1}, {"extent_size": 4096}, {"extent_size": 64 * KIB}], ids=str
)
def test_qemu_reads_what_the_guest_wrote(options: dict[str, Any], qemu_img: QemuImg, tmp_path: Path) -> None:
    blocks = (63, 0, 40)
    image = bochs(64 * MIB, allocated=blocks, **options).write_to(tmp_path / "image")
    raw = guest_disk(64 * MIB, block_size=options.get("extent_size", MIB), allocated=blocks).write_to(
        tmp_path / "raw"
    )
    qemu_img.run("compare", "-f", "bochs", "-F", "raw", image, raw)


@given(st.sampled_from(IMAGES), st.randoms(use_true_random=False), st.sampled_from(WAYS), st.data())
def test_it_knows_the_same_however_the_bytes_came(
    image: Image, choose: random.Random, way: Any, data: st.DataObject
) -> None:
    """The law, over good images and mutated ones."""
    image = mutated(image, choose)
    reference = told_at_once(Single(BochsInspector()), image).facts()
    assert way(Single(BochsInspector()), image, data.draw).facts() == reference


@pytest.mark.parametrize("chunk_size", [slow(1), 7, 100, 4096, MIB])
def test_the_size_of_a_streams_chunks_does_not_matter(chunk_size: int) -> None:
    for image in IMAGES:
        stream = BochsInspector()
        data = image.truncated(70 * KIB).to_bytes()
        for start in range(0, len(data), chunk_size):
            stream.eat_chunk(data[start : start + chunk_size])
        stream.finish()
        assert stream.missing() == []
        assert stream.checks() == inspected(image.truncated(70 * KIB)).checks()


@pytest.mark.parametrize("mutations", [100, slow(1000)])
def test_a_mutated_image_never_breaks_it_and_never_asks_for_much(mutations: int) -> None:
    choose = random.Random(4)  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(mutations):
        image = mutated(choose.choice(IMAGES), choose)
        inspector = inspected(image)
        assert sum(inspector.context_info.values()) < 512 * KIB
        far = [at for at in inspector._regions.values() if at.held and at.offset + at.length > 256 * KIB]
        assert len(far) <= 2
        assert inspector.virtual_size >= 0
        assert len(inspector.checks()) < 20
        assert all(len(finding.message) < 2048 for finding in inspector.checks())


@given(st.binary(max_size=3000))
def test_any_bytes_behind_the_magic_raise_nothing(noise: bytes) -> None:
    data = b"Bochs Virtual HD Image\0" + noise
    inspector = inspected(Image.of(len(data), [(0, data)]))
    assert inspector.format_match
    inspector.checks()
    inspector.details()


@pytest.mark.parametrize("length", range(0, 600, 7))
def test_the_front_alone_tells_whether_it_is_one(length: int) -> None:
    front = IMAGES[0].read(0, length)
    assert BochsInspector.matches_prefix(front) == (length >= 23)
    assert not BochsInspector.matches_prefix(front[1:])
