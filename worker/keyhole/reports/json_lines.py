"""Writes an audit as JSON Lines, for programs: one JSON object per line.

The first line describes the audit: `{"type": "audit", …}`, with the fields of `Audit`. Then there is a line
for each object: `{"type": "object", "how": …, "status": …, "report": {…}}`. The line has the fields of
`AuditedObject`. `report` is null if the object's verdict has expired. The last lines are the findings about
the bucket: `{"type": "finding", "kind": …, …}`. Such a finding is a verdict on a deleted object, or a tag
that contradicts a verdict.

The output is ASCII, because all other characters are written as JSON escapes.
"""

from collections.abc import Iterable
from typing import BinaryIO

from pydantic import BaseModel
from pydantic_core import to_json

from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding


def write_jsonl(
    audit: Audit, objects: Iterable[AuditedObject], findings: Iterable[BucketFinding], out: BinaryIO
) -> None:
    """Write an audit, its objects and its findings to `out`."""
    out.write(_line("audit", audit))
    out.writelines(_line("object", audited) for audited in objects)
    out.writelines(_line("finding", finding) for finding in findings)


def _line(kind: str, record: BaseModel) -> bytes:
    return to_json({"type": kind, **dict(record)}, ensure_ascii=True, inf_nan_mode="null") + b"\n"
