"""QED: the finding of each check, for images that fail it and for similar good images."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import guest_disk, qed
from keyhole.inspectors import Severity, Wholeness
from keyhole.inspectors.formats.qed import QEDInspector
from tests.conftest import QemuImg
from tests.examples import images_of
from tests.inspectors import one_inspector

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

IMAGES = images_of(QEDInspector)


inspected = partial(one_inspector.inspected, QEDInspector)


checks_of = partial(one_inspector.checks_of, QEDInspector)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.mark.parametrize("size", [0, 512, 7 * MIB, 2057 * MIB, 16 * TIB])
def test_a_good_image_is_whole_and_without_findings(size: int) -> None:
    inspector = inspected(qed(size, allocated=min(3, size // 65536)))
    assert (str(inspector), inspector.virtual_size) == ("qed", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    assert inspector.details() == {"cluster_size": 65536, "table_size": 4, "features": []}


def test_wholeness_is_sampled_where_there_is_more_than_one_l2_table() -> None:
    assert inspected(qed(GIB, cluster_size=4096, allocated=(0, 5000))).wholeness is Wholeness.SAMPLED


def test_wholeness_is_sampled_where_a_table_is_longer_than_what_is_held() -> None:
    assert inspected(qed(16 * TIB, allocated=1)).wholeness is Wholeness.PROVEN
    assert inspected(qed(17 * TIB, allocated=1)).wholeness is Wholeness.SAMPLED
    assert inspected(qed(TIB, cluster_size=MIB, allocated=1)).wholeness is Wholeness.SAMPLED


def test_only_as_much_of_an_l2_table_is_wanted_as_the_disk_needs() -> None:
    inspector = inspected(qed(7 * MIB, allocated=3))
    assert inspector.context_info == {"header": 64, "l1": 8, "l2": 7 * 16 * 8}


@pytest.mark.parametrize(("features", "backing_format"), [(0, None), (4, "raw")])
def test_a_backing_file_is_found_and_named(features: int, backing_format: str | None) -> None:
    inspector = inspected(qed(GIB, backing_file="/etc/shadow", features=features))
    (finding,) = inspector.checks()
    assert (finding.check, finding.severity) == ("backing_file", Severity.CRITICAL)
    assert "'/etc/shadow'" in finding.message
    assert ("as a raw disk" in finding.message) == bool(features)
    assert inspector.details()["backing_file"] == "/etc/shadow"
    assert inspector.details().get("backing_format") == backing_format


def test_a_backing_name_with_terminal_codes_is_shown_escaped() -> None:
    inspector = inspected(qed(GIB, backing_file="\x1b[2Jjson:{}\x07"))
    assert inspector.details()["backing_file"] == "\\x1b[2Jjson:{}\\x07"


@pytest.mark.parametrize(("at", "value"), [(56, 2**32 - 1), (56, 8), (60, 0), (60, 1024), (60, 2**32 - 1)])
def test_a_backing_name_that_cannot_be_is_a_finding_of_its_own(at: int, value: int) -> None:
    image = qed(GIB, backing_file="base.raw").patched(at, u32(value))
    assert checks_of(image) == ["backing_file", "structure"]


def test_a_name_without_its_feature_bit_is_no_backing_file() -> None:
    assert checks_of(qed(GIB, backing_file="base.raw").patched(16, u64(4))) == []


@pytest.mark.parametrize(
    ("bits", "check"), [(2, "dirty"), (8, "unknown_features"), (1 << 63, "unknown_features")]
)
def test_feature_bits_have_their_checks(bits: int, check: str) -> None:
    assert checks_of(qed(GIB, features=bits)) == [check]


def test_an_image_that_needs_a_check_is_not_proven_to_be_whole() -> None:
    assert inspected(qed(GIB, features=2)).wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("at", [24, 32])
def test_compatible_and_autoclear_bits_are_nobodys_concern(at: int) -> None:
    assert checks_of(qed(GIB).patched(at, u64(2**64 - 1))) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [(4, 2048), (4, 65537), (4, 1 << 27), (8, 0), (8, 3), (8, 32), (12, 0), (12, 65536), (12, 2**32 - 1)],
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: int) -> None:
    inspector = inspected(qed(GIB, allocated=2).patched(at, u32(value)))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.wholeness is Wholeness.UNCHECKED


L1, L2 = 65536, 327680


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, L1 + 512),
        (40, 0),
        (48, GIB - 1),
        (48, 2**62),
        (L1, L1),
        (L1, L1 + 3 * 65536),
        (L1, L2 + 1),
        (L1 + 8, L2),
        (L2, 2),
        (L2, L2 + 4096),
        (L2, L1),
    ],
    ids=[
        "L1 within a cluster",
        "L1 over the header",
        "a size of broken sectors",
        "a size beyond the tables",
        "L2 at L1",
        "L2 within L1",
        "L2 within a cluster",
        "one L2 twice",
        "a cluster in the header",
        "a cluster within a cluster",
        "a cluster over L1",
    ],
)
def test_places_and_sizes_that_cannot_be_are_contradictions(at: int, value: int) -> None:
    image = qed(4 * GIB, allocated=2)
    assert checks_of(image) == []
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u64(value))))


def test_a_cluster_of_zeros_lies_nowhere() -> None:
    assert checks_of(qed(GIB, allocated=2).patched(L2 + 16, u64(1))) == []


@pytest.mark.qemu
@pytest.mark.parametrize(
    "options",
    [{}, {"cluster_size": 4096, "table_size": 2}, {"cluster_size": 16384, "table_size": 16}],
    ids=str,
)
def test_qemu_reads_what_the_guest_wrote(options: dict[str, Any], qemu_img: QemuImg, tmp_path: Path) -> None:
    blocks = (63, 0, 40)
    image = qed(4 * MIB, allocated=blocks, **options).write_to(tmp_path / "image")
    raw = guest_disk(4 * MIB, block_size=options.get("cluster_size", 65536), allocated=blocks).write_to(
        tmp_path / "raw"
    )
    qemu_img.run("compare", "-f", "qed", "-F", "raw", image, raw)
