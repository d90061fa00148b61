"""Writes an audit as JSON, for programs: as JSON Lines with one JSON object per line, or as one document.

In JSON Lines, the first line describes the audit: `{"type": "audit", …}`, with the fields of `Audit`. Then
there is a line for each object: `{"type": "object", "how": …, "status": …, "report": {…}}`. The line has the
fields of `AuditedObject`. `report` is null if the object's verdict has expired. The last lines are the
findings about the bucket: `{"type": "finding", "kind": …, …}`. Such a finding is a verdict on a deleted
object, or a tag that contradicts a verdict.

The document is an object: `{"audit": {…}, "objects": […], "findings": […]}`. Its parts are the same without
the field `type`.

The output is ASCII, because all other characters are written as JSON escapes.
"""

from collections.abc import Iterable
from typing import BinaryIO

from pydantic import BaseModel
from pydantic_core import to_json

from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding
from keyhole.reports.json_document import json_array


def write_jsonl(
    audit: Audit, objects: Iterable[AuditedObject], findings: Iterable[BucketFinding], out: BinaryIO
) -> None:
    """Write an audit, its objects and its findings to `out`."""
    out.write(_line("audit", audit))
    out.writelines(_line("object", audited) for audited in objects)
    out.writelines(_line("finding", finding) for finding in findings)


def write_json(
    audit: Audit, objects: Iterable[AuditedObject], findings: Iterable[BucketFinding], out: BinaryIO
) -> None:
    """Write an audit, its objects and its findings to `out` as one JSON document."""
    out.write(b'{"audit": ' + to_json(audit, ensure_ascii=True, inf_nan_mode="null"))
    for name, records in (("objects", objects), ("findings", findings)):
        out.write(f',\n"{name}": '.encode())
        out.writelines(part.removesuffix(b"\n") for part in json_array(records))
    out.write(b"}\n")


def _line(kind: str, record: BaseModel) -> bytes:
    return to_json({"type": kind, **dict(record)}, ensure_ascii=True, inf_nan_mode="null") + b"\n"
