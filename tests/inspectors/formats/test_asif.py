"""ASIF: the finding of each check, for images that fail it and for similar good images."""

import pytest

from keyhole.builders import asif
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.asif import ASIFInspector
from tests.inspectors.one_inspector import GIB, MIB, TIB, checks_of, inspected

#: One table covers 126 GiB, so these chunks are in two tables.
TWO_TABLES = (0, 129_024)


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.mark.parametrize("size", [512, 7 * MIB, 123 * GIB, 100 * TIB, 4096 * TIB])
def test_a_good_image_has_its_size_and_no_findings(size: int) -> None:
    inspector = inspected(ASIFInspector, asif(size, allocated=(0,)))
    assert (str(inspector), inspector.virtual_size) == ("asif", size)
    assert inspector.checks() == []


def test_it_does_not_claim_what_it_cannot_know() -> None:
    """Data chunks can lie in any order, and large tables are not read. A lost chunk would not be noticed."""
    image = asif(7 * MIB, allocated=3)
    for whole_or_not in (image, image.truncated(image.size - MIB)):
        assert inspected(ASIFInspector, whole_or_not).wholeness is Wholeness.UNCHECKED
        assert checks_of(ASIFInspector, whole_or_not) == []


def test_a_cut_that_takes_header_directories_or_tables_is_noticed() -> None:
    image = asif(300 * GIB, allocated=TWO_TABLES)
    for size in [4, 79, 80, 512, 519, 262_656, *range(MIB, 3 * MIB, 100_000), 3 * MIB - 1]:
        found = checks_of(ASIFInspector, image.truncated(size))
        assert found
        assert set(found) == {"truncated"}, size
    assert checks_of(ASIFInspector, image.truncated(3 * MIB)) == []


def test_the_newer_directory_counts() -> None:
    """The older directory can be of any age, and its entries can lead anywhere."""
    image = asif(7 * MIB, allocated=1).truncated(2 * MIB)
    older, newer = image.patched(262_664, u64(999)), image.patched(520, u64(999))
    assert checks_of(ASIFInspector, older) == []
    assert checks_of(ASIFInspector, newer) == ["truncated"]


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (4, b"\0\0\0\2", "unknown_features"),
        (16, u64(2**63), "truncated"),
        (24, u64(2**63), "truncated"),
        (48, u64(2**62), "structure"),
        (64, b"\0\0\0\0", "structure"),
        (64, b"\xff\xff\xff\xff", "structure"),
        (64, b"\0\0\2\1", "structure"),
        (68, b"\0\0", "structure"),
        (68, b"\2\1", "structure"),
    ],
)
def test_what_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert found in checks_of(ASIFInspector, asif(7 * MIB, allocated=3).patched(at, change))


@pytest.mark.parametrize(("at", "change"), [(32, b"\xff" * 16), (72, b"\xff" * 8), (12, b"\xff" * 4)])
def test_what_may_be_anything_is_not_found(at: int, change: bytes) -> None:
    assert checks_of(ASIFInspector, asif(7 * MIB, allocated=3).patched(at, change)) == []


def test_the_signature_elsewhere_makes_no_asif() -> None:
    assert not ASIFInspector.matches_prefix(b"\0shdw")
    assert ASIFInspector.matches_prefix(b"shdw")


def test_what_it_holds_is_bounded_for_the_largest_disk() -> None:
    assert sum(inspected(ASIFInspector, asif(4096 * TIB)).context_info.values()) < 16 * 1024
