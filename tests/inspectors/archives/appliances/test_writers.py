"""Appliances of known writers are in order. If one refers to a disk of the host, Keyhole reports it."""

import pytest

from keyhole.builders import Image, iso, qcow2, vhd_dynamic, vmdk_sparse, vmdk_stream_optimized
from keyhole.inspectors import Severity
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.inspectors.archives.appliances import writers
from tests.inspectors.archives.appliances.building import GIB, appliance, findings, plain
from tests.inspectors.archives.walking import walk

STREAM = vmdk_stream_optimized(2 * GIB, allocated=3)
QCOW2 = qcow2(2 * GIB, allocated=3)
VHD = vhd_dynamic(2 * GIB, creator=b"tap\0", allocated=1)
SIXTEEN = plain("sixteen bytes: x")
EXTRAS = [("box-file1.nvram", SIXTEEN), ("box-file2.iso", iso())]
HOST_DRIVE = '<HostDrive src="/dev/sr0"/>'

#: By writer: the descriptor, the name of the disk, the disk, and further files of the archive.
WRITERS: dict[str, tuple[str, str, Image, list[tuple[str, Image]]]] = {
    "ovftool": (writers.OVFTOOL, "box-disk1.vmdk", STREAM, EXTRAS),
    "VirtualBox": (writers.virtualbox("1"), "box-disk001.vmdk", STREAM, []),
    "VirtualBox, registry": (
        writers.virtualbox("1", registry=writers.REGISTRY, drive=HOST_DRIVE),
        "disk1.vmdk",
        STREAM,
        [],
    ),
    "VirtualBox, OVF 2": (writers.virtualbox("2"), "box-disk001.vmdk", STREAM, []),
    "VirtualBox, no version": (writers.virtualbox("1", old=True), "box-disk1.vmdk", STREAM, []),
    "oVirt": (writers.OVIRT, "0b4c-4c1d", QCOW2, []),
    "virt-v2v": (writers.VIRT_V2V, "2553-4d5a/90b6-4ae8", QCOW2, []),
    "XenCenter": (writers.XENCENTER, "7f1c.vhd", VHD, []),
    "EC2": (writers.SHORT, "export-i-0123-disk1.vmdk", STREAM, []),
    "Nutanix": (writers.SHORT, "box/disk-0.vmdk", STREAM, []),
    "COT": (writers.COT, "input.vmdk", STREAM, [("sample_cfg.txt", SIXTEEN)]),
    "vCloud Director": (writers.VCLOUD, "vm-1-disk-0.vmdk", STREAM, []),
    "VMware, 0.9": (writers.VMWARE_0_9, "box.vmdk", vmdk_sparse(2 * GIB, allocated=3), []),
}


def written(writer: str, before: str = "", after: str = "") -> Image:
    """A writer's appliance with a changed part of its descriptor."""
    text, name, disk, more = WRITERS[writer]
    assert before in text
    filled = text.replace(before, after).format(href=name, size=disk.size, capacity=2 * GIB, gib=2)
    return appliance(filled, (name, disk), *more)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_writer_writes_is_in_order(writer: str) -> None:
    facts = walk(written(writer))
    assert (facts.format, facts.findings, facts.details["disks"]) == ("ova", (), 1)
    assert facts.members[0].facts.virtual_size == 2 * GIB
    assert [one.facts.format for one in facts.members[1:]] == (["iso"] if writer == "ovftool" else [])
    assert judge(facts) == (Status.SAFE, ())


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_of_the_host_is_found_in_it(writer: str) -> None:
    hostile = ":HostResource>/dev/sda</"
    for spelling in (
        "ovf:/disk/vmdisk1",
        "/disk/vmdisk1",
        "ovf:/disk/2a5e",
        "ovf:/disk/xvda",
        "disk/vmdisk1",
    ):
        if f":HostResource>{spelling}</" in WRITERS[writer][0]:
            image = written(writer, f":HostResource>{spelling}</", hostile)
            break
    else:
        href = ":HostResource>ovf:/disk/{href}</" if writer == "COT" else ":HostResource>{href}</"
        image = written(writer, href, hostile)
    assert findings(walk(image)) == [("ovf_reference", Severity.CRITICAL)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_parent_is_found_in_it(writer: str) -> None:
    text = WRITERS[writer][0]
    before, after = next(
        (before, after)
        for before, after in (
            ('ovf:parentRef=""', 'ovf:parentRef="base"'),
            ("<ovf:Disk ", '<ovf:Disk ovf:parentRef="base" '),
            ("<Disk ", '<Disk ovf:parentRef="base" '),
        )
        if before in text
    )
    assert findings(walk(written(writer, before, after))) == [("parent_image", Severity.CRITICAL)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_is_not_there_is_found_in_it(writer: str) -> None:
    text, name, disk, more = WRITERS[writer]
    filled = text.format(href=name, size=disk.size, capacity=2 * GIB, gib=2)
    facts = walk(appliance(filled, ("other", disk), *more))
    assert findings(facts) == [("ovf_reference", Severity.ERROR)]
