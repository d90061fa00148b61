"""An OVF can refer to the host: to files, devices and folders that are not in the archive."""

import pytest

from keyhole.inspectors import Severity
from keyhole.inspectors.archives.ovf.descriptor import MAX_ENTRIES, OVFError, parse
from tests.inspectors.archives.appliances.building import HARD_DISK, described, descriptor

CRITICAL = [("ovf_reference", Severity.CRITICAL)]
#: References to files of the host, in every notation.
HOST_PATHS = [
    "/dev/sda",
    "/etc/shadow",
    "file:///etc/shadow",
    "FILE:/etc/shadow",
    "http://10.0.0.1/disk.vmdk",
    "nfs://server/share",
    "[datastore1] other/other.vmdk",
    "[] /vmfs/volumes/x/y.vmdk",
    "../../other/other.vmdk",
    "a/../../b",
    "C:\\disk.vmdk",
    "\\\\.\\PhysicalDrive0",
    "\\\\server\\share\\disk.vhd",
    "..\\x",
]


def item(resource: str, kind: int | None = 17, element: str = "rasd:HostResource", name: str = "Item") -> str:
    stated = "" if kind is None else f"<rasd:ResourceType>{kind}</rasd:ResourceType>"
    return f"<{name}><{element}>{resource}</{element}>{stated}</{name}>"


def virtualbox(inside: str, attributes: str = "") -> str:
    return descriptor(more=f'<vbox:Machine ovf:required="false" {attributes}>{inside}</vbox:Machine>')


# Items


@pytest.mark.parametrize("resource", HOST_PATHS)
def test_a_disk_of_the_host_is_critical(resource: str) -> None:
    assert described(descriptor(HARD_DISK + item(resource))) == CRITICAL


@pytest.mark.parametrize("kind", [None, 14, 15, 16, 17, 20, 21, 22, 31, 32, 1])
def test_so_it_is_for_a_device_of_any_kind(kind: int | None) -> None:
    assert described(descriptor(HARD_DISK + item("/dev/sda", kind))) == CRITICAL


@pytest.mark.parametrize("name", ["Item", "StorageItem", "EthernetPortItem"])
@pytest.mark.parametrize("element", ["rasd:HostResource", "sasd:HostResource", "sasd:HostExtentName"])
def test_so_it_is_in_every_kind_of_item(name: str, element: str) -> None:
    assert described(descriptor(HARD_DISK + item("/dev/sda", 17, element, name))) == CRITICAL


@pytest.mark.parametrize(
    "resource",
    [
        "<x/>/dev/sda",
        "<!-- -->/dev/sda",
        "/dev<!-- -->/sda",
        "<![CDATA[/dev/sda]]>",
        "&#47;dev/sda",
        "\n        /dev/sda\n      ",
        " " * 10_000 + "/dev/sda",
        "/dev/sda" + "/" * 10_000,
    ],
)
def test_a_text_is_what_its_pieces_are_together(resource: str) -> None:
    assert described(descriptor(HARD_DISK + item(resource))) == CRITICAL


@pytest.mark.parametrize(
    "resource",
    ["ovf:/disk/vmdisk1", "ovf://disk/vmdisk1", "/disk/vmdisk1", "ovf:/file/file1", "/file/file1", "", "   "],
)
def test_a_disk_of_the_archive_is_in_order(resource: str) -> None:
    assert described(descriptor(item(resource))) == []


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        ("VM Network", 10),
        ("25534d4f-d07d-459d-a9ef-3ed733cbcdef/90b62105-4ae8-4a4b-826b-dfe970ae28d9", 17),
        ("ovf:/disk/nothing", 15),
        ("cdrom0", 15),
    ],
)
def test_other_resources_lead_nowhere(resource: str, kind: int) -> None:
    assert described(descriptor(HARD_DISK + item(resource, kind))) == []


def test_a_disk_that_the_descriptor_does_not_describe_is_missing() -> None:
    found = described(descriptor(HARD_DISK + item("ovf:/disk/other")))
    assert found == [("ovf_reference", Severity.ERROR)]


@pytest.mark.parametrize("path", HOST_PATHS)
def test_a_disc_of_the_host_is_critical_as_ovirt_writes_it(path: str) -> None:
    drive = (
        f"<Item><rasd:ResourceType>15</rasd:ResourceType><SpecParams><path>{path}</path></SpecParams></Item>"
    )
    assert described(descriptor(HARD_DISK + drive)) == CRITICAL


@pytest.mark.parametrize("path", ["", "drivers.iso"])
def test_a_disc_of_ovirts_own_is_in_order(path: str) -> None:
    drive = f"<Item><SpecParams><path>{path}</path></SpecParams></Item>"
    assert described(descriptor(HARD_DISK + drive)) == []


@pytest.mark.parametrize("reference", ["/etc/shadow", "../../x", "file:///etc/shadow"])
def test_a_disk_that_refers_to_a_host_file_is_critical(reference: str) -> None:
    disk = f'<Disk ovf:diskId="vmdisk1" ovf:fileRef="{reference}"/>'
    assert described(descriptor(disk=disk)) == CRITICAL


def test_what_would_be_included_is_critical() -> None:
    inclusion = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/shadow"/>'
    assert described(descriptor(HARD_DISK + inclusion)) == CRITICAL


# Settings of VMware


@pytest.mark.parametrize("element", ["vmw:ExtraConfig", "vmw:Config", "ExtraConfig"])
@pytest.mark.parametrize(
    "key",
    [
        "scsi0:0.fileName",
        "serial0.fileName",
        "parallel0.filename",
        "floppy0.fileName",
        "ide1:0.fileName",
        "backing.fileName",
        "sharedFolder0.hostPath",
        "nvram",
        "workingDir",
        "suspend.directory",
        "sched.swap.dir",
        "log.fileName",
        "bios440.filename",
        "extendedConfigFile",
        "fileName",
        "migrate.hostLog",
    ],
)
def test_a_setting_that_names_a_host_file_is_critical(element: str, key: str) -> None:
    setting = f'<{element} ovf:required="false" vmw:key="{key}" vmw:value="/etc/shadow"/>'
    assert described(descriptor(HARD_DISK + setting)) == CRITICAL


@pytest.mark.parametrize("value", HOST_PATHS)
def test_so_it_is_however_the_file_is_named(value: str) -> None:
    setting = f'<vmw:ExtraConfig vmw:key="serial0.fileName" vmw:value="{value}"/>'
    assert described(descriptor(HARD_DISK + setting)) == CRITICAL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nvram", "ovf:/file/file1"),
        ("nvram", "box.nvram"),
        ("vmxstats.filename", "box.scoreboard"),
        ("migrate.hostLog", "./box-3a.hlog"),
        ("sound.fileName", "-1"),
        ("serial0.fileName", ""),
        ("guestinfo.config.file", "/etc/guest.conf"),
        ("guestinfo.ovfEnv", "http://10.0.0.1/"),
        ("disk.EnableUUID", "TRUE"),
        ("virtualHW.productCompatibility", "hosted"),
        ("svga.vramSize", "8388608"),
        ("tools.guest.desktop.autolock", "TRUE"),
        ("isolation.tools.hgfs.disable", "FALSE"),
        ("annotation", "see http://example.com/ and /etc/motd"),
    ],
)
def test_a_setting_that_names_none_is_in_order(key: str, value: str) -> None:
    setting = f'<vmw:ExtraConfig ovf:required="false" vmw:key="{key}" vmw:value="{value}"/>'
    assert described(descriptor(HARD_DISK + setting)) == []


# VirtualBox's own machine


@pytest.mark.parametrize(
    "element",
    [
        '<MediaRegistry><HardDisks><HardDisk uuid="{{1}}" location="{}"/></HardDisks></MediaRegistry>',
        '<HardDisk location="disk1.vmdk"><HardDisk location="{}"/></HardDisk>',
        '<MediaRegistry><DVDImages><Image uuid="{{1}}" location="{}"/></DVDImages></MediaRegistry>',
        '<Hardware><SharedFolders><SharedFolder name="a" hostPath="{}"/></SharedFolders></Hardware>',
        '<Hardware><UART><Port slot="0" enabled="true" path="{}" hostMode="RawFile"/></UART></Hardware>',
        '<Hardware><UART><Port slot="0" path="{}" hostMode="HostPipe"/></UART></Hardware>',
        '<Hardware><LPT><Port slot="0" enabled="true" path="{}"/></LPT></Hardware>',
        '<Hardware><BIOS><Logo imagePath="{}"/></BIOS></Hardware>',
        '<Hardware><BIOS><NVRAM path="{}"/></BIOS></Hardware>',
        '<Hardware><VideoCapture enabled="true" file="{}"/></Hardware>',
        '<ExtraDataItem name="VBoxInternal/Devices/pcbios/0/Config/BiosRom" value="{}"/>',
        '<VRDEProperties><Property name="Security/ServerPrivateKey" value="{}"/></VRDEProperties>',
        '<Network><Adapter slot="0" trace="true" tracefile="{}"/></Network>',
    ],
)
def test_a_host_file_of_virtualbox_is_critical(element: str) -> None:
    for path in HOST_PATHS:
        assert described(virtualbox(element.format(path))) == CRITICAL, path


@pytest.mark.parametrize("attribute", ["snapshotFolder", "stateFile"])
def test_so_is_one_that_the_machine_itself_names(attribute: str) -> None:
    assert described(virtualbox("", f'{attribute}="/etc/cron.d"')) == CRITICAL
    assert described(virtualbox("", f'{attribute}="Snapshots"')) == []


def test_a_shared_folder_is_always_the_hosts() -> None:
    assert described(virtualbox('<SharedFolder name="a" hostPath="folder" enabled="false"/>')) == CRITICAL
    assert described(virtualbox('<HardDisk enabled="false" location="/etc/shadow"/>')) == CRITICAL


@pytest.mark.parametrize(
    "element",
    [
        '<HardDisk uuid="{1}" location="disk1.vmdk" format="VMDK" type="Normal"/>',
        '<HardDisk uuid="{1}" location="Snapshots/{2}.vmdk" format="VMDK"/>',
        '<AttachedDevice type="DVD" port="0"><HostDrive src="/dev/sr0"/></AttachedDevice>',
        '<UART><Port slot="0" enabled="false" IRQ="4" path="/tmp/x" hostMode="HostPipe"/></UART>',
        '<UART><Port slot="0" enabled="true" path="/tmp/x" hostMode="Disconnected"/></UART>',
        '<UART><Port slot="0" enabled="true" path="localhost:2023" hostMode="TCP"/></UART>',
        '<VideoCapture screens="1" file="." fps="25"/>',
        '<VideoCapture enabled="false" file="/home/user/box.webm"/>',
        '<VideoRecording enabled="false" file="C:\\box.webm" horzRes="640"/>',
        '<GuestProperty name="/VirtualBox/GuestInfo/OS/Product" value="/x" timestamp="1" flags=""/>',
        '<Groups><Group name="/lab"/></Groups>',
        '<ExtraData><ExtraDataItem name="GUI/LastNormalWindowPosition" value="0,44,1024,752"/></ExtraData>',
        '<ExtraDataItem name="VBoxInternal2/SharedFoldersEnableSymlinksCreate/vagrant" value="1"/>',
        '<AudioAdapter codec="AD1980" driver="Pulse" enabled="true"/>',
        '<BIOS><Logo fadeIn="true" imagePath=""/><NVRAM path="box.nvram"/></BIOS>',
    ],
)
def test_what_virtualbox_writes_by_itself_is_in_order(element: str) -> None:
    assert described(virtualbox(element)) == []


# Bounds


def test_of_a_thousand_host_files_some_are_told() -> None:
    many = item("/dev/sda") * MAX_ENTRIES
    assert len(described(descriptor(HARD_DISK + many))) == 9


@pytest.mark.parametrize(
    "element", [item("/dev/sda"), item("ovf:/disk/x"), '<vmw:Config vmw:key="a.file" vmw:value="/x"/>']
)
def test_more_devices_than_are_read_are_refused(element: str) -> None:
    with pytest.raises(OVFError, match=str(MAX_ENTRIES)):
        parse(descriptor(element * (MAX_ENTRIES + 2)).encode())
