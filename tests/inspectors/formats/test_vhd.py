"""VHD: fixed, dynamic and differencing, recognised by the footer and its copy at the front."""

from math import prod

import pytest

from keyhole.builders import Image, gpt_disk, mbr_disk, vhd_dynamic, vhd_fixed, vhd_geometry
from keyhole.inspectors import Wholeness
from keyhole.inspectors.readers import READERS
from tests.inspectors.formats.vhds import with_footer
from tests.inspectors.inspecting import checks_of, facts_of

MIB, GIB = 1024**2, 1024**3
#: The size of the largest geometry below 513 MiB, in bytes.
GEOMETRY = prod(vhd_geometry(513 * MIB // 512)) * 512


@pytest.mark.parametrize("size", [7 * MIB, 513 * MIB, 40 * GIB])
def test_a_good_dynamic_image_is_whole(size: int) -> None:
    facts = facts_of(vhd_dynamic(size, allocated=2))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vhd", "dynamic", size)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize("footer_size", [511, 512])
def test_a_good_fixed_image_is_whole_and_no_raw_disk(footer_size: int) -> None:
    facts = facts_of(vhd_fixed(7 * MIB, footer_size=footer_size))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vhd", "fixed", 7 * MIB)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize(("disk", "content"), [(mbr_disk, "dos"), (gpt_disk, "gpt")])
def test_the_disk_on_a_fixed_image_is_its_content(disk: object, content: str) -> None:
    assert callable(disk)
    facts = facts_of(vhd_fixed(8 * MIB, content=disk(8 * MIB)))
    assert facts.format == "vhd"
    assert facts.content == (content,)
    assert facts.findings == ()


@pytest.mark.parametrize("creator", [b"vpc ", b"qemu"])
def test_the_geometry_counts_for_the_oldest_creators(creator: bytes) -> None:
    facts = facts_of(vhd_dynamic(513 * MIB, creator=creator))
    assert facts.virtual_size == facts.details["geometry_size"] == GEOMETRY
    assert facts.virtual_size_by("qemu-9") == GEOMETRY
    assert facts.virtual_size_by("hyper-v") == facts.details["current_size"] == 513 * MIB


@pytest.mark.parametrize("creator", [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"])
def test_the_current_size_counts_for_creators_that_every_reader_knows(creator: bytes) -> None:
    facts = facts_of(vhd_dynamic(513 * MIB, creator=creator))
    assert [facts.virtual_size_by(reader) for reader in READERS] == [513 * MIB] * 3


@pytest.mark.parametrize(
    "creator", [b"dutl", b"vbox", b"xo  ", b"caml", b"86Bx", b"wa\0\0", b"tap ", b"\0\0\0\0"]
)
def test_only_older_versions_of_qemu_go_by_the_geometry_of_other_creators(creator: bytes) -> None:
    facts = facts_of(vhd_dynamic(513 * MIB, creator=creator))
    assert (facts.virtual_size, facts.findings) == (513 * MIB, ())
    assert facts.virtual_size_by("qemu-9") == facts.details["geometry_size"] == GEOMETRY
    assert facts.virtual_size_by("hyper-v") == facts.details["current_size"] == 513 * MIB


def test_the_size_field_counts_at_the_largest_geometry() -> None:
    assert facts_of(vhd_dynamic(512 * GIB, creator=b"vpc ")).virtual_size == 512 * GIB


def test_the_current_size_counts_and_not_the_original() -> None:
    grown = with_footer(vhd_dynamic(GIB), 40, (7 * MIB).to_bytes(8, "big"))
    facts = facts_of(grown)
    assert facts.virtual_size == GIB
    assert facts.details["original_size"] == 7 * MIB
    assert facts.findings == ()


def test_a_differencing_image_needs_its_parent() -> None:
    facts = facts_of(vhd_dynamic(GIB, parent_name="base.vhd"))
    assert facts.subformat == "differencing"
    assert [finding.check for finding in facts.findings] == ["parent_image"]


def test_a_saved_state_is_found() -> None:
    assert checks_of(with_footer(vhd_dynamic(GIB), 84, b"\1")) == ["saved_state"]


def test_an_unknown_type_is_found() -> None:
    assert checks_of(with_footer(vhd_dynamic(GIB), 60, (9).to_bytes(4, "big"))) == ["unknown_features"]


def test_a_wrong_checksum_is_found() -> None:
    image = vhd_dynamic(GIB)
    wrong = image.patched(64, bytes(4)).patched(image.size - 512 + 64, bytes(4))
    assert checks_of(wrong) == ["checksum_mismatch"]


def test_footers_that_differ_contradict_each_other() -> None:
    image = vhd_dynamic(GIB)
    assert checks_of(with_footer(image, 68, b"another uuid....", only=image.size - 512)) == ["structure"]


def test_every_cut_of_a_dynamic_image_is_noticed() -> None:
    image = vhd_dynamic(7 * MIB, block_size=MIB, allocated=2)
    # With one byte less, the footer has 511 bytes, as old versions wrote it, and no needed byte is missing.
    for size in [*range(512, image.size, 65536), image.size - 2, image.size - 511]:
        assert set(checks_of(image.truncated(size))) == {"truncated"}, size


def test_bytes_behind_the_footer_hide_it() -> None:
    assert checks_of(vhd_dynamic(GIB).appended(bytes(4096))) == ["truncated"]


def test_a_fixed_image_that_lost_its_middle_is_found_by_its_size() -> None:
    image = vhd_fixed(7 * MIB)
    shorter = Image.of(3 * MIB + 512, [(3 * MIB, image.read(7 * MIB, 512))])
    facts = facts_of(shorter)
    assert [finding.check for finding in facts.findings] == ["size_mismatch"]
    assert facts.wholeness is Wholeness.UNCHECKED


def test_a_fixed_image_without_its_footer_is_no_vhd() -> None:
    assert facts_of(vhd_fixed(7 * MIB).truncated(7 * MIB)).format is None


@pytest.mark.parametrize("size", [9, 100, 510])
def test_an_object_that_ends_in_the_first_footer_is_truncated(size: int) -> None:
    assert checks_of(vhd_dynamic(GIB).truncated(size)) == ["truncated"]


def with_dynamic_header(image: Image, at: int, value: bytes) -> Image:
    """Change the dynamic header, and correct its checksum."""
    header = bytearray(image.read(512, 1024))
    header[at : at + len(value)] = value
    header[36:40] = bytes(4)
    header[36:40] = (~sum(header) & 0xFFFFFFFF).to_bytes(4, "big")
    return image.patched(512, bytes(header))


def test_a_fixed_type_in_front_is_a_contradiction() -> None:
    """QEMU opens every file that begins with a footer as a dynamic image, whatever its type."""
    image = with_footer(vhd_dynamic(7 * MIB, allocated=1), 60, (2).to_bytes(4, "big"))
    size = (image.size - 512).to_bytes(8, "big")
    assert checks_of(with_footer(image, 48, size)) == ["structure"]


@pytest.mark.parametrize(
    ("size", "creator", "readers"),
    [
        (100 * GIB, b"vpc ", ("qemu-10", "qemu-9")),
        (GIB + 8 * MIB, b"vbox", ("qemu-9",)),
        (100 * GIB, b"win ", None),
        (0, b"vpc ", ()),
        (0, b"win ", ()),
    ],
)
def test_a_geometry_far_from_the_size_concerns_the_readers_that_go_by_it(
    size: int, creator: bytes, readers: tuple[str, ...] | None
) -> None:
    image = with_footer(vhd_dynamic(GIB, block_size=MIB, creator=creator), 48, size.to_bytes(8, "big"))
    found = [one.readers for one in facts_of(image).findings if "geometry" in one.message]
    assert found == ([] if readers is None else [readers])


def test_readers_that_go_by_the_geometry_cannot_open_a_geometry_of_nothing() -> None:
    facts = facts_of(with_footer(vhd_dynamic(GIB, creator=b"vbox"), 56, bytes(4)))
    assert (facts.virtual_size, facts.virtual_size_by("qemu-9")) == (GIB, None)
    assert [(one.check, one.readers) for one in facts.findings] == [("size_mismatch", ("qemu-9",))]


def test_what_only_some_readers_see_says_nothing_of_wholeness() -> None:
    facts = facts_of(with_footer(vhd_dynamic(GIB, creator=b"vbox"), 56, bytes(4)))
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (0, b"CXSPARSE", "structure"),
        (28, (1).to_bytes(4, "big"), "size_mismatch"),
        (32, (3 * MIB).to_bytes(4, "big"), "structure"),
        (32, bytes(4), "structure"),
        (16, (2**40).to_bytes(8, "big"), "truncated"),
    ],
)
def test_a_dynamic_header_has_its_checks(at: int, value: bytes, check: str) -> None:
    assert check in checks_of(with_dynamic_header(vhd_dynamic(GIB, allocated=2), at, value))


def test_a_dynamic_header_with_a_wrong_checksum_is_found() -> None:
    assert checks_of(vhd_dynamic(GIB).patched(512 + 36, bytes(4))) == ["checksum_mismatch"]


def test_a_dynamic_header_beyond_the_end_is_missing() -> None:
    image = with_footer(vhd_dynamic(GIB), 16, (2**40).to_bytes(8, "big"))
    assert checks_of(image) == ["truncated"]


def test_an_image_that_lost_its_middle_is_found_by_its_block_table() -> None:
    """Both footers exist and agree, so only the block table shows the loss."""
    image = vhd_dynamic(8 * MIB, block_size=MIB, allocated=3)
    shorter = image.truncated(image.size - 512 - MIB).appended(image.read(image.size - 512, 512))
    assert checks_of(shorter) == ["truncated"]


def test_a_disk_beyond_the_formats_limit_is_a_contradiction() -> None:
    assert "structure" in checks_of(vhd_dynamic(2041 * GIB))
