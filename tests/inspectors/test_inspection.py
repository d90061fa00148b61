"""All inspectors at once: an object has one format, none, or two."""

from collections.abc import Callable
from itertools import combinations
from struct import pack

import pytest

from keyhole.builders import (
    Image,
    dmg,
    gpt_disk,
    mbr_disk,
    qcow2,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_sparse,
)
from keyhole.inspectors import ImageFormatError, Inspection
from tests.inspectors.inspecting import checks_of, facts_of

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
    assert (
        facts.findings[0].message
        == "the object is valid as qcow2 (header at byte 0) and vdi (header at byte 0) at once"
    )


def second_format(image: Image) -> str:
    """What the finding about an image says about the second format."""
    (message,) = [one.message for one in facts_of(image).findings if one.check == "ambiguous_format"]
    first, _, second = message.removesuffix(" at once").partition(" and ")
    assert first == "the object is valid as qcow2 (header at byte 0)"
    return second


@pytest.mark.parametrize(
    ("added", "second"),
    [
        (lambda one: one.patched(32768, b"\1CD001\1"), "iso (volume descriptor at byte 32768)"),
        (lambda one: one.appended(vhd_fixed(MIB).read(MIB, 512)), "vhd (footer at byte {size})"),
        (lambda one: one.appended(dmg(MIB).read(dmg(MIB).size - 512, 512)), "dmg (trailer at byte {size})"),
        (
            lambda one: one.patched(446, mbr_disk(MIB, [(0x83, 63, 100)]).read(446, 66)),
            "raw (dos partition table at the front)",
        ),
        (
            lambda one: one.patched(8192 + 1372, (0x00011954).to_bytes(4, "little")),
            "raw (ufs superblock at byte 8192)",
        ),
        (lambda one: one.appended(b"cdsaencr"), "encrypted dmg (mark at byte {size})"),
        (
            lambda one: one.appended(
                b"PK\1\2" + bytes(42) + pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0)
            ),
            "zip (end record at byte {size_46})",
        ),
    ],
    ids=["iso", "vhd", "dmg", "table", "volume", "encrypted dmg", "zip"],
)
def test_a_second_format_is_named_with_its_mark_and_the_place(
    added: Callable[[Image], Image], second: str
) -> None:
    image = qcow2(GIB, version=2)

    assert second_format(added(image)) == second.format(size=image.size, size_46=image.size + 46)


def test_two_volumes_in_one_are_named_with_their_superblocks() -> None:
    """The magic numbers of ReFS and UFS, from which libblkid recognises them."""
    image = Image.of(MIB, [(0, b"\0\0\0ReFS\0"), (8192 + 1372, (0x00011954).to_bytes(4, "little"))])

    (finding,) = [one for one in facts_of(image).findings if one.check == "ambiguous_format"]

    assert finding.message == "the volume has a ufs superblock at byte 8192 and a ReFS superblock at byte 0"


@pytest.mark.parametrize("image", [qcow2(GIB, version=2), vmdk_sparse(GIB), vdi(GIB), vhdx(GIB)], ids=str)
def test_an_image_that_is_a_partitioned_disk_as_well_is_a_finding(image: Image) -> None:
    partition = mbr_disk(MIB, [(0x83, 63, 100)]).read(446, 66)
    assert "ambiguous_format" in checks_of(image.patched(446, partition))


@pytest.mark.parametrize(
    "image", [qcow2(GIB), vdi(GIB), vmdk_sparse(GIB), vhdx(GIB)], ids=["qcow2", "vdi", "vmdk", "vhdx"]
)
@pytest.mark.parametrize(
    "trailer",
    [vhd_fixed(MIB).read(MIB, 512), dmg(MIB).read(dmg(MIB).size - 512, 512)],
    ids=["vhd", "dmg"],
)
def test_a_trailer_behind_an_image_known_by_its_front_is_another_format(image: Image, trailer: bytes) -> None:
    """Some readers look for the format at the end: with `-f vpc`, or because of the object's suffix."""
    assert "ambiguous_format" in checks_of(image.appended(trailer))


def test_a_footer_at_both_ends_of_a_dynamic_vhd_is_one_format() -> None:
    assert facts_of(vhd_dynamic(GIB, allocated=3)).findings == ()


def test_what_is_wanted_shrinks_to_the_formats_that_can_match() -> None:
    inspection = Inspection()
    assert inspection.missing()
    image = vdi(GIB, allocated=3)
    inspection.feed(0, image.read(0, 512))
    inspection.finish(image.size)
    names = {name.partition(":")[0] for name in inspection.context_info}
    assert names == {"vdi", "vmdk", "vhd", "dmg", "iso", "raw", "unsupported"}
    wanted = {gap for gap in inspection.missing() if gap.end > 256 * 1024}
    assert {gap.end for gap in wanted} == {image.size}


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


TEXT_DESCRIPTOR = b'version=1\ncreateType="monolithicFlat"\nRW 9 FLAT "/x" 0\n'
FOREIGN = {
    "qcow": b"QFI\xfb\0\0\0\1",
    "qcow2 of a version to come": b"QFI\xfb\0\0\0\4",
    "qed": b"QED\0",
    "vmdk cowd": b"COWD",
    "vmdk descriptor": TEXT_DESCRIPTOR,
    "vmdk descriptor behind a comment": b"# a comment\n \r\nversion=3\r\n",
    "vmdk descriptor by its first line": b"# Disk DescriptorFile",
    "sesparse": (0xCAFEBABE).to_bytes(8, "little"),
    "parallels": b"WithoutFreeSpace",
    "parallels ext": b"WithouFreSpacExt",
    "luks": b"LUKS\xba\xbe\0\1",
    "bochs": b"Bochs Virtual HD Image\0",
    "cloop": b"#!/bin/sh\n#V2.0 Format\n",
    "ewf": b"EVF\t\r\n\xff\0",
    "gzip": b"\x1f\x8b\x08",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh91AY&SY",
}
#: Formats that do not use the first bytes of the object.
FREE_FRONTS = {
    "mbr": mbr_disk(4 * MIB),
    "gpt": gpt_disk(4 * MIB),
    "fixed vhd": vhd_fixed(4 * MIB, content=mbr_disk(4 * MIB)),
    "vdi": vdi(4 * MIB),
}


@pytest.mark.parametrize("front", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("image", FREE_FRONTS.values(), ids=FREE_FRONTS)
def test_an_image_that_begins_as_another_format_is_two_at_once(image: Image, front: bytes) -> None:
    """A reader that detects the format by the first bytes finds the other image.

    So such a "raw" disk makes QEMU open every file that this image names.
    """
    assert "ambiguous_format" in checks_of(image.patched(0, front))


@pytest.mark.parametrize("image", FREE_FRONTS.values(), ids=FREE_FRONTS)
def test_an_image_that_is_a_tar_archive_as_well_is_two_at_once(image: Image) -> None:
    assert "ambiguous_format" in checks_of(image.patched(257, b"ustar"))


@pytest.mark.parametrize("front", [b"", b"\xeb\x63\x90", b"\x33\xc0\x8e\xd0", b"#", b"version"])
def test_boot_code_is_no_foreign_format(front: bytes) -> None:
    assert checks_of(mbr_disk(4 * MIB).patched(0, front)) == []


def test_a_disk_with_the_trailer_of_an_apple_disk_image_is_that_and_damaged() -> None:
    """The disk of a whole DMG is its content.

    If the trailer leads nowhere, the object is a damaged DMG, and not a raw disk.
    """
    facts = facts_of(mbr_disk(4 * MIB).patched(4 * MIB - 512, b"koly"))
    assert facts.format == "dmg"
    assert "structure" in {finding.check for finding in facts.findings}


def test_a_closed_inspection_holds_no_bytes() -> None:
    image = qcow2(GIB)
    inspection = Inspection()
    inspection.finish(image.size)
    inspection.feed(0, image.read(0, MIB))
    assert sum(inspection.context_info.values()) > 0
    inspection.close()
    assert sum(inspection.context_info.values()) == 0
