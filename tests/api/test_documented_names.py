"""Each name in the tables for users of other inspectors exists, and the tables name everything."""

import re
from importlib import import_module
from typing import Any

import pytest

import keyhole
from keyhole import Reason, Report, Status
from keyhole.inspectors import CHECKS
from tests.pages import REFERENCE, rows

PAGE = REFERENCE["python"]
#: The names of the modules `format_inspector` of Nova, Glance and Cinder, and their classes' attributes.
ESTABLISHED = {
    "CaptureRegion": {"capture", "complete"},
    "FileInspector": {
        *("actual_size", "context_info", "eat_chunk", "format_match", "has_region", "new_region"),
        *("post_process", "region", "virtual_size"),
    },
    "ImageFormatError": set(),
    "InfoWrapper": {"close", "read"},
    "QcowInspector": set(),
    "TraceDisabled": {"debug", "error", "info", "warning"},
    "VDIInspector": set(),
    "VHDInspector": set(),
    "VHDXInspector": {"METAREGION", "VIRTUAL_DISK_SIZE"},
    "VMDKInspector": set(),
    "get_inspector": set(),
}
#: The public names of `oslo_utils.imageutils`, version 10, and the older names for its checks.
SUCCESSOR = {
    *("detect_file_format", "FileInspector.from_file", "FileInspector.safety_check", "InspectWrapper"),
    *(
        "InspectWrapper.format",
        "InspectWrapper.formats",
        "SafetyCheck",
        "add_safety_check",
        "SafetyCheck.null",
    ),
    *("SafetyCheck.banned", "SafetyViolation", "SafetyCheckFailed", "SafetyCheckFailed.failures"),
    *("ImageFormatError", "has_backing_file", "check_backing_file", "has_data_file", "check_data_file"),
    *("has_unknown_features", "check_unknown_features", "check_descriptor", "check_footer"),
    *("check_mbr_partitions", "RawFileInspector", "QEDInspector", "ISOInspector", "LUKSInspector"),
    *("GPTInspector", "ContainerFileInspector", "inner_format", "check_inner_safety"),
    *("FileInspector.virtual_size", "FileInspector.actual_size", "FileInspector.context_info"),
    *("FileInspector.complete", "FileInspector.finish", "EndCaptureRegion", "get_inspector", "QemuImgInfo"),
}


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


@pytest.mark.parametrize("row", rows(PAGE, "name in `format_inspector`"), ids=lambda row: row[0].strip("`"))
def test_the_established_names_are_here(row: list[str]) -> None:
    (name,) = quoted(row[0])
    here = getattr(import_module("keyhole.inspectors"), name)
    listed = set(quoted(row[1]))
    # An attribute that only objects have is annotated, or set by the constructor.
    made = here(0, 1) if name == "CaptureRegion" else here

    assert ESTABLISHED[name] <= listed | set(dir(keyhole.inspectors.FileInspector))
    assert [attribute for attribute in listed if not hasattr(made, attribute)] == []


def test_the_table_of_established_names_is_complete() -> None:
    assert {quoted(row[0])[0] for row in rows(PAGE, "name in `format_inspector`")} == set(ESTABLISHED)
    for name, attributes in ESTABLISHED.items():
        (row,) = [row for row in rows(PAGE, "name in `format_inspector`") if quoted(row[0]) == [name]]
        assert attributes <= set(quoted(row[1])), name


def resolve(name: str) -> Any:
    """The object that a name in the second or third column means."""
    if name.startswith("Report."):
        return Report.model_fields[name.removeprefix("Report.")]
    parts = name.split(".")
    found: Any = keyhole
    for number, part in enumerate(parts[1:], start=2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = import_module(".".join(parts[:number]))
    return found


@pytest.mark.parametrize("row", rows(PAGE, "name in oslo.utils"), ids=lambda row: quoted(row[0])[0])
def test_what_to_write_instead_exists(row: list[str]) -> None:
    codes = {*CHECKS, *map(str, Reason), *map(str, Status), "raw", "qed", "iso", "luks", "gpt"}
    for name in quoted(row[1]):
        assert resolve(name) is not None, name
    for name in quoted(row[2]):
        assert name in codes or resolve(name) is not None, name


def test_the_table_of_the_successor_is_complete() -> None:
    assert {name for row in rows(PAGE, "name in oslo.utils") for name in quoted(row[0])} == SUCCESSOR


def test_the_listed_fields_of_the_report_exist() -> None:
    listed = {name for row in rows(PAGE, "field") for name in quoted(row[0])}

    assert {"status", "findings", "etag", "virtual_size"} < listed <= set(Report.model_fields)
