"""Inspectors recognise disk images and report facts about them. They do no I/O.

This package is a library that does not depend on the rest of Keyhole: it uses no clock, no settings and no
Celery. The caller reads bytes from a file, a socket or a stream, and passes them to an inspection:

    inspection = Inspection()
    inspection.finish(size_of_the_object)
    while wanted := inspection.missing():
        offset, length = wanted[0]
        inspection.feed(offset, read(offset, length))
    print(inspection.facts())

Each public name is imported on first use, so importing one module of this package does not import the
inspectors of all formats.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyhole.inspectors.base import FileInspector, TraceDisabled
    from keyhole.inspectors.catalogue import get_inspector
    from keyhole.inspectors.errors import ImageFormatError
    from keyhole.inspectors.facts import Facts, Wholeness
    from keyhole.inspectors.findings import CHECKS, Check, Finding, Severity
    from keyhole.inspectors.formats.qcow2.inspector import QcowInspector
    from keyhole.inspectors.formats.vdi import VDIInspector
    from keyhole.inspectors.formats.vhd import VHDInspector
    from keyhole.inspectors.formats.vhdx.inspector import VHDXInspector
    from keyhole.inspectors.formats.vmdk.sparse import VMDKInspector
    from keyhole.inspectors.inspection import Inspection
    from keyhole.inspectors.region import ByteRange, CaptureRegion
    from keyhole.inspectors.wrapper import InfoWrapper

__all__ = [
    "CHECKS",
    "ByteRange",
    "CaptureRegion",
    "Check",
    "Facts",
    "FileInspector",
    "Finding",
    "ImageFormatError",
    "InfoWrapper",
    "Inspection",
    "QcowInspector",
    "Severity",
    "TraceDisabled",
    "VDIInspector",
    "VHDInspector",
    "VHDXInspector",
    "VMDKInspector",
    "Wholeness",
    "get_inspector",
]

#: The module that defines each public name.
_HOMES = {
    "FileInspector": "base",
    "TraceDisabled": "base",
    "get_inspector": "catalogue",
    "ImageFormatError": "errors",
    "Facts": "facts",
    "Wholeness": "facts",
    "CHECKS": "findings",
    "Check": "findings",
    "Finding": "findings",
    "Severity": "findings",
    "QcowInspector": "formats.qcow2.inspector",
    "VDIInspector": "formats.vdi",
    "VHDInspector": "formats.vhd",
    "VHDXInspector": "formats.vhdx.inspector",
    "VMDKInspector": "formats.vmdk.sparse",
    "Inspection": "inspection",
    "ByteRange": "region",
    "CaptureRegion": "region",
    "InfoWrapper": "wrapper",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
