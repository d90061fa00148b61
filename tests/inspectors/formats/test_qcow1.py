"""qcow version 1: the finding of each check, for images that fail it and for similar good images."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import guest_disk, qcow1
from keyhole.inspectors import Severity, Wholeness
from keyhole.inspectors.formats.qcow1 import QcowV1Inspector
from tests.conftest import QemuImg
from tests.examples import images_of
from tests.inspectors import one_inspector

KIB, MIB, GIB = 1024, 1024**2, 1024**3

IMAGES = images_of(QcowV1Inspector)


inspected = partial(one_inspector.inspected, QcowV1Inspector)


checks_of = partial(one_inspector.checks_of, QcowV1Inspector)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.mark.parametrize("size", [512, 7 * MIB, 513 * MIB, 2057 * MIB])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_good_image_is_whole_and_without_findings(size: int, compressed: bool) -> None:
    inspector = inspected(qcow1(size, allocated=min(3, size // 4096), compressed=compressed))
    assert (str(inspector), inspector.virtual_size) == ("qcow", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    assert inspector.details() == {"version": 1, "cluster_size": 4096, "l2_entries": 512}


def test_wholeness_is_sampled_where_there_is_more_than_one_l2_table() -> None:
    assert inspected(qcow1(7 * MIB, allocated=(0, 600))).wholeness is Wholeness.SAMPLED


def test_wholeness_is_sampled_where_the_l1_table_is_longer_than_what_is_held() -> None:
    assert inspected(qcow1(48 * GIB, allocated=1)).wholeness is Wholeness.PROVEN
    assert inspected(qcow1(49 * GIB, allocated=1)).wholeness is Wholeness.SAMPLED


def test_of_a_long_l1_table_the_end_is_looked_at() -> None:
    last = 100 * GIB // 4096 - 1
    image = qcow1(100 * GIB, allocated=(0, last))
    assert checks_of(image) == []
    assert checks_of(image.truncated(image.size - 1)) == ["truncated"]


def test_a_backing_file_is_found_and_named() -> None:
    inspector = inspected(qcow1(GIB, cluster_bits=9, l2_bits=12, backing_file="/etc/shadow"))
    (finding,) = inspector.checks()
    assert (finding.check, finding.severity) == ("backing_file", Severity.CRITICAL)
    assert "'/etc/shadow'" in finding.message
    assert inspector.details()["backing_file"] == "/etc/shadow"


def test_a_backing_name_with_terminal_codes_is_shown_escaped() -> None:
    inspector = inspected(qcow1(GIB, backing_file="\x1b[2Jjson:{}\x07"))
    assert inspector.details()["backing_file"] == "\\x1b[2Jjson:{}\\x07"


@pytest.mark.parametrize(("at", "value"), [(8, u64(2**63)), (8, u64(8)), (16, u32(0)), (16, u32(1024))])
def test_a_backing_name_that_cannot_be_is_a_finding_of_its_own(at: int, value: bytes) -> None:
    assert checks_of(qcow1(GIB, backing_file="base.raw").patched(at, value)) == ["backing_file", "structure"]


def test_the_length_of_a_name_without_a_place_is_no_backing_file() -> None:
    assert checks_of(qcow1(GIB).patched(16, u32(8))) == []


def test_encryption_is_found() -> None:
    inspector = inspected(qcow1(GIB, encryption=1))
    assert [finding.check for finding in inspector.checks()] == ["encrypted"]
    assert inspector.details()["encryption"] == "aes"


def test_another_encryption_method_is_unknown() -> None:
    assert checks_of(qcow1(GIB, encryption=2)) == ["unknown_features"]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (24, u64(0)),
        (24, u64(1)),
        (24, u64(2**64 - 1)),
        (32, b"\x08"),
        (32, b"\x11"),
        (33, b"\x05"),
        (33, b"\x0e"),
    ],
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: bytes) -> None:
    inspector = inspected(qcow1(GIB, allocated=2).patched(at, value))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.wholeness is Wholeness.UNCHECKED


def test_the_smallest_and_largest_clusters_and_tables_are_in_bounds() -> None:
    for cluster_bits, l2_bits in [(9, 6), (16, 13), (9, 13), (16, 6)]:
        assert checks_of(qcow1(MIB, cluster_bits=cluster_bits, l2_bits=l2_bits, allocated=3)) == []


def test_a_size_of_broken_sectors_is_a_contradiction() -> None:
    """QEMU rounds the size down."""
    inspector = inspected(qcow1(GIB).patched(24, u64(GIB - 1)))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.virtual_size == GIB - 512


L1, L2 = 48, 4096
TWO_TABLES = qcow1(4 * MIB, allocated=(0, 600))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, 8),
        (L1, 8),
        (L1, 44),
        (L1 + 8, L2),
        (L2, 512),
        (L2 + 8, 8),
        (L2 + 8, 8193),
        (L2 + 8, 2**63 | 10 << 51),
    ],
    ids=[
        "L1 over the header",
        "L2 over the header",
        "L2 over L1",
        "one L2 twice",
        "a cluster over L1",
        "a cluster over the header",
        "a cluster within a sector",
        "a compressed cluster over the header",
    ],
)
def test_places_that_cannot_be_are_contradictions(at: int, value: int) -> None:
    # Given an image whose L1 table is longer than a sector, with one or two L2 tables
    image = TWO_TABLES if at == L1 + 8 else qcow1(140 * MIB, allocated=2)
    assert checks_of(image) == []
    # When an entry leads to another structure, or to an offset at which no cluster can begin
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u64(value))))


def test_a_compressed_cluster_may_lie_anywhere_behind_the_tables() -> None:
    assert checks_of(qcow1(MIB, allocated=5, compressed=True)) == []


def test_what_lies_behind_the_last_cluster_is_not_needed() -> None:
    assert checks_of(qcow1(8 * MIB, allocated=3).appended(bytes(4096))) == []


@pytest.mark.qemu
@pytest.mark.parametrize(
    "options", [{}, {"compressed": True}, {"cluster_bits": 9, "l2_bits": 6}, {"cluster_bits": 14}], ids=str
)
def test_qemu_reads_what_the_guest_wrote(options: dict[str, Any], qemu_img: QemuImg, tmp_path: Path) -> None:
    blocks = (63, 0, 40)
    image = qcow1(MIB, allocated=blocks, **options).write_to(tmp_path / "image")
    raw = guest_disk(MIB, block_size=1 << options.get("cluster_bits", 12), allocated=blocks).write_to(
        tmp_path / "raw"
    )
    qemu_img.run("compare", "-f", "qcow", "-F", "raw", image, raw)
