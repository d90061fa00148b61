"""Writes verdicts as SARIF 2.1.0, the format of code-scanning viewers.

Each reason of each object that is not safe becomes a result. Safe objects, and objects that are certainly
not images, have no results; `properties` of the run contains the number of objects with each status. The
rules are the reasons that occur. They are written after the results, so that results can be written while
scans run, and memory stays bounded.

The reports of several audits are several runs. The run of an audit also contains its findings about the
bucket (`keyhole.reports.sarif_bucket`), and its `automationDetails` name what was audited, so that a viewer
compares it only with other audits of the same bucket and prefix.

Sources: OASIS SARIF 2.1.0, and "SARIF support for code scanning" in GitHub's documentation.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from keyhole import __version__
from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import Audit, AuditState, BucketFinding
from keyhole.reasons import Reason, Status, meaning, not_an_image
from keyhole.remedies import ISOLATION, REMEDIES, what_to_do
from keyhole.reports.owned import OwnedReport
from keyhole.reports.sarif_bucket import bucket_result, bucket_rule
from keyhole.reports.sarif_places import BASES, fingerprints, literal, locations, message, quoted
from keyhole.reports.tally import Tally
from keyhole.scan.policy import STATUS_OF_CHECK
from keyhole.scan.report import Report
from keyhole.scan.waivers import Applied

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: The level of a result, by the status of its object. An object about which Keyhole could not decide is a
#: warning, because it can be unsafe.
_LEVELS: Final = {
    Status.UNSAFE: "error",
    Status.DAMAGED: "error",
    Status.REJECTED: "warning",
    Status.UNRECOGNIZED: "warning",
    Status.INCONCLUSIVE: "warning",
    Status.UNREADABLE: "warning",
    Status.FAILED: "warning",
}
#: The severity of a rule, which GitHub shows as high (from 7.0), medium (from 4.0) or low. Opening an unsafe
#: image can give its content access to files of the host.
_SEVERITIES: Final = {Status.UNSAFE: "8.5", Status.DAMAGED: "5.0", Status.REJECTED: "5.0"}
_OTHER_SEVERITY: Final = "3.0"
#: The status that each reason usually leads to.
_STATUSES: Final = {**STATUS_OF_CHECK, **{reason.value: reason.status for reason in Reason}}


#: The id of a rule, and whether it is the kind of a finding about the bucket.
_RuleKey = tuple[str, bool]


class Run(NamedTuple):
    """What a run contains: reports, and for an audit also its findings about the bucket."""

    reports: Iterable[OwnedReport]
    findings: Iterable[BucketFinding] = ()
    audit: Audit | None = None


def write_sarif(reports: Iterable[Report]) -> Iterator[bytes]:
    """Yield the parts of a SARIF file with one run."""
    return write_runs([Run(map(OwnedReport, reports))])


def write_runs(runs: Iterable[Run]) -> Iterator[bytes]:
    """Yield the parts of a SARIF file."""
    head = json.dumps({"$schema": _SCHEMA, "version": "2.1.0"})[:-1].encode("ascii") + b', "runs": ['
    before = head
    for run in runs:
        yield from _run(run, before)
        before = b",\n"
    yield (head if before is head else b"") + b"]}\n"


def _run(run: Run, before: bytes) -> Iterator[bytes]:
    tally = Tally()
    rules: dict[_RuleKey, int] = {}
    yield before + b'{"results": ['
    before = b"\n"
    for result in _results(run, tally, rules):
        yield before + json.dumps(result).encode("ascii")
        before = b",\n"
    rest = {
        "tool": {"driver": _driver(rules)},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": BASES,
        **(_about(run.audit) if run.audit else {"invocations": [{"executionSuccessful": True}]}),
        "properties": {
            "objects": tally.objects,
            "statuses": {status.value: count for status, count in tally.images()},
            "notImages": tally.not_images,
        },
    }
    yield b"\n], " + json.dumps(rest).encode("ascii")[1:]


def _results(run: Run, tally: Tally, rules: dict[_RuleKey, int]) -> Iterator[dict[str, object]]:
    """Yield the results of a run, count its reports, and number its rules."""
    for owned in run.reports:
        tally.add(owned.report)
        for code, waiver in _codes(owned.report):
            yield _result(owned, code, rules.setdefault((code, False), len(rules)), waiver)
    for finding in run.findings:
        yield bucket_result(finding, rules.setdefault((finding.kind, True), len(rules)))


def _about(audit: Audit) -> dict[str, object]:
    """Return what was audited, when, and whether the audit is complete."""
    spec = audit.spec
    invocation: dict[str, object] = {
        "executionSuccessful": audit.state is AuditState.DONE,
        "startTimeUtc": _utc(audit.started_at),
    }
    if audit.ended_at is not None:
        invocation["endTimeUtc"] = _utc(audit.ended_at)
    if audit.state is not AuditState.DONE:
        told = f"The audit is {audit.state.value}, so results can be missing."
        invocation["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": told}}]
    return {
        # The part before the last slash is the category, by which viewers compare runs (section 3.17.3).
        "automationDetails": {"id": f"keyhole/{quoted(spec.bucket)}/{quoted(spec.prefix)}/{audit.id}"},
        "invocations": [invocation],
    }


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _codes(report: Report) -> Iterator[tuple[str, Applied | None]]:
    """Yield the code of each result of a report. The code of a waived check comes with its waiver."""
    if report.status is not Status.SAFE and not not_an_image(report.status, report.reasons):
        yield from ((code, None) for code in report.reasons)
    yield from ((waiver.check, waiver) for waiver in report.waivers)


def _driver(rules: Iterable[_RuleKey]) -> dict[str, object]:
    return {
        "name": "Keyhole",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [bucket_rule(code) if of_bucket else _rule(code) for code, of_bucket in rules],
    }


def _rule(code: str) -> dict[str, object]:
    # A reason of a newer version can be in a record.
    status = _STATUSES.get(code, Status.INCONCLUSIVE)
    return {
        "id": code,
        "shortDescription": {"text": literal(code.replace("_", " ").capitalize() + ".")},
        "fullDescription": {"text": literal(meaning(code) + ".")},
        "help": _help(code),
        "defaultConfiguration": {"level": _LEVELS.get(status, "warning")},
        "properties": {
            "tags": ["security", "disk-image"],
            "precision": "very-high",
            "security-severity": _SEVERITIES.get(status, _OTHER_SEVERITY),
        },
    }


def _help(code: str) -> dict[str, str]:
    """Return what to do about a reason, in text and in Markdown."""
    todo = f"What to do: {what_to_do(code)}."
    remedy = REMEDIES.get(code)
    if remedy is None:  # a reason of a newer version
        return {"text": literal(todo)}
    paragraphs = [todo, remedy.why, f"How it arises: {remedy.cause}", remedy.check, remedy.repair]
    commands = [
        f"{repair.aim}:\n\n```sh\n" + "\n".join(repair.commands) + "\n```" for repair in remedy.repairs
    ]
    return {
        "text": "\n\n".join(map(literal, paragraphs)),
        "markdown": "\n\n".join([*paragraphs, *commands, *([ISOLATION] if commands else [])]),
    }


def _result(owned: OwnedReport, code: str, rule: int, waiver: Applied | None) -> dict[str, object]:
    report, owner = owned
    messages = [finding.message for finding in report.findings if finding.check == code]
    error = report.details.get("error")
    told = "; ".join(messages) or (str(error) if error else meaning(code))
    facts = {
        "status": report.status.value,
        "bucket": report.bucket,
        "key": report.key,
        "versionId": report.version_id,
        "etag": report.etag,
        "size": report.size,
        "format": report.format,
        "virtualSize": report.virtual_size,
        "scannedAt": report.scanned_at.isoformat(),
        "owner": owner.name,
        "ownerUnknown": owner.unknown,
    }
    return {
        "ruleId": code,
        "ruleIndex": rule,
        "level": _LEVELS.get(report.status, "note"),
        "message": message(told, report.target),
        "locations": locations(report.target),
        "partialFingerprints": fingerprints(
            [report.bucket, report.key] if report.bucket else [report.target], code
        ),
        # Either all results of a run have this property or none has it (section 3.27.23).
        "suppressions": [_suppression(waiver)] if waiver else [],
        "properties": {name: value for name, value in facts.items() if value is not None},
    }


def _suppression(waiver: Applied) -> dict[str, object]:
    return {"kind": "external", "status": "accepted", "justification": escaped(waiver.sentence())}
