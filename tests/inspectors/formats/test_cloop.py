"""cloop: the finding of each check, for images that fail it and for similar good images."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import cloop, guest_disk
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.cloop import CloopInspector
from tests.conftest import QemuImg
from tests.examples import images_of
from tests.inspectors import one_inspector

KIB, MIB = 1024, 1024**2

#: An image whose table is longer than the part that the inspector stores.
LONG_BLOCKS = 40_000
LONG = cloop(LONG_BLOCKS * 512, block_size=512)

IMAGES = images_of(CloopInspector)


inspected = partial(one_inspector.inspected, CloopInspector)


checks_of = partial(one_inspector.checks_of, CloopInspector)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.mark.parametrize("size", [0, 64 * KIB, 7 * MIB, 700 * MIB, 2056 * MIB])
def test_a_good_image_is_whole_and_without_findings(size: int) -> None:
    inspector = inspected(cloop(size, allocated=min(3, size // 65536)))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("cloop", "V2.0", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    assert inspector.details() == {"block_size": 65536, "blocks": size // 65536}


def test_the_builder_stores_whole_blocks_only() -> None:
    with pytest.raises(ValueError, match="not whole blocks"):
        cloop(65537)


def test_of_a_long_table_beginning_and_end_are_looked_at() -> None:
    inspector = inspected(LONG)
    assert inspector.context_info == {"header": 136, "offsets": 128 * KIB, "offsets_end": 64 * KIB}
    assert inspector.wholeness is Wholeness.PROVEN


def test_the_older_script_is_known_too() -> None:
    older = b"insmod cloop.o file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n"
    image = cloop(MIB).patched(23, older.ljust(105, b"\0"))
    assert inspected(image).format_match
    assert checks_of(image) == []


@pytest.mark.parametrize(
    "script",
    [
        b"#!/bin/sh\n#V1.0 Format\nmodprobe cloop file=$0 && mount",
        b"#!/bin/sh\n#V2.0 Format\nm=geom_uzip\n(kldstat -m $m 2>&-||kldload $m)>&-",
        b"#!/bin/sh\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1",
        b" #!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0",
    ],
)
def test_other_scripts_are_something_else(script: bytes) -> None:
    image = cloop(MIB).patched(0, script.ljust(128, b"\0"))
    assert not inspected(image).format_match
    assert checks_of(image) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [(128, 0), (128, 65535), (128, 64 * MIB + 512), (132, 2**26), (132, 2**32 - 1)],
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: int) -> None:
    inspector = inspected(cloop(MIB).patched(at, u32(value)))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.wholeness is Wholeness.UNCHECKED


def test_a_size_beyond_what_qemu_can_count_is_a_contradiction() -> None:
    """QEMU counts sectors in 32 bits.

    A larger number would wrap, and QEMU would show another size than other readers.
    """
    image = cloop(MIB).patched(128, u32(64 * MIB) + u32(2**15))
    inspector = inspected(image)
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.virtual_size == 2**41


TABLE, TABLE_END = 136, 136 + 17 * 8


@pytest.mark.parametrize(
    ("at", "value"),
    [(TABLE, TABLE_END - 1), (TABLE + 8, 0), (TABLE + 16, 2**64 - 1), (TABLE_END - 8, 0)],
    ids=[
        "a block over the table",
        "a block that ends before it begins",
        "a block of the largest size",
        "an end at 0",
    ],
)
def test_offsets_that_cannot_be_are_contradictions(at: int, value: int) -> None:
    image = cloop(MIB, allocated=2)
    assert int.from_bytes(image.read(TABLE, 8), "big") == TABLE_END
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u64(value))))


def test_a_compressed_block_has_a_limit() -> None:
    image = cloop(MIB)
    longest = int.from_bytes(image.read(TABLE_END - 16, 8), "big") + 128 * MIB
    assert checks_of(image.patched(TABLE_END - 8, u64(longest))) == ["truncated"]
    assert checks_of(image.patched(TABLE_END - 8, u64(longest + 1))) == ["structure", "truncated"]


def test_the_order_counts_across_the_entries_that_are_not_held() -> None:
    first_held_of_the_end = 136 + (LONG_BLOCKS + 1) * 8 - 64 * KIB
    assert checks_of(LONG.patched(first_held_of_the_end, u64(400_000))) == ["structure"]


def test_what_the_entries_that_are_not_held_lead_over_is_no_block() -> None:
    """Between the two stored entries are more bytes than their blocks can have."""
    far = 1 << 40
    end = 136 + (LONG_BLOCKS + 1) * 8
    held = LONG.read(end - 64 * KIB, 64 * KIB)
    moved = b"".join(u64(int.from_bytes(held[at : at + 8], "big") + far) for at in range(0, len(held), 8))
    assert checks_of(LONG.patched(end - 64 * KIB, moved)) == ["truncated"]


@pytest.mark.qemu
@pytest.mark.parametrize("options", [{}, {"block_size": 512}, {"block_size": 32 * KIB}], ids=str)
def test_qemu_reads_what_the_guest_wrote(options: dict[str, Any], qemu_img: QemuImg, tmp_path: Path) -> None:
    blocks = (63, 0, 40)
    image = cloop(4 * MIB, allocated=blocks, **options).write_to(tmp_path / "image")
    raw = guest_disk(4 * MIB, block_size=options.get("block_size", 65536), allocated=blocks).write_to(
        tmp_path / "raw"
    )
    qemu_img.run("compare", "-f", "cloop", "-F", "raw", image, raw)
