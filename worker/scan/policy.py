"""What facts mean: the table that maps every check to a status, and how one verdict is made of them."""

from worker.inspectors.facts import Facts, Wholeness
from worker.inspectors.findings import Severity
from worker.scan.report import Status

#: Names the rules below. It changes whenever the same facts could lead to another verdict.
RULESET = "1"

STATUS_OF_CHECK: dict[str, Status] = {
    "backing_file": Status.UNSAFE,
    "data_file": Status.UNSAFE,
    "parent_image": Status.UNSAFE,
    "extent_path": Status.UNSAFE,
    "change_track_path": Status.UNSAFE,
    "unknown_features": Status.UNSAFE,
    "log_replay": Status.REJECTED,
    "saved_state": Status.REJECTED,
    "dirty": Status.REJECTED,
    "corrupt_flag": Status.DAMAGED,
    "encrypted": Status.REJECTED,
    "snapshots": Status.REJECTED,
    "unsupported_subformat": Status.REJECTED,
    "ambiguous_format": Status.UNSAFE,
    "truncated": Status.DAMAGED,
    "checksum_mismatch": Status.DAMAGED,
    "structure": Status.DAMAGED,
    "size_mismatch": Status.DAMAGED,
}

#: Of several, the first in this order is the verdict.
PRECEDENCE = (Status.UNSAFE, Status.DAMAGED, Status.REJECTED, Status.INCONCLUSIVE, Status.UNRECOGNIZED)


def judge(facts: Facts, unfinished: str | None = None) -> tuple[Status, tuple[str, ...]]:
    """The status and the reasons for it, most weighty first, each once.

    Args:
        facts: What the inspection knows.
        unfinished: Why the inspection was broken off, as a reason code, if it was.
    """
    grounds = [
        (STATUS_OF_CHECK[finding.check], finding.check)
        for finding in facts.findings
        if finding.severity is not Severity.INFO
    ]
    if unfinished is not None or not facts.complete:
        grounds.append((Status.INCONCLUSIVE, unfinished or "missed"))
    elif facts.format is None:
        grounds.append((Status.UNRECOGNIZED, "no_known_format" if facts.actual_size else "empty"))
    elif not grounds and facts.wholeness is Wholeness.UNCHECKED:
        grounds.append((Status.INCONCLUSIVE, "wholeness_unchecked"))
    if not grounds:
        return Status.SAFE, ()
    grounds.sort(key=lambda ground: PRECEDENCE.index(ground[0]))
    return grounds[0][0], tuple(dict.fromkeys(reason for _, reason in grounds))
