"""Inspectors: bytes in, facts out. No I/O, no clock, no settings, no Celery.

This room is a library on its own: whoever has a file, a socket or a stream can use it.

    inspection = Inspection()
    inspection.finish(size_of_the_object)
    while wanted := inspection.missing():
        offset, length = wanted[0]
        inspection.feed(offset, read(offset, length))
    print(inspection.facts())
"""

from worker.inspectors.base import FileInspector
from worker.inspectors.errors import ImageFormatError
from worker.inspectors.facts import Facts, Wholeness
from worker.inspectors.findings import CHECKS, Check, Finding, Severity
from worker.inspectors.formats import get_inspector
from worker.inspectors.inspection import Inspection
from worker.inspectors.qcow import QcowInspector
from worker.inspectors.region import ByteRange, CaptureRegion
from worker.inspectors.trace import TraceDisabled
from worker.inspectors.vdi import VDIInspector
from worker.inspectors.vhd import VHDInspector
from worker.inspectors.vhdx import VHDXInspector
from worker.inspectors.vmdk import VMDKInspector
from worker.inspectors.wrapper import InfoWrapper

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
