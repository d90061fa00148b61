"""All inspectors at once: one format, none, or two."""

from itertools import combinations

import pytest

from tests.inspectors.inspecting import checks_of, facts_of
from worker.demo.images import Image, mbr_disk, qcow2, vdi, vhd_fixed, vhdx, vmdk_sparse
from worker.inspectors import ImageFormatError, Inspection

MIB, GIB = 1024**2, 1024**3
MARKS = {
    "qcow2": (0, b"QFI\xfb\0\0\0\2"),
    "vhdx": (0, b"vhdxfile"),
    "vdi": (0x40, (0xBEDA107F).to_bytes(4, "little")),
}


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"text\n" * 100, b"%PDF-1.7", bytes(100_000), b"\xff" * 3000, b"QFI\xfb", b"conecti"]
)
def test_what_is_no_disk_image_is_nothing(data: bytes) -> None:
    facts = facts_of(Image.of(len(data), [(0, data)] if data else []))
    assert facts.format is None
    assert facts.virtual_size is None
    assert facts.actual_size == len(data)
    assert facts.findings == ()
    assert facts.complete


def test_two_formats_in_one_front_are_a_finding() -> None:
    facts = facts_of(qcow2(GIB, version=2).patched(*MARKS["vdi"]))
    assert facts.format == "qcow2"
    assert facts.findings[0].check == "ambiguous_format"
    assert "qcow2 and vdi" in facts.findings[0].message


@pytest.mark.parametrize("image", [qcow2(GIB, version=2), vmdk_sparse(GIB), vdi(GIB), vhdx(GIB)], ids=str)
def test_an_image_that_is_a_partitioned_disk_as_well_is_a_finding(image: Image) -> None:
    partition = mbr_disk(MIB, [(0x83, 63, 100)]).read(446, 66)
    assert "ambiguous_format" in checks_of(image.patched(446, partition))


def test_a_footer_behind_an_image_known_by_its_front_is_not_looked_for() -> None:
    """It spares a request for every such image; whoever takes it for a VHD contradicts the verdict."""
    footer = vhd_fixed(MIB).read(MIB, 512)
    facts = facts_of(qcow2(GIB).appended(footer))
    assert facts.format == "qcow2"
    assert facts.findings == ()


def test_what_is_wanted_shrinks_to_the_formats_that_can_match() -> None:
    inspection = Inspection()
    assert inspection.missing()
    inspection.feed(0, vdi(GIB).read(0, 512))
    inspection.finish(vdi(GIB).size)
    assert not any(name.startswith(("qcow2", "vhd:", "vmdk")) for name in inspection.context_info)
    assert sum(gap.length for gap in inspection.missing()) < 1024


def test_an_inspector_that_an_image_breaks_is_a_finding_and_not_an_error() -> None:
    image = vhdx(GIB).patched(2 * MIB, b"METADATA")
    facts = facts_of(image)
    assert facts.format == "vhdx"
    assert facts.wholeness.value == "unchecked"
    assert [finding.check for finding in facts.findings] == ["structure"]


def test_nothing_that_is_fed_raises() -> None:
    image = vhdx(GIB).patched(2 * MIB, b"METADATA")
    inspection = Inspection()
    try:
        inspection.feed(0, image.to_bytes())
    except ImageFormatError as error:
        pytest.fail(f"it is the inspectors' to raise and the inspection's to keep: {error}")


@pytest.mark.parametrize(
    ("one", "other"), list(combinations([qcow2(MIB), vdi(MIB), vmdk_sparse(MIB)], 2)), ids=str
)
def test_inspections_do_not_share_anything(one: Image, other: Image) -> None:
    assert facts_of(one) == facts_of(one)
    assert facts_of(one).format != facts_of(other).format
