"""A waiver is stated in every output, and its finding keeps its severity."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyhole.builders import qcow2
from keyhole.reports.page import write_html
from keyhole.reports.rows import row_of
from keyhole.reports.spreadsheet import write_csv
from keyhole.scan.report import Report
from tests.cli.conftest import Keyhole
from tests.reports import sample

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GIB = 1024**3
POLICY = """[[waivers]]
bucket = "{bucket}"
key = "over<script>*"
check = "backing_file"
reason = "<b>ticket</b> 4711"
by = "Ada"
until = 2999-12-31
"""
SENTENCE = "waived by Ada until 2999-12-31: <b>ticket</b> 4711"


@pytest.fixture
def policy(s3: "S3Client", bucket: str, tmp_path: Path) -> str:
    """A policy that waives the finding of an object in the bucket, which also has a safe object."""
    overlay = qcow2(GIB, backing_file="base.qcow2").to_bytes()
    s3.put_object(Bucket=bucket, Key="over<script>.qcow2", Body=overlay)
    s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=qcow2(GIB).to_bytes())
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.format(bucket=bucket))
    return str(path)


def test_the_page_shows_the_finding_with_its_severity_and_the_waiver(
    keyhole: Keyhole, policy: str, bucket: str
) -> None:
    done = keyhole("inspect", f"s3://{bucket}/over<script>.qcow2", KEYHOLE_POLICY=policy)
    flowing = " ".join(done.out.split())

    assert done.code == 0
    assert "status safe (waived:backing_file)" in flowing
    assert "backing_file [critical]: " in flowing
    assert SENTENCE in flowing
    assert "what to do" not in flowing


def test_tables_and_files_state_it(keyhole: Keyhole, policy: str, bucket: str) -> None:
    def printed(form: str) -> str:
        done = keyhole("inspect", "-r", f"s3://{bucket}/", "-o", form, KEYHOLE_POLICY=policy)
        assert done.code == 0
        return done.out

    assert "waived:backing_file" in printed("table")
    assert "`waived:backing_file`" in printed("markdown")
    rows = list(csv.DictReader(io.StringIO(printed("csv").removeprefix("\ufeff"))))
    assert [row["waived"] for row in rows] == [f"backing_file: {SENTENCE}", ""]
    [result] = json.loads(printed("sarif"))["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("backing_file", "note")
    assert result["suppressions"] == [{"kind": "external", "status": "accepted", "justification": SENTENCE}]
    waived, safe = map(json.loads, printed("jsonl").splitlines())
    assert waived["waivers"][0]["until"] == "2999-12-31"
    assert "waivers" not in safe


def test_the_reports_of_an_audit_state_it(keyhole: Keyhole, policy: str, bucket: str) -> None:
    text = keyhole("inspect", f"s3://{bucket}/over<script>.qcow2", "-o", "jsonl", KEYHOLE_POLICY=policy).out
    audited = sample.audited(Report.model_validate_json(text))
    page, table = io.BytesIO(), io.BytesIO()

    write_html(sample.audit((audited,)), [audited], [], page, now=sample.NOON)
    write_csv([audited], table)

    assert b"waived by Ada until 2999-12-31: &lt;b&gt;ticket&lt;/b&gt; 4711" in page.getvalue()
    assert row_of(audited).waived == (f"backing_file: {SENTENCE}",)
    assert SENTENCE.encode() in table.getvalue()
