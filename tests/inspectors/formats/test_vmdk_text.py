"""VMDK texts: the finding of each check, for texts that fail it and for similar good texts."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, vmdk_flat_descriptor, vmdk_sparse
from keyhole.inspectors import Severity, Wholeness
from keyhole.inspectors.formats.vmdk.descriptor import MAX_EXTENTS, MAX_VALUES
from keyhole.inspectors.formats.vmdk.sparse import VMDKInspector
from keyhole.inspectors.formats.vmdk.text import MAX_FINDINGS, TYPES, VMDKTextInspector
from keyhole.inspectors.readers import VMDK_TEXT_BYTES
from tests.conftest import FACTS, QemuImages, QemuImg
from tests.inspectors import one_inspector
from tests.inspectors.feeding import Single, told_at_once

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

FLAT = 'RW 131072 FLAT "disk-flat.vmdk" 0'


def text_of(
    *lines: str,
    first: str = "# Disk DescriptorFile",
    version: str = "version=1",
    parent: str = "parentCID=ffffffff",
    create_type: str = 'createType="monolithicFlat"',
    extents: tuple[str, ...] = (FLAT,),
) -> str:
    """A descriptor from these lines."""
    return "\n".join([first, version, "CID=6b657968", parent, create_type, *extents, *lines, ""])


def image_of(text: str, *, padding: bytes = b"") -> Image:
    return vmdk_flat_descriptor(text).appended(padding)


inspected = partial(one_inspector.inspected, VMDKTextInspector)


checks_of = partial(one_inspector.checks_of, VMDKTextInspector)


def sound(*checks: str) -> list[str]:
    """The findings of a text with one extent, and these further findings."""
    return sorted(["extent_path", *checks])


def test_a_text_is_known_by_its_type_and_the_size_of_its_extents() -> None:
    inspector = inspected(image_of(text_of()))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == (
        "vmdk",
        "monolithicFlat",
        64 * MIB,
    )
    assert inspector.wholeness is Wholeness.UNCHECKED
    assert inspector.details() == {
        "version": "1",
        "create_type": "monolithicFlat",
        "extents": ["FLAT disk-flat.vmdk"],
    }


@pytest.mark.parametrize("create_type", sorted(TYPES - {"monolithicSparse", "streamOptimized"}))
def test_every_type_has_its_extents_named_and_nothing_more(create_type: str) -> None:
    inspector = inspected(image_of(text_of(create_type=f'createType="{create_type}"')))
    assert inspector.subformat == create_type
    assert [finding.check for finding in inspector.checks()] == ["extent_path"]


@pytest.mark.parametrize(
    "line",
    [
        'RW 2097152 FLAT "/etc/shadow" 0',
        'RDONLY 2097152 VMFS "/etc/shadow"',
        'NOACCESS 2097152 SPARSE "/etc/shadow"',
        'rw\t2097152\tvmfssparse\t"/etc/shadow"',
        '  RW 2097152 VMFSRDM "/etc/shadow"\r',
        'RW 2097152 SESPARSE "/etc/shadow"',
        'RW 2097152 FLAT "/etc/shadow" 63 partitionUUID 1234-abcd',
        'RW 2097152 ZERO "/etc/shadow"',
        'RW 2097152 UNHEARDOF "/etc/shadow"',
    ],
)
def test_an_extent_that_is_another_file_is_found_and_named(line: str) -> None:
    """CVE-2022-47951: the extent of the descriptor is a file of the host."""
    inspector = inspected(image_of(text_of(extents=(line,))))
    (finding,) = inspector.checks()
    assert (finding.check, finding.severity) == ("extent_path", Severity.CRITICAL)
    assert "'/etc/shadow'" in finding.message
    assert inspector.virtual_size == GIB


@pytest.mark.parametrize("kind", ["text", "sparse header"])
def test_cve_2022_47951_is_found_in_a_text_and_behind_a_sparse_header(kind: str) -> None:
    extent = 'RW 2097152 FLAT "/etc/shadow" 0'
    inspector: VMDKTextInspector | VMDKInspector
    if kind == "text":
        inspector, image = VMDKTextInspector(), image_of(text_of(extents=(extent,)))
    else:
        inspector, image = VMDKInspector(), vmdk_sparse(GIB, create_type="monolithicFlat", extent_line=extent)
    told_at_once(Single(inspector), image)
    assert inspector.format_match
    found = [finding for finding in inspector.checks() if finding.check == "extent_path"]
    assert [finding.severity for finding in found] == [Severity.CRITICAL]
    assert "/etc/shadow" in found[0].message


@pytest.mark.parametrize(
    "padding", [b"\0" * 700_000, b"\n" * 700_000, b"# \n" * 200_000, b"#" + b"x" * 700_000, b"\0# x\r" * 9]
)
def test_an_extent_behind_any_padding_is_found(padding: bytes) -> None:
    hidden = b'\nRW 1 FLAT "/etc/shadow" 0\n'
    inspector = inspected(image_of(text_of(), padding=padding + hidden))
    assert "'/etc/shadow'" in inspector.checks()[1].message
    assert inspector.virtual_size == 64 * MIB + 512


def test_the_last_line_that_counts_ends_where_qemu_stops() -> None:
    text = text_of().encode()
    hidden = b'\nRW 1 FLAT "/etc/shadow" 0'
    fits = image_of(text.decode(), padding=b"\n" * (VMDK_TEXT_BYTES - len(text) - len(hidden)) + hidden)
    assert fits.size == VMDK_TEXT_BYTES
    assert checks_of(fits) == ["extent_path", "extent_path"]
    assert checks_of(fits.appended(b"\n")) == ["extent_path", "extent_path", "structure"]


def test_extents_of_zeros_lie_nowhere_and_count() -> None:
    inspector = inspected(image_of(text_of(extents=("RW 100 ZERO", "RW 28 zero "))))
    assert inspector.checks() == []
    assert inspector.virtual_size == 128 * 512


def test_an_extent_in_a_comment_is_no_extent() -> None:
    assert checks_of(image_of(text_of('# RW 1 FLAT "/etc/passwd" 0', "RWX=1"))) == ["extent_path"]


@pytest.mark.parametrize(
    "line",
    ["RW", "RW x FLAT", 'RW 1 FLAT "unclosed', 'RW -1 FLAT "x" 0', f'RW {10**19} FLAT "x"', "RW\n100\nFLAT"],
)
def test_a_line_that_begins_like_an_extent_and_is_none_is_a_contradiction(line: str) -> None:
    assert sorted(checks_of(image_of(text_of(line)))) == sound("extent_path", "structure")


def test_many_extents_are_told_by_some() -> None:
    extents = tuple(f'RW 4194304 SPARSE "x-s{number:05}.vmdk"' for number in range(4000))
    inspector = inspected(image_of(text_of(extents=extents)))
    *_, last = findings = inspector.checks()
    assert {finding.check for finding in findings} == {"extent_path"}
    assert len(findings) == MAX_FINDINGS + 1
    assert last.message.startswith(f"{4000 - MAX_FINDINGS} more")
    assert inspector.virtual_size == 4000 * 2 * GIB


def test_more_extents_than_are_read_are_a_contradiction() -> None:
    assert checks_of(image_of(text_of(extents=("RW 1 ZERO",) * MAX_EXTENTS))) == []
    assert checks_of(image_of(text_of(extents=("RW 1 ZERO",) * (MAX_EXTENTS + 1)))) == ["structure"]


@pytest.mark.parametrize(
    ("sectors", "size", "checks"),
    [
        ((2**54 - 1,), 2**63 - 512, []),
        ((2**54,), 0, ["structure"]),
        ((2**53, 2**53), 0, ["structure"]),
        ((10**19 - 1,) * 900, 0, ["structure"]),
        ((0,), 0, []),
    ],
)
def test_a_size_beyond_what_a_disk_can_have_is_none(
    sectors: tuple[int, ...], size: int, checks: list[str]
) -> None:
    inspector = inspected(image_of(text_of(extents=tuple(f"RW {number} ZERO" for number in sectors))))
    assert inspector.virtual_size == size
    assert [finding.check for finding in inspector.checks()] == checks


@pytest.mark.parametrize(
    ("lines", "parent"),
    [
        ((), "parentCID=1234abcd"),
        (("parentCID=1234abcd",), "parentCID=ffffffff"),
        (('parentFileNameHint="/etc/shadow"',), "parentCID=ffffffff"),
        (('# parentFileNameHint="/etc/shadow"',), "parentCID=ffffffff"),
        (('PARENTFILENAMEHINT = "/etc/shadow"',), "parentCID=ffffffff"),
        (("parentFileNameHint=",), "parentCID=ffffffff"),
    ],
)
def test_a_parent_is_found(lines: tuple[str, ...], parent: str) -> None:
    assert sorted(checks_of(image_of(text_of(*lines, parent=parent)))) == sound("parent_image")


def test_a_parent_is_named() -> None:
    inspector = inspected(image_of(text_of('parentFileNameHint="/etc/shadow"', parent="parentCID=1234abcd")))
    assert "'/etc/shadow'" in inspector.checks()[0].message
    assert inspector.details()["parent_file_name_hint"] == "/etc/shadow"


@pytest.mark.parametrize("parent", ["parentCID=ffffffff", "parentCID = FFFFFFFF", "parentcid=ffffffff"])
def test_no_parent_is_no_finding(parent: str) -> None:
    assert checks_of(image_of(text_of(parent=parent))) == ["extent_path"]


def test_a_parent_behind_many_that_are_none_is_not_hidden() -> None:
    lines = ("parentCID=ffffffff",) * MAX_VALUES
    assert sorted(checks_of(image_of(text_of(*lines, "parentCID=1234abcd")))) == sound("structure")


def test_a_change_tracking_file_is_found() -> None:
    image = image_of(text_of('changeTrackPath="/etc/x-ctk.vmdk"', version="version=3"))
    assert checks_of(image) == sorted(sound("change_track_path"), reverse=True)
    assert "'/etc/x-ctk.vmdk'" in inspected(image).checks()[1].message
    assert checks_of(image_of(text_of('changeTrackPath=""'))) == ["extent_path"]


@pytest.mark.parametrize("create_type", ["", "createType=", 'createType=""', "# nothing"])
def test_a_text_without_a_type_is_a_contradiction(create_type: str) -> None:
    inspector = inspected(image_of(text_of(create_type=create_type)))
    assert inspector.subformat is None
    assert [finding.check for finding in inspector.checks()] == ["extent_path", "structure"]


@pytest.mark.parametrize("line", ['createType="vmfs"', '# createType="vmfs"', 'ddb.comment = "createType="'])
def test_two_types_are_a_contradiction(line: str) -> None:
    assert checks_of(image_of(text_of(line))) == ["extent_path", "structure"]


def test_the_same_type_twice_is_none() -> None:
    assert checks_of(image_of(text_of('createType="monolithicFlat"'))) == ["extent_path"]


def test_a_type_behind_many_that_agree_is_not_hidden() -> None:
    lines = ('createType="monolithicFlat"',) * MAX_VALUES
    assert checks_of(image_of(text_of(*lines, 'createType="vmfs"'))) == ["extent_path", "structure"]


@pytest.mark.parametrize("create_type", ["monolithicflat", "MonolithicFlat", "custom2"])
def test_a_type_is_case_sensitive(create_type: str) -> None:
    image = image_of(text_of(create_type=f'createType="{create_type}"'))
    assert checks_of(image) == ["extent_path", "unsupported_subformat"]


@pytest.mark.parametrize("create_type", ["monolithicSparse", "streamOptimized"])
def test_a_type_whose_descriptor_stands_in_its_extent_is_a_contradiction(create_type: str) -> None:
    image = image_of(text_of(create_type=f'createType="{create_type}"'))
    assert checks_of(image) == ["extent_path", "structure"]


def test_a_text_without_extents_is_a_contradiction() -> None:
    assert checks_of(image_of(text_of(extents=()))) == ["structure"]


@pytest.mark.parametrize(
    ("version", "checks"),
    [("version=2", []), ("version = 3", []), ("version=4", ["unknown_features"]), ("", ["structure"])],
)
def test_versions_have_their_checks(version: str, checks: list[str]) -> None:
    assert checks_of(image_of(text_of(version=version))) == ["extent_path", *checks]


@pytest.mark.parametrize(
    "front",
    [
        "# Disk DescriptorFile\nand then whatever",
        "# disk descriptorfile",
        "\n \r\n# Disk DescriptorFile",
        "version=1\n",
        "version=2\r\n",
        "VERSION = 3 \n",
        "# a comment\n   \n#another\r\n \r\nversion=1\n",
        "\ufeff# Disk DescriptorFile\n",
        "\ufeffversion=1\n",
    ],
)
def test_a_front_is_known(front: str) -> None:
    assert VMDKTextInspector.matches_prefix(front.encode())
    assert inspected(image_of(front)).format_match


@pytest.mark.parametrize(
    "front",
    [
        "",
        "#",
        "# Disk Descriptor",
        "version=1",
        "version=4\n",
        "version=11\n",
        "versions=1\n",
        "a\nversion=1\n",
        "# a comment without an end version=1",
        "Disk DescriptorFile\n",
        "KDMV# Disk DescriptorFile",
    ],
)
def test_a_front_that_only_looks_like_it_is_another_formats(front: str) -> None:
    assert not VMDKTextInspector.matches_prefix(front.encode())
    inspector = inspected(image_of(front))
    assert not inspector.format_match
    assert inspector.checks() == []
    assert inspector.context_info.keys() == {"header"}


def test_a_mark_of_utf8_hides_nothing() -> None:
    """A reader that is told the format needs no first line. A reader that detects it skips the mark."""
    told = image_of("\ufeff" + text_of(first=FLAT, version="version=1"))
    assert not VMDKTextInspector.matches_prefix(told.read(0, 512))
    assert checks_of(told) == ["extent_path"]
    assert checks_of(image_of("\ufeff" + text_of())) == ["extent_path"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n"])
def test_lines_end_in_any_way(end: str) -> None:
    inspector = inspected(image_of(text_of('parentFileNameHint="x"').replace("\n", end)))
    assert inspector.subformat == "monolithicFlat"
    assert [finding.check for finding in inspector.checks()] == ["parent_image", "extent_path"]


def test_names_with_terminal_codes_are_shown_escaped() -> None:
    inspector = inspected(image_of(text_of(extents=('RW 1 FLAT "\x1b[2J" 0',))))
    assert inspector.details()["extents"] == ["FLAT \\x1b[2J"]


@pytest.mark.parametrize("name", ["x" * 5000, "\\" * 5000, "'" * 5000, "\x01" * 5000])
def test_a_name_of_any_length_makes_a_message_that_can_be_read(name: str) -> None:
    lines = (f'parentFileNameHint="{name}"', f'changeTrackPath="{name}"')
    image = image_of(text_of(*lines, extents=(f'RW 1 FLAT "{name}" 0', f"RW {name}")))
    assert all(len(finding.message) < 2048 for finding in inspected(image).checks())


@pytest.mark.qemu
@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
@pytest.mark.parametrize("size", ["64M", "5G"])
def test_qemu_says_the_same_size(subformat: str, size: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    qemu_img.run("create", "-f", "vmdk", "-o", f"subformat={subformat}", path, size)
    inspector = inspected(image_of(path.read_text()))
    facts = qemu_img(path)
    assert facts["format"] == "vmdk"
    assert inspector.virtual_size == facts["virtual-size"]
    assert inspector.subformat == facts["format-specific"]["data"]["create-type"] == subformat
    extents = facts["format-specific"]["data"]["extents"]
    assert len(extents) == len(inspector.checks()) == len(inspector.details()["extents"])  # type: ignore[arg-type]  # a list


@pytest.mark.parametrize("name", ["flat.vmdk", "split-sparse.vmdk"])
def test_a_text_that_qemu_made_is_what_qemu_says(qemu_images: QemuImages, name: str) -> None:
    inspector = inspected(image_of(qemu_images[name].path.read_text()))
    assert inspector.virtual_size == FACTS[name]["virtual_size"]
    assert inspector.subformat == FACTS[name]["create_type"]
    assert {finding.check for finding in inspector.checks()} == {"extent_path"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b'RW 1 FLAT "a" 0\n',
        b"RW\n",
        b"RW 1 ZERO\n",
        b"RW 1 FLAT   ",
        b'RW 1 FLAT "a" 0   ',
        b"createType",
        b"parentCID=1\n",
        b" ",
        b"#",
        b"\0",
        b"version",
        b"\r",
        b'"',
    ],
)
@pytest.mark.parametrize(
    "front", [b"version=1\n", b'version=1\nRW 1 FLAT "a" 0', b"# Disk DescriptorFile RW 1"]
)
def test_a_text_of_a_mebibyte_is_read_in_linear_time(line: bytes, front: bytes) -> None:
    """A pattern that takes quadratic time would need 2^39 steps, so this test would take hours."""
    data = (front + line * (MIB // len(line)))[:VMDK_TEXT_BYTES]
    inspector = inspected(Image.of(len(data), [(0, data)]))
    assert len(inspector.checks()) < 100
    inspector.details()


def test_every_cut_of_a_text_is_some_text_or_another_format() -> None:
    image = image_of(text_of('parentFileNameHint="base.vmdk"'))
    for size in range(image.size):
        inspector = inspected(image.truncated(size))
        assert inspector.wholeness is Wholeness.UNCHECKED
        assert bool(inspector.checks()) == inspector.format_match == (size >= 21)


@given(st.binary(max_size=3000), st.sampled_from([b"version=1\n", b"# Disk DescriptorFile", b"RW 1 FLAT "]))
def test_any_bytes_behind_the_first_line_raise_nothing(noise: bytes, line: bytes) -> None:
    data = b"version=1\n" + line + noise + line
    inspector = inspected(Image.of(len(data), [(0, data)]))
    assert inspector.format_match
    inspector.checks()
    inspector.details()
