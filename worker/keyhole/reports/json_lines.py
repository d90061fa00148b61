"""An audit as JSON Lines: one JSON object a line, for programs.

The first line is the audit, `{"type": "audit", …}` with the fields of `Audit`. Then come the objects,
`{"type": "object", "how": …, "status": …, "report": {…}}`, the report as everywhere in Keyhole, and what was
found about the bucket, `{"type": "finding", "kind": …, …}`. All of it is ASCII; the rest is escaped.
"""

from collections.abc import Iterable
from typing import BinaryIO

from pydantic import BaseModel
from pydantic_core import to_json

from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding


def write_jsonl(
    audit: Audit, objects: Iterable[AuditedObject], findings: Iterable[BucketFinding], out: BinaryIO
) -> None:
    """Write everything that an audit found, a line at a time."""
    out.write(_line("audit", audit))
    out.writelines(_line("object", audited) for audited in objects)
    out.writelines(_line("finding", finding) for finding in findings)


def _line(kind: str, record: BaseModel) -> bytes:
    return to_json({"type": kind, **dict(record)}, ensure_ascii=True, inf_nan_mode="null") + b"\n"
