"""VMDK: the sparse header, the descriptor after it, and the map of its grains."""

import pytest

from keyhole.builders import vmdk_sparse, vmdk_stream_optimized
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.vmdk.descriptor import parse
from tests.inspectors.inspecting import checks_of, facts_of

MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize("size", [7 * MIB, 513 * MIB, 10 * GIB])
def test_a_good_sparse_image_is_whole(size: int) -> None:
    facts = facts_of(vmdk_sparse(size, allocated=3))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vmdk", "monolithicSparse", size)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


def test_of_many_grain_tables_some_are_a_sample() -> None:
    facts = facts_of(vmdk_sparse(100 * GIB, allocated=3))
    assert facts.wholeness is Wholeness.SAMPLED
    assert facts.findings == ()


@pytest.mark.parametrize("size", [7 * MIB, 513 * MIB, 64 * GIB])
def test_a_good_stream_optimized_image_is_whole(size: int) -> None:
    facts = facts_of(vmdk_stream_optimized(size, allocated=3))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vmdk", "streamOptimized", size)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize(
    "line",
    [
        'RW 2097152 FLAT "/etc/shadow" 0',
        'RW 2097152 FLAT "disk-flat.vmdk" 0',
        'RW 2097152 VMFS "disk-flat.vmdk"',
        'RDONLY 2097152 SPARSE "../other.vmdk"',
        'rw 2097152 sparse "C:\\\\windows\\\\disk.vmdk"',
        'RW 2097152 SPARSE "disk.vmdk"\nRW 1 FLAT "/etc/passwd" 0',
        'RW 2097152 SPARSE "disk.vmdk"\n\0\nRW 1 FLAT "/etc/passwd" 0',
    ],
)
def test_an_extent_that_is_another_file_is_found(line: str) -> None:
    assert "extent_path" in checks_of(vmdk_sparse(GIB, extent_line=line))


@pytest.mark.parametrize("line", ['RW 2097152 SPARSE "disk.vmdk"', 'RW 2097152 SPARSE "call me.vmdk"'])
def test_a_sparse_images_own_extent_is_no_finding(line: str) -> None:
    assert checks_of(vmdk_sparse(GIB, extent_line=line)) == []


def test_an_extent_in_a_comment_is_no_extent() -> None:
    assert checks_of(vmdk_sparse(GIB, extra_lines=['# RW 1 FLAT "/etc/passwd" 0'])) == []


@pytest.mark.parametrize("create_type", ["monolithicFlat", "vmfs", "twoGbMaxExtentFlat", "fullDevice"])
def test_a_sparse_header_with_a_flat_descriptor_is_found(create_type: str) -> None:
    """CVE-2022-47951: the header states a sparse image, and the descriptor names a file of the host."""
    image = vmdk_sparse(GIB, create_type=create_type, extent_line='RW 2097152 FLAT "/etc/shadow" 0')
    facts = facts_of(image)
    assert [finding.check for finding in facts.findings] == ["extent_path", "unsupported_subformat"]
    assert "/etc/shadow" in facts.findings[0].message
    assert facts.virtual_size is None


@pytest.mark.parametrize("case", ["monolithicsparse", "MonolithicSparse", "STREAMOPTIMIZED"])
def test_the_type_is_case_sensitive(case: str) -> None:
    assert "unsupported_subformat" in checks_of(vmdk_sparse(GIB, create_type=case))


def test_a_type_in_a_comment_is_no_type() -> None:
    image = vmdk_sparse(GIB, create_type="vmfs", extra_lines=['# createType="monolithicSparse"'])
    assert "unsupported_subformat" in checks_of(image)


def test_two_types_contradict_each_other() -> None:
    assert "structure" in checks_of(vmdk_sparse(GIB, extra_lines=['createType="vmfs"']))


def test_a_delta_image_needs_its_parent() -> None:
    assert checks_of(vmdk_sparse(GIB, parent_cid="1234abcd")) == ["parent_image"]
    assert checks_of(vmdk_sparse(GIB, parent_cid="FFFFFFFF")) == []
    assert checks_of(vmdk_sparse(GIB, extra_lines=['parentFileNameHint="/vmfs/base.vmdk"'])) == [
        "parent_image"
    ]


def test_a_change_tracking_file_is_found() -> None:
    assert checks_of(vmdk_sparse(GIB, extra_lines=['changeTrackPath="x-ctk.vmdk"'])) == ["change_track_path"]


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (4, (4).to_bytes(4, "little"), "unknown_features"),
        (72, b"\1", "dirty"),
        (20, bytes(8), "structure"),
        (20, (1).to_bytes(8, "little"), "structure"),
        (20, (96).to_bytes(8, "little"), "structure"),
        (36, (513).to_bytes(8, "little"), "structure"),
        (44, (513).to_bytes(4, "little"), "structure"),
        (44, (128).to_bytes(4, "little"), "structure"),
        (28, (7).to_bytes(8, "little"), "unsupported_subformat"),
        (36, (4096).to_bytes(8, "little"), "structure"),
        (12, bytes(8), "structure"),
        (56, (2**40).to_bytes(8, "little"), "truncated"),
    ],
)
def test_header_fields_have_their_checks(at: int, value: bytes, check: str) -> None:
    image = vmdk_sparse(GIB)
    if at == 56:
        image = image.patched(8, bytes(4))
    assert check in checks_of(image.patched(at, value))


def test_every_cut_of_a_sparse_image_is_noticed() -> None:
    image = vmdk_sparse(7 * MIB, allocated=5)
    for size in [100, 511, *range(512, image.size, 7000), image.size - 1]:
        assert "truncated" in checks_of(image.truncated(size)), size


@pytest.mark.slow
def test_every_cut_of_a_stream_optimized_image_is_noticed() -> None:
    image = vmdk_stream_optimized(7 * MIB, allocated=5)
    for size in [100, 511, *range(512, image.size, 97), image.size - 1]:
        assert "truncated" in checks_of(image.truncated(size)), size


def test_header_and_footer_of_different_capacities_are_found() -> None:
    image = vmdk_stream_optimized(GIB)
    other = image.patched(image.size - 1024 + 12, (7).to_bytes(8, "little"))
    facts = facts_of(other)
    assert facts.virtual_size == 7 * 512
    assert [finding.check for finding in facts.findings] == ["size_mismatch"]


def test_a_descriptor_is_read_with_any_line_ends_and_padding() -> None:
    for end in ("\n", "\r\n", "\r", "\n\n"):
        text = end.join(
            ["# Disk DescriptorFile", ' createType = "vmfs" ', 'RW 100 FLAT "a b" 0', "parentCID=1"]
        )
        parsed = parse(text.encode() + bytes(100))
        assert parsed.setting("createType") == "vmfs"
        assert parsed.setting("parentCID") == "1"
        assert [(extent.sectors, extent.kind, extent.file) for extent in parsed.extents] == [
            (100, "FLAT", "a b")
        ]


@pytest.mark.parametrize(
    "line",
    [
        '# parentFileNameHint="/etc/shadow"',
        'ddb.comment = "parentFileNameHint=x/etc/shadow"',
        'parentFileNameHint = "/etc/shadow"',
        'PARENTFILENAMEHINT="/etc/shadow"',
        "parentFileNameHint=''",
    ],
)
def test_a_parent_is_found_wherever_its_name_is_hinted_at(line: str) -> None:
    """QEMU opens the file after the word's first occurrence, even in a comment."""
    assert "parent_image" in checks_of(vmdk_sparse(GIB, extra_lines=[line]))


def test_a_parent_is_found_behind_the_descriptor_that_the_header_states() -> None:
    """QEMU reads 20 sectors from the second one, whatever length the header states for the descriptor."""
    for sectors in (1, 2, 19):
        image = vmdk_sparse(GIB).patched(36, sectors.to_bytes(8, "little"))
        assert checks_of(image) == []
        hinted = image.patched(512 + sectors * 512, b'parentFileNameHint="/etc/shadow"')
        assert checks_of(hinted) == ["parent_image"]


@pytest.mark.parametrize("line", ["PARENTCID=1234abcd", " parentCID = 1234abcd ", "parentCID=0xffffffff1"])
def test_a_parent_cid_is_read_in_any_case(line: str) -> None:
    assert "parent_image" in checks_of(vmdk_sparse(GIB, extra_lines=[line]))


def test_a_change_tracking_file_is_found_in_any_case() -> None:
    lines = ["CHANGETRACKPATH = /etc/shadow"]
    assert checks_of(vmdk_sparse(GIB, extra_lines=lines)) == ["change_track_path"]


@pytest.mark.parametrize(
    "line", ['# createType="vmfs"', 'x.createType="vmfs"', 'CREATETYPE="vmfs"', "createType"]
)
def test_a_type_that_another_reader_could_see_is_a_contradiction(line: str) -> None:
    """Readers search the text for the word, and use the first value that they find."""
    assert "structure" in checks_of(vmdk_sparse(GIB, extra_lines=[line]))


@pytest.mark.parametrize(
    "line",
    [
        'RW 00000000000000002097152 FLAT "/etc/shadow" 0',
        'RW -1 FLAT "/etc/shadow" 0',
        'RW 0x1000 FLAT "/etc/shadow" 0',
        "RW 2097152 SPARSE /etc/shadow",
        'RW 2097152 SPARSE "/etc/shadow',
        "RW",
        'RW "/etc/shadow"',
        'RW\t2097152\tFLAT\t"/etc/shadow"',
        'RW 2097152 SPARSE "disk.vmdk" "/etc/shadow"',
    ],
)
def test_an_extent_line_that_is_not_understood_is_found(line: str) -> None:
    """Another reader might understand the line."""
    assert "extent_path" in checks_of(vmdk_sparse(GIB, extent_line=line))


def test_an_extent_of_another_size_than_the_capacity_is_a_contradiction() -> None:
    """QEMU uses the capacity, and VirtualBox the extent's size."""
    line = 'RW {} SPARSE "disk.vmdk"'
    assert checks_of(vmdk_sparse(GIB, extent_line=line.format(4 * GIB // 512))) == ["size_mismatch"]
    # An extent whose size is rounded up to whole grains is no contradiction.
    assert checks_of(vmdk_sparse(GIB, extent_line=line.format(GIB // 512 - 100))) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (4, (1).to_bytes(4, "little")),
        (8, bytes(4)),
        (20, (64).to_bytes(8, "little")),
        (28, (40).to_bytes(8, "little")),
        (36, (40).to_bytes(8, "little")),
        (44, (256).to_bytes(4, "little")),
        (77, bytes(2)),
    ],
)
def test_a_footer_that_contradicts_the_header_is_found(at: int, value: bytes) -> None:
    """QEMU and VirtualBox use only the footer's header."""
    image = vmdk_stream_optimized(GIB, allocated=2)
    facts = facts_of(image.patched(image.size - 1024 + at, value))
    assert [finding.check for finding in facts.findings] == ["structure"]
    assert facts.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("sector", [2**20, 2**63, 2**64 - 1])
def test_a_footer_whose_directory_lies_beyond_the_end_is_found(sector: int) -> None:
    """The same finding results if an object has lost a part of its middle."""
    image = vmdk_stream_optimized(GIB, allocated=2)
    assert checks_of(image.patched(image.size - 1024 + 56, sector.to_bytes(8, "little"))) == ["truncated"]


def test_a_footer_that_no_whole_sectors_lead_to_is_found() -> None:
    """QEMU expects the footer at a multiple of the sector size, and so reads other bytes."""
    image = vmdk_stream_optimized(GIB, allocated=2)
    shifted = image.truncated(image.size - 1536).appended(bytes(77) + image.read(image.size - 1536, 1536))
    assert "structure" in checks_of(shifted)


def test_a_footer_marker_with_a_length_is_none() -> None:
    image = vmdk_stream_optimized(GIB)
    assert checks_of(image.patched(image.size - 1536 + 8, b"\1")) == ["truncated"]


def test_an_unclean_footer_is_found() -> None:
    image = vmdk_stream_optimized(GIB)
    assert checks_of(image.patched(image.size - 1024 + 72, b"\1")) == ["dirty"]


@pytest.mark.parametrize("compression", [1, 2, 65535])
def test_compression_without_its_flag_is_a_contradiction(compression: int) -> None:
    assert "structure" in checks_of(vmdk_sparse(GIB).patched(77, compression.to_bytes(2, "little")))


def test_a_stream_optimized_type_without_compression_is_a_contradiction() -> None:
    """QEMU recognises the type by the compression, and other readers by the descriptor."""
    assert checks_of(vmdk_sparse(GIB, create_type="streamOptimized")) == ["structure"]


def test_a_transfer_as_text_is_found() -> None:
    assert "structure" in checks_of(vmdk_sparse(GIB).patched(73, b"\r\n \r"))


def test_data_that_should_begin_beyond_the_end_is_missing() -> None:
    assert checks_of(vmdk_sparse(GIB).patched(64, (2**40).to_bytes(8, "little"))) == ["truncated"]


def test_both_grain_directories_must_lead_into_the_object() -> None:
    """QEMU uses the second directory for reading, and the first, redundant directory for repairs."""
    image = vmdk_sparse(GIB, allocated=3)
    directory = int.from_bytes(image.read(56, 8), "little") * 512
    assert checks_of(image.patched(directory, (2**31).to_bytes(4, "little"))) == ["truncated"]
    assert checks_of(image.patched(directory, bytes(4))) == ["structure"]
    assert checks_of(image.patched(56, (2**31).to_bytes(8, "little"))) == ["truncated"]
    assert checks_of(image.patched(56, (image.size // 512).to_bytes(8, "little"))) == ["truncated"]


def test_both_directories_must_lead_to_the_same_grains() -> None:
    image = vmdk_sparse(GIB, allocated=3)
    directory = int.from_bytes(image.read(56, 8), "little") * 512
    table = int.from_bytes(image.read(directory, 4), "little") * 512
    assert checks_of(image.patched(table + 4, bytes(4))) == ["structure"]


@pytest.mark.parametrize("sector", [1, 20])
def test_a_grain_table_over_the_descriptor_is_found(sector: int) -> None:
    image = vmdk_sparse(GIB, allocated=3)
    for at in (48, 56):
        directory = int.from_bytes(image.read(at, 8), "little") * 512
        assert "metadata_overlap" in checks_of(image.patched(directory + 4, sector.to_bytes(4, "little")))
