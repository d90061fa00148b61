"""A descriptor is found in any folder, as readers find it. Files that only look like one are ignored."""

import pytest

from keyhole.builders import Image, qcow2, tar, vmdk_stream_optimized
from keyhole.inspectors import Facts, Severity, Wholeness
from keyhole.inspectors.archives.ovf.appliance import MAX_BYTES, MAX_OVF, MAX_OVFS
from tests.inspectors.archives.appliances.building import (
    DISK,
    DISK_ELEMENT,
    DISK_NAME,
    FILE,
    GIB,
    HARD_DISK,
    descriptor,
    findings,
    plain,
)
from tests.inspectors.archives.walking import facts_of, walk

APPLE_DOUBLE = plain(bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(300))
TEXT = descriptor()
HOSTILE = descriptor(HARD_DISK.replace("ovf:/disk/vmdisk1", "/dev/sda"))
HOST = ("ovf_reference", Severity.CRITICAL)
OTHER = vmdk_stream_optimized(2 * GIB, allocated=4)


def archive(*files: tuple[str, str | bytes | Image]) -> Facts:
    return walk(tar([(name, data if isinstance(data, Image) else plain(data)) for name, data in files]))


def good(facts: Facts, others: int) -> bool:
    members = [one.facts for one in facts.members] == [facts_of(DISK)]
    whole = (facts.format, facts.wholeness) == ("ova", Wholeness.PROVEN)
    return members and whole and findings(facts) == [] and facts.details["other_files"] == others


@pytest.mark.parametrize("folder", ["", "./", "appliance/", "a/b/c/", "./appliance/"])
def test_a_descriptor_lies_in_any_folder_with_its_files(folder: str) -> None:
    facts = archive((f"{folder}box.ovf", TEXT), (f"{folder}{DISK_NAME}", DISK))
    assert good(facts, 1)
    assert facts.findings == ()


def test_references_begin_at_the_descriptors_folder() -> None:
    text = descriptor(file=FILE.replace(DISK_NAME, f"disks/{DISK_NAME}"))
    assert good(archive(("vm/box.ovf", text), (f"vm/disks/{DISK_NAME}", DISK)), 1)


def test_virtualbox_begins_at_the_archives_root() -> None:
    assert good(archive(("vm/box.ovf", TEXT), (DISK_NAME, DISK)), 1)


def test_a_reference_that_means_two_files_is_two_machines() -> None:
    facts = archive(("vm/box.ovf", TEXT), (f"vm/{DISK_NAME}", DISK), (DISK_NAME, OTHER))
    assert ("ambiguous_format", Severity.CRITICAL) in findings(facts)


def test_a_descriptor_in_a_folder_is_compared_with_its_archive() -> None:
    two = descriptor(file=FILE + '<File ovf:href="disk2.vmdk" ovf:id="file2"/>')
    facts = archive(("vm/box.ovf", two), (f"vm/{DISK_NAME}", DISK))
    assert findings(facts) == [("ovf_reference", Severity.ERROR)]
    parent = descriptor(disk=DISK_ELEMENT.replace("ovf:fileRef", 'ovf:parentRef="b" ovf:fileRef'))
    facts = archive(("vm/box.ovf", parent), (f"vm/{DISK_NAME}", DISK))
    assert findings(facts) == [("parent_image", Severity.CRITICAL)]


@pytest.mark.parametrize(
    "href", ["../../../etc/shadow", "../disk1.vmdk", "/etc/shadow", "file:///etc/shadow"]
)
def test_a_reference_out_of_the_archive_is_critical_from_any_folder(href: str) -> None:
    text = descriptor(file=FILE + f'<File ovf:href="{href}" ovf:id="file2"/>')
    assert findings(archive(("vm/box.ovf", text), (f"vm/{DISK_NAME}", DISK))) == [HOST]


def test_what_a_descriptor_names_of_the_host_is_told_wherever_it_lies() -> None:
    assert findings(archive(("vm/box.ovf", HOSTILE), (f"vm/{DISK_NAME}", DISK))) == [HOST]
    # Keyhole reports the reference even if none of the appliance's files exists, so that it is not a machine.
    facts = archive(("doc/box.ovf", HOSTILE), ("images/a.qcow2", qcow2(GIB)))
    assert (facts.format, findings(facts)) == ("tar", [HOST])


def test_the_suffix_is_in_upper_or_lower_case() -> None:
    assert good(archive(("vm/BOX.OVF", TEXT), (f"vm/{DISK_NAME}", DISK)), 1)


def test_a_descriptor_without_its_files_is_a_file_like_others_in_a_folder() -> None:
    facts = archive(("usr/share/doc/sample.ovf", TEXT), ("images/a.qcow2", qcow2(GIB)))
    assert (facts.format, facts.findings, facts.details) == ("tar", (), {"other_files": 1})
    assert findings(archive(("sample.ovf", TEXT), ("images/a.qcow2", qcow2(GIB)))) == [
        ("ovf_reference", Severity.ERROR)
    ]


@pytest.mark.parametrize("text", ["# OOMMF OVF 2.0\n# Segment count: 1\n", "", "\0\0\0\0", "not XML"])
def test_what_is_no_xml_is_no_descriptor_in_a_folder(text: str) -> None:
    facts = archive(("simulation/m000001.ovf", text), ("images/a.qcow2", qcow2(GIB)))
    assert (facts.format, facts.findings) == ("tar", ())


@pytest.mark.parametrize("text", ["<Envelope>", "  <html/>", "\ufeff<Envelope", "<?xml version='1.0'?>"])
def test_what_looks_like_a_descriptor_and_cannot_be_read_is_one(text: str) -> None:
    facts = archive(("vm/box.ovf", text), (f"vm/{DISK_NAME}", DISK))
    assert (facts.format, findings(facts)) == ("ova", [("structure", Severity.ERROR)])


def test_a_long_file_is_a_descriptor_only_if_it_looks_like_one() -> None:
    long = TEXT.replace("</Envelope>", "<!--" + "x" * MAX_OVF + "--></Envelope>")
    facts = archive(("vm/box.ovf", long), (f"vm/{DISK_NAME}", DISK))
    assert findings(facts) == [("unsupported_subformat", Severity.WARNING)]
    vectors = "# OOMMF OVF 2.0\n" * (MAX_OVF // 16 + 1)
    facts = archive(("vm/box.ovf", TEXT), (f"vm/{DISK_NAME}", DISK), ("vm/field/m.ovf", vectors))
    assert findings(facts) == []


# Several descriptors


@pytest.mark.parametrize("second", ["b.ovf", "vm/b.ovf"])
def test_two_descriptors_are_two_machines(second: str) -> None:
    facts = archive(("a.ovf", TEXT), (DISK_NAME, DISK), (second, TEXT))
    assert findings(facts) == [("ambiguous_format", Severity.CRITICAL)]


def test_two_machines_in_two_folders_are_two() -> None:
    facts = archive(("a/a.ovf", TEXT), (f"a/{DISK_NAME}", DISK), ("b/b.ovf", TEXT), (f"b/{DISK_NAME}", OTHER))
    assert findings(facts) == [("ambiguous_format", Severity.CRITICAL)]


def test_of_many_texts_the_one_with_files_describes_the_machine() -> None:
    texts = [(f"doc/{number}.ovf", TEXT.replace(DISK_NAME, "other.vmdk")) for number in range(5)]
    assert good(archive(*texts, ("vm/box.ovf", TEXT), (f"vm/{DISK_NAME}", DISK)), 6)


def test_the_host_files_of_every_text_are_told() -> None:
    hostile = HOSTILE.replace(DISK_NAME, "other.vmdk")
    facts = archive(("vm/box.ovf", TEXT), (f"vm/{DISK_NAME}", DISK), ("doc/b.ovf", hostile))
    assert findings(facts) == [HOST]


def test_more_texts_than_are_read_are_refused() -> None:
    texts = [(f"doc/{number}.ovf", "none") for number in range(MAX_OVFS + 1)]
    facts = archive(*texts, ("images/a.qcow2", qcow2(GIB)))
    assert findings(facts) == [("member_limit", Severity.WARNING)]
    assert findings(archive(*texts[1:], ("images/a.qcow2", qcow2(GIB)))) == []


def test_long_texts_are_read_up_to_a_bound() -> None:
    long = "<!--" + "x" * (MAX_OVF - 100) + "--><Envelope/>"
    texts = [(f"doc/{number}.ovf", long) for number in range(MAX_BYTES // MAX_OVF + 2)]
    facts = archive(*texts, ("images/a.qcow2", qcow2(GIB)))
    assert ("member_limit", Severity.WARNING) in findings(facts)


# What macOS adds


@pytest.mark.parametrize("name", ["._box.ovf", "__MACOSX/._box.ovf", "vm/._box.ovf", "__MACOSX/vm/._box.ovf"])
@pytest.mark.parametrize("first", [True, False])
def test_an_apple_double_is_no_descriptor(name: str, *, first: bool) -> None:
    files = [("box.ovf", TEXT), (DISK_NAME, DISK)]
    files.insert(0 if first else 2, (name, APPLE_DOUBLE))
    facts = archive(*files, (f"._{DISK_NAME}", APPLE_DOUBLE))
    assert good(facts, 3)
    assert facts.findings == ()


@pytest.mark.parametrize("name", ["._box.ovf", "__MACOSX/box.ovf"])
def test_a_descriptor_by_its_content_is_one_whatever_its_name(name: str) -> None:
    """VirtualBox and vSphere find a descriptor only by its suffix."""
    facts = archive((name, HOSTILE), (DISK_NAME, DISK))
    assert (facts.format, findings(facts)) == ("ova", [HOST])
    facts = archive((name, TEXT), ("box.ovf", TEXT), (DISK_NAME, DISK))
    assert findings(facts) == [("ambiguous_format", Severity.CRITICAL)]


def test_an_apple_double_that_is_called_otherwise_is_a_broken_descriptor() -> None:
    assert findings(archive(("box.ovf", APPLE_DOUBLE), (DISK_NAME, DISK))) == [("structure", Severity.ERROR)]


def test_an_archive_of_apple_doubles_is_no_appliance() -> None:
    assert archive(("._box.ovf", APPLE_DOUBLE), (DISK_NAME, DISK)).format == "tar"
