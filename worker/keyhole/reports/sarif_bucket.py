"""The findings about a bucket in SARIF: verdicts on deleted objects, and tags that contradict verdicts."""

from keyhole.intake.audits.audit import BucketFinding
from keyhole.reports.bucket_kinds import bucket_kind
from keyhole.reports.sarif_places import fingerprints, literal, locations, message


def bucket_rule(kind: str) -> dict[str, object]:
    """Return the rule of a kind of findings."""
    level, meaning, todo = bucket_kind(kind)
    return {
        "id": kind,
        "shortDescription": {"text": literal(kind.replace("_", " ").capitalize() + ".")},
        "fullDescription": {"text": literal(meaning + ".")},
        "help": {"text": literal(f"What to do: {todo}."), "markdown": f"What to do: {todo}."},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["security", "disk-image"], "precision": "very-high"},
    }


def bucket_result(finding: BucketFinding, rule: int) -> dict[str, object]:
    """Return the result for a finding. `rule` is the index of its rule in the run."""
    target = finding.target
    facts = {"bucket": finding.bucket, "key": finding.key, "versionId": finding.version_id}
    return {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": bucket_kind(finding.kind).level,
        "message": message(finding.message, target),
        "locations": locations(target),
        "partialFingerprints": fingerprints([finding.bucket, finding.key], finding.kind),
        # Either all results of a run have this property or none has it (section 3.27.23).
        "suppressions": [],
        "properties": {name: value for name, value in facts.items() if value is not None},
    }
