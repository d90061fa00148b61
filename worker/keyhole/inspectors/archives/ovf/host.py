"""Finds the files and devices of the host, outside the archive, that an OVF names.

Source: DMTF DSP0243 2.1.1, section 8.3, for `HostResource`; VMware, "OVF Tool User's Guide", for
`ExtraConfig`, whose entries VMware copies into the machine's VMX file; VirtualBox, ApplianceImplImport.cpp,
`i_importVBoxMachine`, which uses a `vbox:Machine` element unchanged.

| place in the OVF | value that names nothing outside the archive |
|---|---|
| `HostResource` of an item | `ovf:/disk/ID`, `ovf://disk/ID`, `/disk/ID`, and the same with `file` |
| `Config` and `ExtraConfig` with a key that names a file | `ovf:/file/ID`, or a name without folders |
| attributes in `vbox:Machine` that name files | a path in the machine's own folder |
| the `path` of an oVirt drive, the `href` of an XInclude | a name without folders |

Keyhole ignores values that cannot name a file of the host, such as the name of a network, a DVD drive, or a
serial port over TCP.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyhole.inspectors.archives.names import leads_outside

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
DATASTORE = re.compile(r"\[[^\]]*\]")
#: The reference of an item to a disk or file of the archive. Each of virt-v2v, VirtualBox and VMware accepts
#: some of these spellings.
OWN_RESOURCE = re.compile(r"(?:ovf:)?/{0,2}(disk|file)/(.+)", re.DOTALL)
OWN_FILE = re.compile(r"ovf:/{1,2}file/.+", re.DOTALL)

#: VMX keys with these suffixes name files. Examples: `scsi0:0.fileName`, `sched.swap.dir`,
#: `sharedFolder0.hostPath`.
FILE_KEYS = (
    *("file", "filename", "path", "dir", "directory", "nvram", "hostlog", "vmstate", "derivedname"),
    *("backing", "configfile", "device", "devicename"),
)
#: The prefix of VMX keys that pass values to the guest and not to the host.
FOR_THE_GUEST = "guestinfo."

#: The attributes in `vbox:Machine` that name files or devices.
VIRTUALBOX = (
    *("location", "hostPath", "path", "imagePath", "file", "snapshotFolder", "stateFile"),
    *("tracefile", "customTable"),
)
#: For these elements, VirtualBox opens the file only if the attribute `enabled` is true. The values are the
#: defaults of `enabled`.
ENABLED = {"Port": "true", "VideoCapture": "false", "VideoRecording": "false"}
#: The modes of a serial port that use no file.
NO_FILE = frozenset({"Disconnected", "TCP"})
#: The prefixes of the VirtualBox settings that can name files.
INTERNAL = ("VBoxInternal", "Security/")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file or device of the host that an OVF names.

    `place` is the place in the OVF, `text` is the value in this place, and `reason` states why the value
    leads out of the archive.
    """

    place: str
    text: str
    reason: str


def outside(text: str) -> str | None:
    """Return how a value leads out of the archive, such as `is a URL`; `None` if it does not."""
    reason = leads_outside(text.encode(errors="replace"))
    if reason is None and URL.match(text):
        return "is a URL"
    return "is in a datastore" if reason is None and DATASTORE.match(text) else reason


def of_resource(text: str) -> Iterator[HostFile]:
    """Yield the file or device of the host that a `HostResource` or the path of an oVirt drive names."""
    if not OWN_RESOURCE.fullmatch(text):
        yield from _if_outside("the host resource of an item", text)


def of_inclusion(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the file outside the archive that an XInclude element names."""
    yield from _if_outside("an inclusion", attributes.get("href", "").strip())


def of_setting(attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the file or device of the host that a `Config` or `ExtraConfig` element names."""
    key, value = attributes.get("key", "").strip(), attributes.get("value", "").strip()
    lower = key.lower()
    if lower.endswith(FILE_KEYS) and not lower.startswith(FOR_THE_GUEST) and not OWN_FILE.fullmatch(value):
        yield from _if_outside(f"the setting {key}", value)


def of_virtualbox(element: str, attributes: Mapping[str, str]) -> Iterator[HostFile]:
    """Yield the files and devices of the host that an element in `vbox:Machine` names."""
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
