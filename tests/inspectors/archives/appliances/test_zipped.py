"""An appliance in a ZIP archive gets the same verdict as in a tar archive, but its chunks are not joined."""

from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from keyhole.builders import Image, vmdk_stream_optimized
from keyhole.inspectors import Facts, Severity
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.inspectors.archives.appliances.building import (
    DISK,
    DISK_ELEMENT,
    DISK_NAME,
    FILE,
    GIB,
    chunks,
    descriptor,
    findings,
    plain,
)
from tests.inspectors.archives.walking import walk


def zipped(text: str, *files: tuple[str, Image], name: str = "box.ovf", method: int = ZIP_DEFLATED) -> Facts:
    """The facts about a ZIP archive of a descriptor and files. Without files, it contains the usual disk."""
    packed = BytesIO()
    with ZipFile(packed, "w", method) as archive:
        archive.writestr(name, text)
        for member, content in files or ((DISK_NAME, DISK),):
            archive.writestr(member, content.to_bytes())
    return walk(plain(packed.getvalue()))


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["box.ovf", "BOX.OVF"])
def test_a_good_appliance_is_safe(method: int, name: str) -> None:
    facts = zipped(descriptor(), method=method, name=name)
    assert findings(facts) == []
    assert judge(facts) == (Status.SAFE, ())


def test_it_may_lie_in_a_folder() -> None:
    facts = zipped(descriptor(), (f"vm/{DISK_NAME}", DISK), name="vm/box.ovf")
    assert judge(facts) == (Status.SAFE, ())


@pytest.mark.parametrize("name", ["box.ovf", "vm/box.ovf"])
@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
def test_a_descriptor_that_names_a_file_of_the_host_is_unsafe(name: str, method: int) -> None:
    text = descriptor(file=FILE.replace(DISK_NAME, "/etc/shadow"))
    facts = zipped(text, name=name, method=method)
    assert ("ovf_reference", Severity.CRITICAL) in findings(facts)


def test_a_parent_is_found() -> None:
    text = descriptor(disk=DISK_ELEMENT.replace("<Disk ", '<Disk ovf:parentRef="other" '))
    assert ("parent_image", Severity.CRITICAL) in findings(zipped(text))


def test_another_size_is_found() -> None:
    other = vmdk_stream_optimized(3 * GIB, allocated=3)
    text = descriptor(file=FILE.replace(f' ovf:size="{DISK.size}"', ""))
    assert findings(zipped(text, (DISK_NAME, other))) == [("size_mismatch", Severity.ERROR)]


def test_a_file_that_is_missing_is_found() -> None:
    assert findings(zipped(descriptor(), ("other", DISK))) == [("ovf_reference", Severity.ERROR)]


def test_two_descriptors_are_ambiguous() -> None:
    facts = zipped(descriptor(), ("other.ovf", plain(descriptor())), (DISK_NAME, DISK))
    assert findings(facts) == [("ambiguous_format", Severity.CRITICAL)]


def test_a_disk_that_is_nothing_is_a_member() -> None:
    text = descriptor(file=FILE.replace(f' ovf:size="{DISK.size}"', ""))
    facts = zipped(text, (DISK_NAME, plain("no disk")))
    (member,) = facts.members
    assert member.name == DISK_NAME
    assert judge(member.facts)[0] is Status.UNRECOGNIZED


def test_chunks_are_not_joined() -> None:
    size = DISK.size // 2 + 1
    text = descriptor(file=FILE.replace("ovf:size", f'ovf:chunkSize="{size}" ovf:size'))
    facts = zipped(text, *chunks(DISK, size))
    assert findings(facts) == [("unsupported_subformat", Severity.WARNING)]


def test_a_descriptor_that_is_cut_off_is_damaged() -> None:
    assert ("structure", Severity.ERROR) in findings(zipped(descriptor()[:99]))


def test_a_descriptor_that_cannot_be_read_is_not_passed_over() -> None:
    long = descriptor(more=f"<!--{'x' * 1024**2}-->")
    assert ("unsupported_subformat", Severity.WARNING) in findings(zipped(long))
