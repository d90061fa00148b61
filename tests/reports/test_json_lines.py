"""JSON Lines: everything that an audit found, for programs."""

import io
import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding, How
from keyhole.reports.json_lines import write_jsonl
from keyhole.scan.report import Report
from tests.reports import sample


def test_first_comes_the_audit_then_the_objects_then_the_findings() -> None:
    out = io.BytesIO()

    write_jsonl(sample.audit(), sample.objects(), sample.findings(), out)

    first, *others = [json.loads(line) for line in out.getvalue().splitlines()]
    count = len(sample.objects())
    assert [line.pop("type") for line in others] == ["object"] * count + ["finding"] * 2
    assert first.pop("type") == "audit"
    assert Audit.model_validate_json(json.dumps(first)) == sample.audit()
    assert [AuditedObject.model_validate_json(json.dumps(line)) for line in others[:count]] == list(
        sample.objects()
    )
    assert [BucketFinding.model_validate(line) for line in others[count:]] == list(sample.findings())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_key_comes_back_from_one_line_of_ascii(key: str) -> None:
    report = sample.verdict(key, details={"note": key})
    out = io.BytesIO()

    write_jsonl(sample.audit(()), [sample.audited(report)], (), out)

    _, line, rest = out.getvalue().split(b"\n")
    assert rest == b""
    assert line.isascii()
    assert b"\r" not in line
    assert Report.model_validate(json.loads(line)["report"]) == report


def test_an_object_is_written_before_the_next_is_asked_for() -> None:
    out = io.BytesIO()
    lines = []

    def objects() -> Iterator[AuditedObject]:
        for number in range(5):
            lines.append(out.getvalue().count(b"\n"))
            yield sample.audited(sample.verdict(f"{number}.raw"), How.SCANNED)

    write_jsonl(sample.audit(()), objects(), (), out)

    assert lines == [1, 2, 3, 4, 5]
