"""qcow2: the finding of each check, for images that fail it and for similar good images."""

import pytest

from keyhole.builders import qcow2
from keyhole.inspectors import Severity, Wholeness
from tests.inspectors.inspecting import checks_of, facts_of

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("size", [0, 512, 7 * MIB, 10 * GIB, 16 * TIB])
def test_a_good_image_is_whole_and_without_findings(version: int, size: int) -> None:
    facts = facts_of(qcow2(size, version=version, allocated=min(3, size // 65536)))
    assert facts.format == "qcow2"
    assert facts.subformat == f"v{version}"
    assert facts.virtual_size == (size or None)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


def test_a_backing_file_is_found_and_named() -> None:
    facts = facts_of(qcow2(GIB, backing_file="/etc/shadow", backing_format="raw"))
    assert [finding.check for finding in facts.findings] == ["backing_file"]
    assert facts.findings[0].severity is Severity.CRITICAL
    assert "/etc/shadow" in facts.findings[0].message
    assert facts.details["backing_file"] == "/etc/shadow"
    assert facts.details["backing_format"] == "raw"


def test_a_backing_name_with_terminal_codes_is_shown_escaped() -> None:
    facts = facts_of(qcow2(GIB, backing_file="\x1b[2Jjson:{}\x07"))
    assert "\x1b" not in facts.findings[0].message
    assert facts.details["backing_file"] == "\\x1b[2Jjson:{}\\x07"


def test_a_backing_format_without_a_backing_file_is_a_contradiction() -> None:
    assert checks_of(qcow2(GIB, extensions=[(0xE2792ACA, b"raw")])) == ["structure"]


@pytest.mark.parametrize("length", [0, 1024, 2**32 - 1])
def test_a_backing_name_of_an_impossible_length_is_a_finding_of_its_own(length: int) -> None:
    image = qcow2(GIB, backing_file="base.qcow2").patched(16, u32(length))
    assert checks_of(image) == ["backing_file", "structure"]


def test_an_external_data_file_is_found_and_named() -> None:
    facts = facts_of(qcow2(GIB, data_file="/dev/sda"))
    assert [finding.check for finding in facts.findings] == ["data_file"]
    assert facts.details["data_file"] == "/dev/sda"


def test_a_data_file_without_a_name_is_found_by_its_feature_bit() -> None:
    assert checks_of(qcow2(GIB, incompatible=1 << 2)) == ["data_file"]


def test_a_data_file_named_without_its_feature_bit_is_found() -> None:
    assert checks_of(qcow2(GIB, extensions=[(0x44415441, b"/etc/passwd")])) == ["data_file"]


@pytest.mark.parametrize(
    ("bits", "check"),
    [(1, "dirty"), (2, "corrupt_flag"), (1 << 5, "unknown_features"), (1 << 63, "unknown_features")],
)
def test_feature_bits_have_their_checks(bits: int, check: str) -> None:
    assert checks_of(qcow2(GIB, incompatible=bits)) == [check]


def test_extended_l2_entries_are_known() -> None:
    image = qcow2(7 * MIB).patched(72, u64(1 << 4))
    assert checks_of(image) == []


@pytest.mark.parametrize("bits", [1, 2, 4, 1 << 63])
def test_version_2_has_no_feature_bits(bits: int) -> None:
    """In version 2, the same bytes are an extension or a name."""
    assert checks_of(qcow2(GIB, version=2).patched(72, u64(bits).rjust(8, b"\0"))) == []


@pytest.mark.parametrize("method", [1, 2])
def test_encryption_is_found(method: int) -> None:
    assert checks_of(qcow2(GIB, encryption=method)) == ["encrypted"]


def test_snapshots_are_information() -> None:
    facts = facts_of(qcow2(GIB, snapshots=3))
    assert [(finding.check, finding.severity) for finding in facts.findings] == [("snapshots", Severity.INFO)]
    assert facts.details["snapshots"] == 3


@pytest.mark.parametrize(
    ("at", "value"),
    [(20, u32(8)), (20, u32(22)), (20, u32(2**32 - 1)), (96, u32(7)), (100, u32(103)), (100, u32(2**31))],
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: bytes) -> None:
    facts = facts_of(qcow2(GIB).patched(at, value))
    assert [finding.check for finding in facts.findings] == ["structure"]
    assert facts.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (36, u32(2**30)),
        (40, u64(77)),
        (40, u64(0)),
        (48, u64(65537)),
        (48, u64(0)),
        (56, u32(0)),
    ],
)
def test_tables_that_cannot_be_are_contradictions(at: int, value: bytes) -> None:
    assert "structure" in checks_of(qcow2(GIB, allocated=2).patched(at, value))


@pytest.mark.parametrize(("at", "value"), [(40, u64(GIB)), (48, u64(GIB))])
def test_tables_beyond_the_end_are_missing(at: int, value: bytes) -> None:
    assert "truncated" in checks_of(qcow2(GIB, allocated=2).patched(at, value))


def test_every_cut_before_the_last_cluster_is_noticed() -> None:
    """The last used cluster must begin within the object, but qemu-img can leave it truncated."""
    image = qcow2(GIB, allocated=5)
    for size in range(512, image.size - 65536 + 1, 4096):
        assert "truncated" in checks_of(image.truncated(size)), size


def test_a_cluster_that_is_counted_and_never_pointed_to_may_be_missing() -> None:
    """e2image counts references to clusters that it does not write, after the end of the image."""
    image = qcow2(GIB, allocated=5)
    block = int.from_bytes(image.read(int.from_bytes(image.read(48, 8), "big"), 8), "big")
    counted = image.patched(block + 2 * (image.size // 65536 + 1), b"\0\1")
    assert [(one.check, one.severity) for one in facts_of(counted).findings] == [("truncated", Severity.INFO)]
    assert facts_of(counted).wholeness is Wholeness.PROVEN
    cut = facts_of(counted.truncated(image.size - 65536))
    assert ("truncated", Severity.ERROR) in [(one.check, one.severity) for one in cut.findings]


@pytest.mark.parametrize("size", [8, 71, 103])
def test_an_object_that_ends_in_the_header_is_truncated(size: int) -> None:
    assert checks_of(qcow2(GIB).truncated(size)) == ["truncated"]


@pytest.mark.parametrize("cluster_bits", [9, 12, 16, 17])
def test_wholeness_is_proven_where_a_refcount_block_is_read_whole(cluster_bits: int) -> None:
    assert facts_of(qcow2(MIB, cluster_bits=cluster_bits, allocated=3)).wholeness is Wholeness.PROVEN


def test_wholeness_is_sampled_where_a_refcount_block_is_larger() -> None:
    assert facts_of(qcow2(GIB, cluster_bits=21, allocated=3)).wholeness is Wholeness.SAMPLED


@pytest.mark.parametrize("version", [0, 4, 2**32 - 1])
def test_other_versions_are_not_qcow2(version: int) -> None:
    assert facts_of(qcow2(GIB).patched(4, u32(version))).format is None


def test_memory_stays_bounded_whatever_the_header_claims() -> None:
    from keyhole.inspectors import Inspection

    image = qcow2(GIB, backing_file="x").patched(16, u32(2**32 - 1)).patched(56, u32(2**32 - 1))
    inspection = Inspection()
    inspection.feed(0, image.to_bytes())
    assert all(gap.length <= 128 * 1024 for gap in inspection.missing())
    assert sum(inspection.context_info.values()) < 640 * 1024


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (24, u64(GIB + 1)),
        (48, u64(65536) + u32(129)),
        (60, u32(65537)),
        (60, u32(1) + u64(77)),
        (60, u32(1) + u64(0)),
        (104, b"\1"),
        (72, u64(1 << 3)),
    ],
    ids=[
        "size",
        "refcount table",
        "many snapshots",
        "snapshot table",
        "no snapshot table",
        "zstd",
        "not zstd",
    ],
)
def test_what_qemu_refuses_is_a_contradiction(at: int, value: bytes) -> None:
    assert "structure" in checks_of(qcow2(GIB).patched(at, value))


def test_a_size_of_broken_sectors_is_a_contradiction() -> None:
    """QEMU rounds the size down."""
    assert checks_of(qcow2(GIB).patched(24, u64(GIB - 1))) == ["structure"]


def test_extended_l2_entries_need_clusters_of_16_kib() -> None:
    assert "structure" in checks_of(qcow2(MIB, cluster_bits=13).patched(72, u64(1 << 4)))


@pytest.mark.parametrize("length", [60_000, 2**31, 2**32 - 1])
def test_an_extension_that_does_not_fit_is_a_contradiction(length: int) -> None:
    """An extension that does not fit hides the extensions after it from some readers."""
    hidden = u32(0x44415441) + u32(8) + b"/etc/foo"
    image = qcow2(GIB).patched(112, u32(0x11111111) + u32(length) + hidden)
    assert checks_of(image) == ["structure"]


def test_extensions_without_end_are_a_contradiction() -> None:
    assert checks_of(qcow2(GIB, extensions=[(0x11111111, b"")] * 100)) == ["structure"]


def test_an_encryption_header_without_encryption_is_a_contradiction() -> None:
    assert checks_of(qcow2(GIB, extensions=[(0x0537BE77, bytes(16))])) == ["structure"]


@pytest.mark.parametrize("entry", [1, 65536 * 2 + 512])
def test_a_refcount_block_that_is_no_cluster_is_a_contradiction(entry: int) -> None:
    assert "structure" in checks_of(qcow2(GIB).patched(65536, u64(entry)))


def test_refcounts_that_count_nothing_prove_nothing() -> None:
    """If no cluster has a refcount, Keyhole would not notice that the image's end is missing."""
    image = qcow2(GIB, allocated=3)
    block = int.from_bytes(image.read(65536, 8), "big")
    facts = facts_of(image.patched(block, bytes(65536)))
    assert facts.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    ("entry", "check"), [(2**40, "truncated"), (512, "structure"), (2**56, "structure"), (1, "structure")]
)
def test_an_l1_table_near_the_header_must_lead_to_clusters_of_the_object(entry: int, check: str) -> None:
    image = qcow2(GIB, allocated=2)
    table = int.from_bytes(image.read(40, 8), "big")
    assert check in checks_of(image.patched(table + 8, u64(entry)))
    assert checks_of(image.patched(table + 8, bytes(8))) == []


def test_an_end_of_extensions_with_a_length_that_does_not_fit_is_a_contradiction() -> None:
    assert checks_of(qcow2(GIB, version=2).patched(72, u32(0) + u32(2**31))) == ["structure"]


def test_a_raw_external_file_without_one_is_a_contradiction() -> None:
    """The autoclear bit states that another file contains the raw disk, but the header names no such file."""
    assert checks_of(qcow2(GIB).patched(88, u64(2))) == ["structure"]
