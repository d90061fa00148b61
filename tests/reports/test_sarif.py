"""SARIF: the file is valid, and viewers show every problem of every object once."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.findings import found
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding
from keyhole.reasons import Reason, Status
from keyhole.remedies import what_to_do
from keyhole.reports.owned import OwnedReport
from keyhole.reports.sarif import Run, write_runs, write_sarif
from keyhole.results.owner import Owner
from keyhole.scan.policy import STATUS_OF_CHECK
from keyhole.scan.report import Report
from tests.inspectors.archives.readers import NODE_MODULES
from tests.reports import sample

TEXTS = st.text(st.sampled_from("[](){}\\a/\u202e\x1b|`<é \n")) | st.text(
    st.characters(exclude_categories=["Cs"])
)
CODES = [*STATUS_OF_CHECK, *Reason]


def written(*reports: Report) -> dict[str, Any]:
    """The SARIF file of reports."""
    document: dict[str, Any] = json.loads(b"".join(write_sarif(reports)))
    return document


def runs_of(*runs: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(b"".join(write_runs(runs)))["runs"]
    return found


def run_of(*reports: Report) -> dict[str, Any]:
    (run,) = written(*reports)["runs"]
    found_run: dict[str, Any] = run
    return found_run


def seen(message: str) -> str:
    """The text that a viewer shows for a message (SARIF 2.1.0, sections 3.11.5 and 3.11.6)."""
    text = message.replace("{{", "{").replace("}}", "}")
    for character in "[]\\":
        text = text.replace("\\" + character, character)
    return text


UNSAFE = sample.verdict(
    "a/b.qcow2",
    Status.UNSAFE,
    reasons=("backing_file", "truncated"),
    findings=(found("backing_file", "Opening the image also opens '/etc/shadow'"),),
    format="qcow2",
)


def test_each_reason_is_a_result_with_a_rule_a_level_and_a_place() -> None:
    run = run_of(sample.verdict("safe"), UNSAFE)

    first, second = run["results"]
    rules = run["tool"]["driver"]["rules"]
    assert (first["ruleId"], second["ruleId"]) == ("backing_file", "truncated")
    assert [rules[one["ruleIndex"]]["id"] for one in (first, second)] == ["backing_file", "truncated"]
    assert first["level"] == "error"
    assert first["suppressions"] == second["suppressions"] == []
    assert first["message"]["text"] == (
        "Opening the image also opens '/etc/shadow'. Object: s3://images/a/b.qcow2"
    )
    (place,) = first["locations"]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "images/a/b.qcow2", "uriBaseId": "S3"}
    assert place["physicalLocation"]["region"] == {"startLine": 1}
    assert "S3" in run["originalUriBaseIds"]


def test_each_rule_explains_itself() -> None:
    reports = [sample.verdict(code, Status.UNSAFE, reasons=(code,)) for code in CODES]

    rules = run_of(*reports)["tool"]["driver"]["rules"]

    assert [rule["id"] for rule in rules] == CODES
    for rule in rules:
        assert what_to_do(rule["id"]) in rule["help"]["markdown"]
        assert rule["help"]["text"].startswith("What to do: ")
        assert rule["shortDescription"]["text"]
        assert 0 < float(rule["properties"]["security-severity"]) <= 10


def test_safe_objects_and_other_files_are_only_counted() -> None:
    pdf = sample.verdict("a.pdf", Status.UNRECOGNIZED, reasons=("not_an_image",))
    unknown = sample.verdict("b", Status.UNRECOGNIZED, reasons=("no_known_format",))

    run = run_of(sample.verdict("safe"), pdf, unknown)

    assert [one["ruleId"] for one in run["results"]] == ["no_known_format"]
    assert run["properties"] == {
        "objects": 3,
        "statuses": {"unrecognized": 1, "safe": 1},
        "notImages": 1,
    }


def test_without_objects_the_file_is_still_valid() -> None:
    assert run_of()["results"] == []


AUDIT = Audit(
    id="0123456789ab",
    spec=AuditSpec(bucket="images", prefix="a b/[x]"),
    state=AuditState.DONE,
    started_at=sample.NOON,
    ended_at=sample.NOON,
)


def test_an_audit_says_what_it_is_about_and_contains_the_findings_about_the_bucket() -> None:
    finding = BucketFinding(
        kind="tag_mismatch", bucket="images", key="a/b.qcow2", version_id="7", message="the tag says {safe}"
    )
    gone = finding.model_copy(update={"kind": "gone", "key": "old", "version_id": None})

    (run,) = runs_of(Run([OwnedReport(UNSAFE)], [finding, gone], AUDIT))

    assert run["automationDetails"] == {"id": "keyhole/images/a%20b/%5Bx%5D/0123456789ab"}
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"]
    assert invocation["startTimeUtc"] == invocation["endTimeUtc"] == "2026-05-01T12:00:00Z"
    *_, tagged, deleted = run["results"]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[one["ruleIndex"]]["id"] for one in (tagged, deleted)] == ["tag_mismatch", "gone"]
    assert (tagged["level"], deleted["level"]) == ("warning", "note")
    assert seen(tagged["message"]["text"]) == "The tag says {safe}. Object: s3://images/a/b.qcow2"
    assert tagged["properties"] == {"bucket": "images", "key": "a/b.qcow2", "versionId": "7"}
    assert tagged["locations"][0]["physicalLocation"]["artifactLocation"] == {
        "uri": "images/a/b.qcow2",
        "uriBaseId": "S3",
    }


@pytest.mark.parametrize("state", [state for state in AuditState if state is not AuditState.DONE])
def test_an_incomplete_audit_is_no_success(state: AuditState) -> None:
    (run,) = runs_of(Run([], [], AUDIT.model_copy(update={"state": state, "ended_at": None})))

    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert "endTimeUtc" not in invocation
    (told,) = invocation["toolExecutionNotifications"]
    assert state.value in told["message"]["text"]


def test_a_finding_of_a_newer_version_is_a_result_too() -> None:
    finding = BucketFinding(kind="new_kind", bucket="images", key="a", message="something new")

    (run,) = runs_of(Run([OwnedReport(UNSAFE)], [finding], AUDIT))

    assert run["results"][-1]["message"]["text"] == "Something new. Object: s3://images/a"
    assert run["tool"]["driver"]["rules"][-1]["id"] == "new_kind"


def test_each_run_counts_its_own_objects_and_rules() -> None:
    first, second = runs_of(
        Run([OwnedReport(UNSAFE)]),
        Run([OwnedReport(sample.verdict("b", Status.UNSAFE, reasons=("truncated",)))]),
    )

    assert [rule["id"] for rule in second["tool"]["driver"]["rules"]] == ["truncated"]
    assert (first["properties"]["objects"], second["properties"]["objects"]) == (1, 1)


def test_without_audits_there_are_no_runs() -> None:
    assert runs_of() == []


def test_a_fingerprint_stays_the_same_for_a_new_version_of_the_object_and_differs_between_buckets() -> None:
    def fingerprint(**fields: Any) -> Any:
        (result,) = run_of(UNSAFE.model_copy(update={"reasons": ("backing_file",), **fields}))["results"]
        return result["partialFingerprints"]["primaryLocationLineHash"]

    assert fingerprint() == fingerprint(version_id="2", etag="x", size=7)
    assert fingerprint() != fingerprint(bucket="other")
    assert fingerprint() != fingerprint(key="other")
    assert fingerprint() != fingerprint(reasons=("truncated",))


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("disk #1.qcow2", {"uri": "disk%20%231.qcow2"}),
        ("c:disk", {"uri": "c%3Adisk"}),
        ("/var/a.img", {"uri": "file:///var/a.img"}),
        ("https://example.com/a b.img", {"uri": "example.com/a%20b.img", "uriBaseId": "HTTPS"}),
        ("\udcff.img", {"uri": "%FF.img"}),
    ],
)
def test_other_targets_have_places_without_a_foreign_scheme(target: str, location: dict[str, str]) -> None:
    report = UNSAFE.model_copy(update={"target": target, "bucket": None, "key": None})

    result, *_ = run_of(report)["results"]

    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == location


@given(key=TEXTS, message=TEXTS)
def test_no_key_or_message_becomes_a_link_or_a_placeholder(key: str, message: str) -> None:
    report = sample.verdict(
        key, Status.UNSAFE, reasons=("backing_file",), findings=(found("backing_file", message),)
    )

    (result,) = run_of(report)["results"]

    text = result["message"]["text"]
    assert text.isprintable()
    assert f"s3://images/{key}".encode("unicode_escape").decode().isprintable()
    bare = text.replace("\\\\", "").replace("\\[", "").replace("\\]", "").replace("{{", "").replace("}}", "")
    assert not {"[", "]", "{", "}"} & set(bare)
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri) == f"images/{key}"


@given(name=TEXTS)
def test_a_result_has_the_owner_of_its_object_as_a_property(name: str) -> None:
    (run,) = runs_of(
        Run([OwnedReport(UNSAFE, Owner(name)), OwnedReport(UNSAFE, Owner(unknown=name)), OwnedReport(UNSAFE)])
    )

    found = [
        (one["properties"].get("owner"), one["properties"].get("ownerUnknown")) for one in run["results"]
    ]
    assert found == [(name, None)] * 2 + [(None, name)] * 2 + [(None, None)] * 2


def test_a_viewer_shows_the_key_as_it_is() -> None:
    key = "[click](http://evil) {0} \\ b"
    report = sample.verdict(key, Status.DAMAGED, reasons=("truncated",))

    (result,) = run_of(report)["results"]

    assert seen(result["message"]["text"]).endswith(f"Object: s3://images/{key}")


def test_a_program_can_read_each_part_while_scans_run() -> None:
    """Memory stays bounded: a report is written before the next one is needed."""
    asked = []

    def reports() -> Any:
        for number in range(3):
            asked.append(number)
            yield UNSAFE

    parts = write_sarif(reports())
    next(parts)
    next(parts)

    assert asked == [0]


def test_the_file_is_valid_according_to_the_schema() -> None:
    schema = _schema()
    hostile = [sample.verdict(key, Status.UNSAFE, reasons=("backing_file",)) for key in ("\x1b[{", "//", "ü")]

    reports = [*(one.report for one in sample.objects() if one.report), *hostile]
    findings = [
        BucketFinding(kind=kind, bucket="images", key="\x1b[{", message="?") for kind in ("gone", "other")
    ]
    stopped = AUDIT.model_copy(update={"state": AuditState.STOPPED})
    owned = [OwnedReport(report, Owner(report.key)) for report in reports]
    unowned = [OwnedReport(report, Owner(unknown="denied")) for report in reports]
    document = json.loads(b"".join(write_runs([Run(owned), Run(unowned, findings, stopped)])))

    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)


def _schema() -> dict[str, Any]:
    """The schema of SARIF 2.1.0, from the npm package `@microsoft/jest-sarif`."""
    folder = os.environ.get(NODE_MODULES, "")
    path = Path(folder) / "@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json"
    if not folder or not path.exists():
        message = f"{NODE_MODULES} contains no npm package @microsoft/jest-sarif"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema
