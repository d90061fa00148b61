"""Files and devices of the host that an OVF names, which are not in its archive.

Source: DMTF DSP0243 2.1.1, section 8.3, for `HostResource`; VMware, "OVF Tool User's Guide", for
`ExtraConfig`, whose entries go into the machine's VMX; VirtualBox, ApplianceImplImport.cpp,
`i_importVBoxMachine`: a `vbox:Machine` is used as it is.

| where | what is normal there |
|---|---|
| `HostResource` of an item | `ovf:/disk/ID`, `ovf://disk/ID` and `/disk/ID`, the same with `file` |
| `Config` and `ExtraConfig` with a key that names a file | `ovf:/file/ID`, a name without folders |
| attributes in `vbox:Machine` that name files | a path in the machine's own folder |
| the `path` of a drive of oVirt's, what XInclude includes | a name without folders |

Values that do not name a file of the host are ignored: names of networks, a DVD drive, a serial port over
TCP.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyhole.inspectors.archives.names import leads_outside

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
DATASTORE = re.compile(r"\[[^\]]*\]")
#: An item's reference to a disk or file of the archive. virt-v2v, VirtualBox and VMware know one spelling or
#: several.
OWN_RESOURCE = re.compile(r"(?:ovf:)?/{0,2}(disk|file)/(.+)", re.DOTALL)
OWN_FILE = re.compile(r"ovf:/{1,2}file/.+", re.DOTALL)

#: The ends of keys of a VMX that name files: `scsi0:0.fileName`, `sched.swap.dir`, `sharedFolder0.hostPath`.
FILE_KEYS = (
    *("file", "filename", "path", "dir", "directory", "nvram", "hostlog", "vmstate", "derivedname"),
    *("backing", "configfile", "device", "devicename"),
)
#: Settings for the guest do not concern the host.
FOR_THE_GUEST = "guestinfo."

#: Attributes of VirtualBox's that name files or devices.
VIRTUALBOX = (
    *("location", "hostPath", "path", "imagePath", "file", "snapshotFolder", "stateFile"),
    *("tracefile", "customTable"),
)
#: Elements whose file is opened only if they are enabled, with the default if that is not stated.
ENABLED = {"Port": "true", "VideoCapture": "false", "VideoRecording": "false"}
#: The targets of a serial port that are not files.
NO_FILE = frozenset({"Disconnected", "TCP"})
#: The names of settings whose values may be files.
INTERNAL = ("VBoxInternal", "Security/")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file or device of the host that an OVF names: where, by which value, and why it is the host's."""

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
    """The host's file or device that an item's `HostResource`, or the path of its drive, names."""
    if not OWN_RESOURCE.fullmatch(text):
        yield from _if_outside("the host resource of an item", text)


def of_inclusion(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """The file that XInclude would include."""
    yield from _if_outside("an inclusion", attributes.get("href", "").strip())


def of_setting(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """The host's file or device that a `Config` or `ExtraConfig` names."""
    key, value = attributes.get("key", "").strip(), attributes.get("value", "").strip()
    lower = key.lower()
    if lower.endswith(FILE_KEYS) and not lower.startswith(FOR_THE_GUEST) and not OWN_FILE.fullmatch(value):
        yield from _if_outside(f"the setting {key}", value)


def of_virtualbox(element: str, attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """The host's file or device that an element of VirtualBox's machine names."""
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
