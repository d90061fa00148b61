"""The CVEs of disk images by name: an image as an attacker would make it, and Keyhole's verdict.

Next to each is a similar image that is safe.
"""

from struct import pack

import pytest

from keyhole.builders import (
    Image,
    bochs,
    cloop,
    cowd,
    dmg,
    ewf,
    gpt_disk,
    luks,
    luks2,
    mbr_disk,
    parallels,
    qcow1,
    qcow2,
    qed,
    sesparse,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_flat_descriptor,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.inspectors import Facts
from keyhole.reasons import Status
from keyhole.scan.declared import Declared
from keyhole.scan.policy import apply, judge
from keyhole.scan.rules import Rule
from tests.inspectors.inspecting import facts_of
from tests.inspectors.laws import exhaust

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
SECRET = "/etc/shadow"
#: A typical disk, with unused space after the boot sector.
DISK = mbr_disk(64 * MIB)


def flat_descriptor(file: str = SECRET, parent: str = "") -> str:
    """The text of a VMDK whose content is a file of the host."""
    hint = f'parentFileNameHint="{parent}"\n' if parent else ""
    return (
        "# Disk DescriptorFile\nversion=1\nCID=6b657968\nparentCID=ffffffff\n"
        f'{hint}createType="monolithicFlat"\nRW 131072 FLAT "{file}" 0\n'
    )


def written_over(disk: Image, image: Image) -> Image:
    """A guest's disk. The guest has overwritten its beginning with an image."""
    end = max(at + len(data) for at, data in image.pieces)
    return disk.patched(0, image.read(0, end))


def reasons_of(image: Image) -> tuple[Status, tuple[str, ...]]:
    """The reasons of the verdict on an image."""
    return judge(facts_of(image))


def check_safe(image: Image) -> Facts:
    """Return the facts about an image. Assert that it is safe and that there are no findings."""
    facts = facts_of(image)
    assert judge(facts) == (Status.SAFE, ())
    assert facts.findings == ()
    return facts


def judged_by(rule: Rule, facts: Facts, declared: Declared | None = None) -> tuple[Status, tuple[str, ...]]:
    """The verdict on an object with this declared format, by an importer's rule."""
    return judge(apply(rule, facts, declared or Declared()), rule=rule)


# A backing file makes QEMU read a file of the host.

BACKED = {
    "qcow2 version 3": qcow2(GIB, backing_file=SECRET),
    "qcow2 version 3, with its format": qcow2(GIB, backing_file=SECRET, backing_format="raw"),
    "qcow2 version 2": qcow2(GIB, version=2, backing_file=SECRET),
    "qcow2 version 2, with its format": qcow2(GIB, version=2, backing_file=SECRET, backing_format="raw"),
    "qcow": qcow1(GIB, backing_file=SECRET),
    "qed": qed(GIB, backing_file=SECRET),
    "qed, not to be probed": qed(GIB, backing_file=SECRET, features=4),
}


@pytest.mark.parametrize("name", BACKED)
def test_cve_2015_5163_an_image_with_a_backing_file_is_not_imported(name: str) -> None:
    facts = facts_of(BACKED[name])
    assert judge(facts) == (Status.UNSAFE, ("backing_file",))
    assert facts.details["backing_file"] == SECRET


@pytest.mark.parametrize(
    "image",
    [
        vmdk_sparse(GIB, parent_cid="12345678"),
        vmdk_sparse(GIB, extra_lines=[f'parentFileNameHint="{SECRET}"']),
        vmdk_sparse(GIB, extra_lines=[f'# parentFileNameHint="{SECRET}"']),
        cowd(GIB, parent=SECRET),
        vhd_dynamic(GIB, parent_name="shadow"),
        vhdx(GIB, parent=r"\\host\etc\shadow"),
        vdi(GIB, image_type=4),
    ],
)
def test_cve_2015_5163_nor_is_one_with_a_parent(image: Image) -> None:
    status, reasons = reasons_of(image)
    assert (status, reasons[0]) == (Status.UNSAFE, "parent_image")


@pytest.mark.parametrize(
    "image",
    [
        qcow2(GIB, allocated=1).patched(400, SECRET.encode()),
        qcow2(GIB).patched(16, pack(">I", len(SECRET))),
        qcow1(GIB, allocated=1).patched(16, pack(">I", len(SECRET))),
        qed(GIB).patched(56, pack("<II", 64, len(SECRET)) + SECRET.encode()),
        vmdk_sparse(GIB, extra_lines=['ddb.comment = "no parent"']),
        DISK.patched(4096, qcow2(MIB, backing_file=SECRET).read(0, 512)),
    ],
    ids=["name unused", "length without a name", "qcow", "qed without the feature", "vmdk", "raw"],
)
def test_cve_2015_5163_a_name_that_no_reader_follows_is_no_backing_file(image: Image) -> None:
    check_safe(image)


@pytest.mark.parametrize("name", BACKED)
def test_cve_2015_1851_a_volume_that_a_guest_made_an_image_is_not_a_volume(name: str) -> None:
    """The guest writes an image's header over its raw volume. The volume is then uploaded as an image."""
    facts = facts_of(written_over(DISK, BACKED[name]))
    assert facts.format != "raw"
    assert judge(facts)[0] is Status.UNSAFE
    assert "backing_file" in judge(facts)[1]


def test_cve_2015_1851_a_header_within_a_partition_is_the_guests_own_affair() -> None:
    image = DISK.patched(2048 * 512, BACKED["qcow2 version 3"].read(0, 65536))
    assert check_safe(image).format == "raw"


@pytest.mark.parametrize("name", BACKED)
def test_cve_2014_3641_a_partition_table_does_not_hide_a_header(name: str) -> None:
    """The boot signature stays in place, so readers that check only the signature see a disk."""
    image = written_over(mbr_disk(64 * MIB), BACKED[name]).patched(446, DISK.read(446, 66))
    status, reasons = reasons_of(image)
    assert status is Status.UNSAFE
    assert {"backing_file", "ambiguous_format"} <= set(reasons)


def test_cve_2014_3641_a_disk_without_a_header_is_a_disk() -> None:
    assert check_safe(DISK).format == "raw"


# The sizes that an image claims make a reader use memory or time.

ALL_ONES_4, ALL_ONES_8 = b"\xff" * 4, b"\xff" * 8
DMG = dmg(64 * MIB, allocated=1)
CLAIMS = {
    "qcow2 L1 entries": qcow2(GIB).patched(36, ALL_ONES_4),
    "qcow2 refcount table": qcow2(GIB).patched(56, ALL_ONES_4),
    "qcow2 snapshots": qcow2(GIB, snapshots=1).patched(60, ALL_ONES_4),
    "qcow2 virtual size": qcow2(GIB).patched(24, b"\x7f" + ALL_ONES_8[1:]),
    "qcow2 backing name": qcow2(GIB, backing_file=SECRET).patched(16, ALL_ONES_4),
    "qcow2 extension": qcow2(GIB, extensions=[(0x1234, b"")]).patched(116, ALL_ONES_4),
    "qcow2 header length": qcow2(GIB).patched(100, ALL_ONES_4),
    "qcow virtual size": qcow1(GIB).patched(24, b"\x7f" + ALL_ONES_8[1:]),
    "qed virtual size": qed(GIB).patched(48, ALL_ONES_8),
    "qed clusters": qed(GIB).patched(4, pack("<II", 1 << 26, 16)),
    "vhd block table": vhd_dynamic(GIB).patched(512 + 28, ALL_ONES_4),
    "vhd block size": vhd_dynamic(GIB).patched(512 + 32, pack(">I", 1 << 31)),
    "vhdx region table": vhdx(GIB).patched((192 << 10) + 8, ALL_ONES_4).patched((256 << 10) + 8, ALL_ONES_4),
    "vhdx metadata": vhdx(GIB).patched(2 * MIB + 10, b"\xff\xff"),
    "vmdk capacity": vmdk_sparse(GIB).patched(12, ALL_ONES_8),
    "vmdk grain size": vmdk_sparse(TIB).patched(20, pack("<Q", 1)),
    "vmdk grain table": vmdk_sparse(GIB).patched(44, ALL_ONES_4),
    "vmdk descriptor": vmdk_sparse(GIB).patched(36, ALL_ONES_8),
    "vmdk extents": vmdk_sparse(GIB, descriptor=(flat_descriptor() + 'RW 1 FLAT "x" 0\n' * 12000).encode()),
    "vdi blocks": vdi(GIB).patched(0x180, ALL_ONES_4 * 2),
    "vdi block size": vdi(GIB).patched(0x178, ALL_ONES_4),
    "parallels BAT": parallels(GIB).patched(32, ALL_ONES_4),
    "bochs catalog": bochs(GIB).patched(72, ALL_ONES_4),
    "cloop blocks": cloop(MIB).patched(128, pack(">II", 512, 0xFFFFFFFF)),
    "luks key": luks(MIB).patched(108, ALL_ONES_4),
    "luks2 metadata": luks2(MIB).patched(8, ALL_ONES_8),
    "dmg property list": DMG.patched(DMG.size - 512 + 224, ALL_ONES_8),
    "ewf section": ewf(MIB).patched(13 + 16, ALL_ONES_8 * 2),
    "cowd grain directory": cowd(GIB).patched(24, ALL_ONES_4),
    "sesparse capacity": sesparse(GIB).patched(16, ALL_ONES_8),
    "gpt entries": gpt_disk(64 * MIB).patched(512 + 80, ALL_ONES_8),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_cve_2015_5162_a_claimed_size_costs_neither_memory_nor_requests(name: str) -> None:
    """Whatever size the image claims, Keyhole requests as many ranges and bytes as for other images."""
    status, _ = judge(exhaust(CLAIMS[name]).facts())
    assert status in {Status.UNSAFE, Status.DAMAGED, Status.REJECTED}


LARGE = {
    "qcow2": (lambda: qcow2(64 * TIB, allocated=1), 64 * TIB),
    "qcow": (lambda: qcow1(16 * GIB, allocated=1), 16 * GIB),
    "qed": (lambda: qed(16 * TIB, allocated=1), 16 * TIB),
    "vhd": (lambda: vhd_dynamic(2040 * GIB, allocated=1), 2040 * GIB),
    "vhdx": (lambda: vhdx(64 * TIB, allocated=1), 64 * TIB),
    "vmdk": (lambda: vmdk_sparse(2 * TIB, allocated=1), 2 * TIB),
    "vmdk, compressed": (lambda: vmdk_stream_optimized(62 * TIB, allocated=1), 62 * TIB),
    "vdi": (lambda: vdi(16 * TIB, allocated=1), 16 * TIB),
    "parallels": (lambda: parallels(2 * TIB, allocated=1), 2 * TIB),
    "bochs": (lambda: bochs(TIB, allocated=1), TIB),
    "dmg": (lambda: dmg(64 * GIB, allocated=1), 64 * GIB),
}


@pytest.mark.parametrize("name", LARGE)
def test_cve_2015_5162_an_image_that_is_as_large_as_it_claims_costs_as_little(name: str) -> None:
    build, virtual_size = LARGE[name]
    image = build()
    facts = exhaust(image).facts()
    assert judge(facts) == (Status.SAFE, ())
    assert facts.virtual_size == virtual_size


# A few bytes become a disk of terabytes when a program writes the disk out.


@pytest.mark.parametrize("name", LARGE)
def test_cve_2013_2096_the_size_that_is_told_is_the_disks_and_not_the_files(name: str) -> None:
    build, virtual_size = LARGE[name]
    image = build()
    facts = facts_of(image)
    assert (facts.virtual_size, facts.actual_size) == (virtual_size, image.size)
    assert virtual_size > 40 * image.size


@pytest.mark.parametrize(
    ("image", "virtual_size"),
    [
        (vmdk_stream_optimized(62 * TIB, allocated=range(0, 992 * 512, 512)), 62 * TIB),
        (qcow1(4 * GIB, allocated=2000, compressed=True), 4 * GIB),
        (cloop(4 * GIB, allocated=1), 4 * GIB),
    ],
    ids=["vmdk", "qcow", "cloop"],
)
def test_cve_2013_4463_compression_hides_no_size(image: Image, virtual_size: int) -> None:
    facts = facts_of(image)
    assert facts.virtual_size == virtual_size
    assert virtual_size > 40 * image.size


@pytest.mark.parametrize("name", LARGE)
def test_cve_2013_4469_an_importers_limit_is_for_the_disk(name: str) -> None:
    build, virtual_size = LARGE[name]
    image = build()
    facts = facts_of(image)
    for limit in (virtual_size, image.size):
        expected = (Status.SAFE, ()) if limit == virtual_size else (Status.REJECTED, ("virtual_size_limit",))
        assert judged_by(Rule(max_virtual_size=limit), facts) == expected


@pytest.mark.parametrize("claimed", [1 << 40, 1 << 50, (1 << 63) - 512])
def test_cve_2013_4469_a_size_that_the_tables_cannot_hold_is_told_and_damaged(claimed: int) -> None:
    """Only the header was changed. The report states the size, so an importer with a limit can refuse it."""
    facts = facts_of(qcow2(GIB).patched(24, pack(">Q", claimed)))
    assert facts.virtual_size == claimed
    assert judge(facts) == (Status.DAMAGED, ("size_mismatch",))


def test_cve_2013_4469_a_disk_as_large_as_its_file_is_told_so() -> None:
    facts = check_safe(qcow2(16 * MIB, allocated=256))
    assert facts.virtual_size == 16 * MIB
    assert facts.actual_size > 16 * MIB


# The content of a VMDK is a file of the host.


@pytest.mark.parametrize("create_type", ["monolithicFlat", "twoGbMaxExtentFlat", "vmfs", "fullDevice"])
def test_cve_2022_47951_a_sparse_header_does_not_excuse_a_flat_descriptor(create_type: str) -> None:
    line = f'RW 2097152 FLAT "{SECRET}" 0'
    facts = facts_of(vmdk_sparse(GIB, create_type=create_type, extent_line=line))
    assert judge(facts)[0] is Status.UNSAFE
    assert "extent_path" in judge(facts)[1]
    assert facts.details["extents"] == [f"FLAT {SECRET}"]


@pytest.mark.parametrize(
    "line",
    [
        f'RW 2097152 FLAT "{SECRET}" 0',
        f'RW 2097152 SPARSE "{SECRET}"',
        f'RW 2097152 VMFS "{SECRET}" 0',
        f'rdonly 2097152 flat "{SECRET}" 0',
        f'RW 1048576 SPARSE "disk.vmdk"\nRW 1048576 FLAT "{SECRET}" 0',
        f'RW 2097152 SPARSE "disk.vmdk"\n\0\0\0RW 0 FLAT "{SECRET}" 0',
    ],
)
@pytest.mark.parametrize("create_type", ["monolithicSparse", "streamOptimized"])
def test_cve_2022_47951_nor_does_an_allowed_create_type(create_type: str, line: str) -> None:
    status, reasons = reasons_of(vmdk_sparse(GIB, create_type=create_type, extent_line=line))
    assert status is Status.UNSAFE
    assert "extent_path" in reasons


def test_cve_2022_47951_a_capacity_of_zero_does_not_hide_the_descriptor() -> None:
    """In that case QEMU reads the file again, as a text."""
    image = vmdk_sparse(GIB, create_type="monolithicFlat", extent_line=f'RW 131072 FLAT "{SECRET}" 0')
    status, reasons = reasons_of(image.patched(12, bytes(8)))
    assert status is Status.UNSAFE
    assert "extent_path" in reasons


@pytest.mark.parametrize(
    "text",
    [
        flat_descriptor(),
        "\n" * 300 + flat_descriptor().replace("# Disk DescriptorFile\n", ""),
        flat_descriptor().replace('createType="monolithicFlat"', '# createType="monolithicSparse"'),
    ],
)
def test_cve_2022_47951_a_text_alone_leads_to_the_file_that_it_names(text: str) -> None:
    status, reasons = reasons_of(vmdk_flat_descriptor(text))
    assert status is Status.UNSAFE
    assert "extent_path" in reasons


def test_cve_2022_47951_a_text_that_no_probe_finds_is_a_vmdk_all_the_same() -> None:
    """QEMU opens the text if it is told that the format is VMDK."""
    text = "#" + " " * 4000 + "\n" + flat_descriptor()
    status, reasons = reasons_of(vmdk_flat_descriptor(text))
    assert status is Status.UNSAFE
    assert "extent_path" in reasons


def test_cve_2022_47951_an_extent_that_is_the_image_itself_is_safe() -> None:
    check_safe(vmdk_sparse(GIB, extent_line=f'RW 2097152 SPARSE "{SECRET.replace("/", "-")}"'))
    check_safe(vmdk_stream_optimized(GIB, allocated=1))


# The content of a qcow2 is another file.

RAW_DATA_FILE = (88, pack(">Q", 2))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", [SECRET, "/dev/sda", f'json:{{"driver":"file","filename":"{SECRET}"}}', ""])
def test_cve_2024_32498_a_data_file_is_found(name: str, *, raw: bool) -> None:
    image = qcow2(GIB, data_file=name)
    facts = facts_of(image.patched(*RAW_DATA_FILE) if raw else image)
    assert judge(facts) == (Status.UNSAFE, ("data_file",))
    assert facts.details["data_file"] == name


def test_cve_2024_32498_one_of_the_two_marks_is_enough() -> None:
    bit_alone = qcow2(GIB, incompatible=4)
    name_alone = qcow2(GIB, extensions=[(0x44415441, SECRET.encode())])
    assert reasons_of(bit_alone) == (Status.UNSAFE, ("data_file",))
    assert reasons_of(name_alone) == (Status.UNSAFE, ("data_file",))


def test_cve_2024_32498_a_data_file_of_the_backing_file_cannot_hide_behind_it() -> None:
    """The image's backing file is a qcow2 whose data file is a file of the host.

    Keyhole rejects the backing file.
    """
    chain = f'json:{{"driver":"qcow2","data-file":{{"driver":"file","filename":"{SECRET}"}}}}'
    facts = facts_of(qcow2(GIB, backing_file=chain))
    assert judge(facts) == (Status.UNSAFE, ("backing_file",))
    assert facts.details["backing_file"] == chain


def test_cve_2024_32498_features_without_a_data_file_are_safe() -> None:
    check_safe(qcow2(GIB, incompatible=8 | 16, allocated=3, extensions=[(0x6803F857, b"\0\2data file")]))


# The object is declared as raw, but it is not raw.

POSING = {
    "qcow2 with a data file": qcow2(MIB, data_file=SECRET),
    "qcow2 with a backing file": qcow2(MIB, backing_file=SECRET),
    "qcow2": qcow2(MIB),
    "vmdk": vmdk_sparse(64 * MIB, create_type="monolithicFlat", extent_line=f'RW 131072 FLAT "{SECRET}" 0'),
    "vmdk text": vmdk_flat_descriptor(flat_descriptor()),
}


@pytest.mark.parametrize("name", POSING)
def test_cve_2024_40767_what_is_no_raw_disk_is_not_called_one(name: str) -> None:
    """Keyhole reports the detected format, whatever was declared.

    Only a whole image of that format can be safe.
    """
    facts = facts_of(POSING[name])
    assert facts.format != "raw"
    status, _ = judge(facts)
    assert (status is Status.SAFE) == (name == "qcow2")


DECLARED_RAW = [
    Declared(metadata=(("disk_format", "raw"),)),
    Declared(key="disk.raw", metadata=(("Disk-Format", "RAW"),)),
    Declared(key="disk.qcow2", content_type="application/x-raw-disk-image"),
]


@pytest.mark.parametrize("declared", DECLARED_RAW)
@pytest.mark.parametrize("name", POSING)
def test_cve_2024_40767_an_image_that_is_declared_raw_is_unsafe(name: str, declared: Declared) -> None:
    status, reasons = judged_by(Rule(compare_declared=True), facts_of(POSING[name]), declared)
    assert status is Status.UNSAFE
    assert "format_mismatch" in reasons


@pytest.mark.parametrize("declared", DECLARED_RAW)
def test_cve_2024_40767_a_raw_disk_that_is_declared_raw_is_safe(declared: Declared) -> None:
    assert judged_by(Rule(compare_declared=True), facts_of(DISK), declared) == (Status.SAFE, ())


@pytest.mark.parametrize("declared", DECLARED_RAW)
@pytest.mark.parametrize("name", POSING)
def test_cve_2026_24708_what_became_an_image_after_it_was_declared_raw_is_unsafe(
    name: str, declared: Declared
) -> None:
    """No partition table remains, and nothing else shows that the disk was raw.

    The qcow2 alone would be safe.
    """
    facts = facts_of(written_over(DISK, POSING[name]))
    status, reasons = judged_by(Rule(compare_declared=True), facts, declared)
    assert status is Status.UNSAFE
    assert "format_mismatch" in reasons


@pytest.mark.parametrize("name", POSING)
def test_cve_2026_24708_a_disk_whose_guest_wrote_a_header_over_it_is_never_safe(name: str) -> None:
    """The disk was raw when it was declared. Its partition table still exists."""
    disk = written_over(DISK, POSING[name]).patched(446, DISK.read(446, 66))
    status, reasons = reasons_of(disk)
    assert status is Status.UNSAFE
    assert "ambiguous_format" in reasons


@pytest.mark.parametrize("name", POSING)
@pytest.mark.parametrize("at", [512, 2048 * 512])
def test_cve_2026_24708_a_header_that_stands_elsewhere_on_a_disk_is_data(name: str, at: int) -> None:
    check_safe(DISK.patched(at, POSING[name].read(0, 32768)))


@pytest.mark.parametrize("name", POSING)
def test_cve_2026_24708_a_fixed_vhd_does_not_hide_a_header(name: str) -> None:
    """The footer is at the end. Readers that detect a format at the front see the header, as Keyhole does."""
    disk = written_over(DISK, POSING[name])
    status, reasons = judge(facts_of(vhd_fixed(disk.size, content=disk)))
    assert status is Status.UNSAFE
    assert "ambiguous_format" in reasons


# A program that only inspects an image opens the files that the image names.

PROTOCOLS = [
    'json:{"driver":"nbd","server":{"type":"inet","host":"10.0.0.1","port":"10809"}}',
    'json:{"driver":"blkdebug","image":{"driver":"null-co","size":"9223372036854775807"}}',
    "nbd://10.0.0.1/export",
    "ssh://root@10.0.0.1/etc/shadow",
    "http://169.254.169.254/latest/meta-data/",
    "fat:rw:/etc",
    "host_device:/dev/sda",
    "rbd:pool/volume",
]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cve_2024_4467_a_data_file_that_is_a_protocol_is_told_and_not_opened(name: str) -> None:
    facts = facts_of(qcow2(GIB, data_file=name))
    assert judge(facts) == (Status.UNSAFE, ("data_file",))
    assert facts.details["data_file"] == name


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("build", [qcow2, qcow1, qed])
def test_cve_2024_44082_nor_is_a_backing_file_that_is_a_protocol(name: str, build: type) -> None:
    facts = facts_of(build(GIB, backing_file=name))
    assert judge(facts) == (Status.UNSAFE, ("backing_file",))
    assert facts.details["backing_file"] == name


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cve_2024_44082_nor_is_an_extent_that_is_a_protocol(name: str) -> None:
    line = f'RW 2097152 SPARSE "{name}"'
    assert reasons_of(vmdk_sparse(GIB, extent_line=line))[0] is Status.UNSAFE


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cve_2024_44082_such_a_name_in_the_disks_content_leads_nowhere(name: str) -> None:
    check_safe(qcow2(GIB, allocated=1).patched(qcow2(GIB, allocated=1).size - 65536, name.encode()))
    check_safe(DISK.patched(4096, name.encode()))
