"""Finds files and devices of the host that an OVF names. They are not in its archive.

Source: DMTF DSP0243 2.1.1, section 8.3, for `HostResource`; VMware, "OVF Tool User's Guide", for
`ExtraConfig`, whose entries go into the machine's VMX; VirtualBox, ApplianceImplImport.cpp,
`i_importVBoxMachine`, which uses a `vbox:Machine` unchanged.

| where | normal value |
|---|---|
| `HostResource` of an item | `ovf:/disk/ID`, `ovf://disk/ID` or `/disk/ID`, or the same with `file` |
| `Config` and `ExtraConfig` with a key that names a file | `ovf:/file/ID`, or a name without folders |
| attributes in `vbox:Machine` that name files | a path in the machine's own folder |
| the `path` of an oVirt drive, the `href` of an XInclude | a name without folders |

Values that do not name a file of the host are ignored, such as the name of a network, a DVD drive, or a
serial port over TCP.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyhole.inspectors.archives.names import leads_outside

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
DATASTORE = re.compile(r"\[[^\]]*\]")
#: An item's reference to a disk or file of the archive. virt-v2v, VirtualBox and VMware each accept some of
#: these spellings.
OWN_RESOURCE = re.compile(r"(?:ovf:)?/{0,2}(disk|file)/(.+)", re.DOTALL)
OWN_FILE = re.compile(r"ovf:/{1,2}file/.+", re.DOTALL)

#: VMX keys with these endings name files: `scsi0:0.fileName`, `sched.swap.dir`, `sharedFolder0.hostPath`.
FILE_KEYS = (
    *("file", "filename", "path", "dir", "directory", "nvram", "hostlog", "vmstate", "derivedname"),
    *("backing", "configfile", "device", "devicename"),
)
#: The beginning of keys of settings for the guest, which do not concern the host.
FOR_THE_GUEST = "guestinfo."

#: Attributes in VirtualBox's machine that name files or devices.
VIRTUALBOX = (
    *("location", "hostPath", "path", "imagePath", "file", "snapshotFolder", "stateFile"),
    *("tracefile", "customTable"),
)
#: Elements whose file is opened only if they are enabled; the default of `enabled`.
ENABLED = {"Port": "true", "VideoCapture": "false", "VideoRecording": "false"}
#: The modes of a serial port that use no file.
NO_FILE = frozenset({"Disconnected", "TCP"})
#: The beginnings of the names of settings whose values may be files.
INTERNAL = ("VBoxInternal", "Security/")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file or device of the host that an OVF names: the place in the OVF, the value, and the reason."""

    place: str
    text: str
    reason: str


def outside(text: str) -> str | None:
    """Return why a text leads outside the archive, in words that follow it; `None` if it does not."""
    reason = leads_outside(text.encode(errors="replace"))
    if reason is None and URL.match(text):
        return "is a URL"
    return "is in a datastore" if reason is None and DATASTORE.match(text) else reason


def of_resource(text: str) -> Iterator[HostFile]:
    """Yield the host's file or device, if an item's `HostResource` or the path of its drive names one."""
    if not OWN_RESOURCE.fullmatch(text):
        yield from _if_outside("the host resource of an item", text)


def of_inclusion(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the file outside the archive that XInclude would include, if any."""
    yield from _if_outside("an inclusion", attributes.get("href", "").strip())


def of_setting(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the host's file or device, if a `Config` or `ExtraConfig` names one."""
    key, value = attributes.get("key", "").strip(), attributes.get("value", "").strip()
    lower = key.lower()
    if lower.endswith(FILE_KEYS) and not lower.startswith(FOR_THE_GUEST) and not OWN_FILE.fullmatch(value):
        yield from _if_outside(f"the setting {key}", value)


def of_virtualbox(element: str, attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the host's files or devices that an element of VirtualBox's machine names."""
    if element in ENABLED and attributes.get("enabled", ENABLED[element]) == "false":
        return
    if element == "Port" and attributes.get("hostMode") in NO_FILE:
        return
    for name in VIRTUALBOX:
        value = attributes.get(name, "").strip()
        if name == "hostPath" and value:
            yield HostFile("a shared folder of VirtualBox", value, "is the host's")
        else:
            yield from _if_outside(f"the {name} of VirtualBox's {element}", value)
    if attributes.get("name", "").startswith(INTERNAL):
        yield from _if_outside(f"VirtualBox's {attributes['name']}", attributes.get("value", "").strip())


def _if_outside(place: str, text: str) -> Iterator[HostFile]:
    reason = outside(text) if text else None
    if reason:
        yield HostFile(place, text, reason)
