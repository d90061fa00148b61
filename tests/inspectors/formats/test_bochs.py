"""Bochs: the finding of each check, for images that fail it and for similar good images."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import bochs, guest_disk
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.bochs import BochsInspector
from tests.conftest import QemuImg
from tests.examples import whole
from tests.inspectors import one_inspector

KIB, MIB, GIB = 1024, 1024**2, 1024**3

IMAGES = whole("bochs")


inspected = partial(one_inspector.inspected, BochsInspector)


checks_of = partial(one_inspector.checks_of, BochsInspector)


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
