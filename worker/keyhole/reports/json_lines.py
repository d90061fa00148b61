"""An audit as JSON Lines, for programs: one JSON object a line.

The first line is the audit, `{"type": "audit", …}` with the fields of `Audit`. Then come the objects,
`{"type": "object", "how": …, "status": …, "report": {…}}`, with the same report as everywhere in Keyhole.
The last lines are findings about the bucket, `{"type": "finding", "kind": …, …}`. All is ASCII; other
characters are escaped.
"""

from collections.abc import Iterable
from typing import BinaryIO

from pydantic import BaseModel
from pydantic_core import to_json

from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding


def write_jsonl(
    audit: Audit, objects: Iterable[AuditedObject], findings: Iterable[BucketFinding], out: BinaryIO
) -> None:
    """Write an audit, its objects and its findings."""
    out.write(_line("audit", audit))
    out.writelines(_line("object", audited) for audited in objects)
    out.writelines(_line("finding", finding) for finding in findings)


def _line(kind: str, record: BaseModel) -> bytes:
    return to_json({"type": kind, **dict(record)}, ensure_ascii=True, inf_nan_mode="null") + b"\n"
