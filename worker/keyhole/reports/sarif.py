"""Writes verdicts as SARIF 2.1.0, the format of code-scanning viewers.

Each reason of each object that is not safe becomes a result. Safe objects, and objects that are certainly
not images, have no results; `properties` of the run contains the number of objects with each status. The
rules are the reasons that occur. They are written after the results, so that results can be written while
scans run, and memory stays bounded.

GitHub refuses a whole file if it contains an absolute URI with another scheme than `file`
(github/codeql-action, issue 754). So the location of `s3://bucket/key` is the relative URI `bucket/key`, with
the base `S3`. The whole name is in the message and in `logicalLocations`. GitHub also needs a line number in
each location, so every location is in line 1. It compares results between two files by
`primaryLocationLineHash`, which is therefore a hash of the object's name and the reason. In a message, SARIF
gives brackets and braces a meaning (sections 3.11.5 and 3.11.6), so brackets and braces in keys are escaped.

Sources: OASIS SARIF 2.1.0, and "SARIF support for code scanning" in GitHub's documentation.
"""

import json
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from keyhole import __version__
from keyhole.inspectors.text import escaped
from keyhole.reasons import Reason, Status, meaning, not_an_image
from keyhole.remedies import ISOLATION, REMEDIES, what_to_do
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
_BASE: Final = {
    "S3": {"description": {"text": "The S3 service: prepend s3:// to get the URI of the object."}}
}


def write_sarif(reports: Iterable[Report]) -> Iterator[bytes]:
    """Yield the parts of a SARIF file."""
    tally = Tally()
    rules: dict[str, int] = {}
    head = json.dumps({"$schema": _SCHEMA, "version": "2.1.0"})
    yield head[:-1].encode("ascii") + b', "runs": [{"results": ['
    before = b"\n"
    for report in tally.counting(reports):
        for code, waiver in _codes(report):
            rule = rules.setdefault(code, len(rules))
            yield before + json.dumps(_result(report, code, rule, waiver)).encode("ascii")
            before = b",\n"
    rest = {
        "tool": {"driver": _driver(list(rules))},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": _BASE,
        "invocations": [{"executionSuccessful": True}],
        "properties": {
            "objects": tally.objects,
            "statuses": {status.value: count for status, count in tally.images()},
            "notImages": tally.not_images,
        },
    }
    yield b"\n], " + json.dumps(rest).encode("ascii")[1:] + b"]}\n"


def _codes(report: Report) -> Iterator[tuple[str, Applied | None]]:
    """Yield the code of each result of a report. The code of a waived check comes with its waiver."""
    if report.status is not Status.SAFE and not not_an_image(report.status, report.reasons):
        yield from ((code, None) for code in report.reasons)
    yield from ((waiver.check, waiver) for waiver in report.waivers)


def _driver(codes: list[str]) -> dict[str, object]:
    return {
        "name": "Keyhole",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(code) for code in codes],
    }


def _rule(code: str) -> dict[str, object]:
    # A reason of a newer version can be in a record.
    status = _STATUSES.get(code, Status.INCONCLUSIVE)
    return {
        "id": code,
        "shortDescription": {"text": _literal(code.replace("_", " ").capitalize() + ".")},
        "fullDescription": {"text": _literal(meaning(code) + ".")},
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
        return {"text": _literal(todo)}
    paragraphs = [todo, remedy.why, f"How it arises: {remedy.cause}", remedy.check, remedy.repair]
    commands = [
        f"{repair.aim}:\n\n```sh\n" + "\n".join(repair.commands) + "\n```" for repair in remedy.repairs
    ]
    return {
        "text": "\n\n".join(map(_literal, paragraphs)),
        "markdown": "\n\n".join([*paragraphs, *commands, *([ISOLATION] if commands else [])]),
    }


def _result(report: Report, code: str, rule: int, waiver: Applied | None) -> dict[str, object]:
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
    }
    return {
        "ruleId": code,
        "ruleIndex": rule,
        "level": _LEVELS.get(report.status, "note"),
        "message": {"text": _literal(f"{_sentence(told)} Object: {report.target}")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": _location(report), "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": escaped(report.target), "kind": "resource"}],
            }
        ],
        "partialFingerprints": _fingerprints(report, code),
        # Either all results of a run have this property or none has it (section 3.27.23).
        "suppressions": [_suppression(waiver)] if waiver else [],
        "properties": {name: value for name, value in facts.items() if value is not None},
    }


def _suppression(waiver: Applied) -> dict[str, object]:
    return {"kind": "external", "status": "accepted", "justification": escaped(waiver.sentence())}


def _location(report: Report) -> dict[str, object]:
    """Return the location of an object as a relative URI, or of a file as a path or a `file` URI."""
    scheme, separator, rest = report.target.partition("://")
    if separator:
        # A name that begins with a slash would be an absolute path.
        return {"uri": _quoted(rest.lstrip("/")), "uriBaseId": scheme.upper()}
    return {"uri": f"file://{_quoted(report.target)}" if report.target[:1] == "/" else _quoted(report.target)}


def _quoted(path: str) -> str:
    """Return a path as a part of a URI. Names of files can contain bytes that are not UTF-8."""
    try:
        return quote(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return quote(path.encode("utf-8", "surrogatepass"))


def _fingerprints(report: Report, code: str) -> dict[str, str]:
    """Return hashes that stay the same for the same reason of the same object, in all versions of it."""
    name = [report.bucket, report.key] if report.bucket else [report.target]
    digest = sha256(json.dumps([*name, code]).encode("ascii")).hexdigest()
    return {"primaryLocationLineHash": f"{digest[:16]}:1", "objectAndReason/v1": digest}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _literal(text: str) -> str:
    """Return a text whose brackets and braces have no meaning in a SARIF message, in one visible line."""
    return re.sub(r"([\[\]\\])", r"\\\1", escaped(text)).replace("{", "{{").replace("}", "}}")
