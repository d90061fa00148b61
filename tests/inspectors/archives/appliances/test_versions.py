"""OVF 0.9, 1.x and 2: sections found by their types, shared disks, units, undeclared prefixes."""

import pytest

from keyhole.inspectors import Severity
from keyhole.inspectors.archives.ovf.descriptor import parse
from tests.inspectors.archives.appliances.building import (
    DISK,
    DISK_ELEMENT,
    DISK_NAME,
    FILE,
    GIB,
    HARD_DISK,
    appliance,
    described,
    descriptor,
)
from tests.inspectors.archives.walking import walk

MISSING = [("ovf_reference", Severity.ERROR)]
PARENT = [("parent_image", Severity.CRITICAL)]
HOST = [("ovf_reference", Severity.CRITICAL)]

#: A descriptor as VMware's first tools wrote it.
OLD = """<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ovf:version="0.9">
  <References>{file}</References>
  <Section xsi:type="ovf:DiskSection_Type"><Info>Disks</Info>{disk}</Section>
  <Section xsi:type="ovf:NetworkSection_Type"><Info>Networks</Info><Network ovf:name="bridged"/></Section>
  <Content ovf:id="vm" xsi:type="ovf:VirtualSystem_Type"><Info>A machine</Info>
    <Section xsi:type="ovf:ProductSection_Type"><Property ovf:key="size" ovf:value="{size}"/></Section>
    <Section xsi:type="ovf:VirtualHardwareSection_Type">{hardware}</Section>
  </Content>
</ovf:Envelope>
"""


def old(file: str = FILE, disk: str = DISK_ELEMENT, hardware: str = HARD_DISK, size: int = 2 * GIB) -> str:
    return OLD.format(file=file, disk=disk, hardware=hardware, size=size)


def without_prefixes(text: str) -> str:
    return text.replace("ovf:", "").replace("rasd:", "").replace("xsi:", "")


def test_version_0_9_is_read_as_later_ones_are() -> None:
    facts = walk(appliance(old()))
    assert (facts.format, facts.findings, facts.virtual_size) == ("ova", (), 2 * GIB)
    assert facts.details["disks"] == 1
    assert parse(old().encode()).disks == parse(descriptor().encode()).disks


@pytest.mark.parametrize("kind", ["ovf:DiskSection_Type", "DiskSection_Type", "x:DiskSection_Type"])
def test_the_type_of_a_section_has_any_prefix(kind: str) -> None:
    text = old().replace("ovf:DiskSection_Type", kind)
    assert len(parse(text.encode()).disks) == 1


def test_prefixes_need_not_be_declared() -> None:
    """libxml2, which VirtualBox and virt-v2v use, only warns."""
    start = old().index("<ovf:Envelope")
    bare = "<ovf:Envelope>" + old()[old().index(">", start) + 1 :]
    assert described(bare) == []
    assert len(parse(bare.encode()).disks) == 1


def test_nothing_needs_a_prefix() -> None:
    bare = without_prefixes(old())
    assert (described(bare), len(parse(bare.encode()).disks)) == ([], 1)


@pytest.mark.parametrize("version", [old, descriptor])
def test_a_parent_is_found_in_every_version(version: object) -> None:
    assert callable(version)
    disk = DISK_ELEMENT.replace("ovf:fileRef", 'ovf:parentRef="base" ovf:fileRef')
    assert described(version(disk=disk)) == PARENT
    assert described(without_prefixes(version(disk=disk))) == PARENT


@pytest.mark.parametrize("version", [old, descriptor])
def test_a_disk_and_its_file_are_compared_in_every_version(version: object) -> None:
    assert callable(version)
    assert described(version(disk=DISK_ELEMENT.replace("file1", "file9"))) == MISSING
    assert described(version(file=FILE.replace(DISK_NAME, "/etc/shadow")))[0] == HOST[0]
    wrong = DISK_ELEMENT.replace('capacity="2"', 'capacity="3"')
    assert described(version(disk=wrong)) == [("size_mismatch", Severity.ERROR)]


@pytest.mark.parametrize("version", [old, descriptor])
def test_a_device_of_the_host_is_found_in_every_version(version: object) -> None:
    assert callable(version)
    hardware = HARD_DISK.replace("ovf:/disk/vmdisk1", "/dev/sda")
    assert described(version(hardware=hardware)) == HOST
    assert described(without_prefixes(version(hardware=hardware))) == HOST


@pytest.mark.parametrize(
    ("capacity", "units"),
    [
        ("2", "GigaBytes"),
        ("2048", "MegaBytes"),
        ("2048", "MB"),
        ("2", "GB"),
        (str(2 * 1024**2), "KB"),
        (str(2 * GIB), "Bytes"),
        (str(2 * GIB), "byte"),
        ("${size}", "byte"),
    ],
)
def test_capacities_have_the_units_of_their_time(capacity: str, units: str) -> None:
    def disk(stated: str) -> str:
        return (
            f'<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="{stated}" '
            f'ovf:capacityAllocationUnits="{units}"/>'
        )

    assert described(old(disk=disk(capacity))) == []
    wrong = old(disk=disk("5" + capacity)) if capacity[0] != "$" else old(disk=disk(capacity), size=3 * GIB)
    assert described(wrong) == [("size_mismatch", Severity.ERROR)]


def test_a_section_of_two_types_is_read_by_either() -> None:
    two = '<Section type="ovf:NetworkSection_Type" xsi:type="ovf:DiskSection_Type">'
    text = old().replace('<Section xsi:type="ovf:DiskSection_Type">', two)
    assert described(text) == HOST


def test_what_does_not_count_may_be_there_by_two_namespaces() -> None:
    """oVirt gives an operating system its own id in addition to OVF's."""
    system = '<Section ovf:id="36" vmw:id="1252" xsi:type="ovf:OperatingSystemSection_Type"/>'
    settings = (
        '<vmw:Config ovf:id="1" vmw:id="2" vmw:key="firmware" vmw:value="efi" ovf:type="a" vmw:type="b"/>'
    )
    assert described(old(hardware=HARD_DISK + system + settings)) == []


def test_shared_disks_of_version_2_are_disks() -> None:
    shared = DISK_ELEMENT.replace("<Disk", "<SharedDisk").replace(
        "ovf:fileRef", 'ovf:parentRef="b" ovf:fileRef'
    )
    text = descriptor().replace(
        "<VirtualSystem", f"<SharedDiskSection>{shared}</SharedDiskSection><VirtualSystem"
    )
    assert described(text) == PARENT


def test_a_machine_in_a_collection_is_read() -> None:
    bad = descriptor(HARD_DISK.replace("ovf:/disk/vmdisk1", "/dev/sda"))
    text = bad.replace("<VirtualSystem ", '<VirtualSystemCollection ovf:id="c"><VirtualSystem ')
    text = text.replace("</VirtualSystem>", "</VirtualSystem></VirtualSystemCollection>")
    assert described(text) == HOST


def test_a_disk_may_refer_to_its_file_by_the_path() -> None:
    """oVirt's export domains contain such references."""
    href = "25534d4f-d07d/90b62105-4ae8"
    text = old(
        file=f'<File ovf:href="{href}" ovf:id="90b62105-4ae8" ovf:size="{DISK.size}"/>',
        disk=f'<Disk ovf:diskId="vmdisk1" ovf:fileRef="{href}" ovf:size="2" ovf:parentRef=""/>',
        hardware=HARD_DISK.replace("ovf:/disk/vmdisk1", href),
    )
    facts = walk(appliance(text, (href, DISK)))
    assert (facts.findings, facts.details["disks"]) == ((), 1)
