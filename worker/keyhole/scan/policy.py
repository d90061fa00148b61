"""What facts mean: the table that maps every check to a status, and how one verdict is made of them.

A rule (`keyhole.scan.rules`) adds what it forbids as findings, and weighs the others anew; then the table
decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from keyhole.inspectors.catalogue import CONTAINER_FORMATS
from keyhole.inspectors.facts import Facts, Wholeness
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.reasons import Reason, Status
from keyhole.scan import media_type
from keyhole.scan.declared import Declared, compare
from keyhole.scan.rules import Policy, Rule

#: Names the rules below. It changes whenever the same facts could lead to another verdict.
RULESET = "5"


def ruleset(policy: Policy) -> str:
    """By which rules a verdict is made: Keyhole's own, and whose."""
    return f"{RULESET}:{policy.name}"


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
    "member_path": Status.UNSAFE,
    "ovf_reference": Status.DAMAGED,
    "ambiguous_format": Status.UNSAFE,
    "metadata_overlap": Status.UNSAFE,
    "trailing_data": Status.REJECTED,
    "member_limit": Status.REJECTED,
    "decompression_bomb": Status.UNSAFE,
    "nested_compression": Status.REJECTED,
    "truncated": Status.DAMAGED,
    "checksum_mismatch": Status.DAMAGED,
    "structure": Status.DAMAGED,
    "size_mismatch": Status.DAMAGED,
    "banned_format": Status.REJECTED,
    "virtual_size_limit": Status.REJECTED,
    "virtual_size_multiple": Status.REJECTED,
    "format_mismatch": Status.REJECTED,
}

#: Formats that have no high-water mark: what lies behind a LUKS header may end anywhere. (An ASIF's tables
#: would tell, but are not read: it may be cut, so it is in doubt.)
UNPROVABLE = frozenset({"luks"})

#: Of several, the first in this order is the verdict.
PRECEDENCE = (Status.UNSAFE, Status.DAMAGED, Status.REJECTED, Status.INCONCLUSIVE, Status.UNRECOGNIZED)


def apply(rule: Rule, facts: Facts, declared: Declared, around: Sequence[str] = ()) -> Facts:
    """The facts as a rule's readers see them, with what it forbids, and each finding as grave as it says.

    A finding that a rule makes information, or that concerns none of its readers, stays in the report.
    `around` are the containers that it lies in, from the outside in.
    """
    facts = replace(facts, virtual_size=facts.virtual_size_by(rule.readers[0]))
    is_disk = facts.format is not None and facts.format not in CONTAINER_FORMATS
    placed = _badly_placed(rule, declared.key, around) if is_disk else ()
    findings = [*facts.findings, *placed, *_forbidden(rule, facts)]
    if rule.compare_declared:
        findings += compare(declared, facts)
    return replace(facts, findings=tuple(_weighed(rule, one) for one in findings))


def _weighed(rule: Rule, finding: Finding) -> Finding:
    """A finding as grave as a rule says."""
    concerns = finding.concerns(rule.readers)
    severity = rule.severity.get(finding.check, finding.severity) if concerns else Severity.INFO
    return replace(finding, severity=severity)


def _forbidden(rule: Rule, facts: Facts) -> Iterator[Finding]:
    """What is known of an image that the rule does not take. Of what was not seen, nothing is said."""
    if facts.format is None:
        return
    known = facts.complete or facts.subformat is not None or not rule.accepts_some(facts.format)
    if known and not rule.accepts(facts.format, facts.subformat):
        name = f"{facts.format} ({facts.subformat})" if facts.subformat else facts.format
        yield found("banned_format", f"the policy does not take {name}")
    if facts.format in CONTAINER_FORMATS:
        # A container has no disk of its own: what is said of sizes is meant for its members.
        return
    size = facts.virtual_size
    if size is None:
        if facts.complete and (rule.max_virtual_size or rule.virtual_size_multiple):
            yield found("virtual_size_limit", "the policy limits the disk's size, which is unknown or zero")
        return
    if rule.max_virtual_size is not None and size > rule.max_virtual_size:
        yield found(
            "virtual_size_limit", f"the disk has {size} bytes, the policy takes {rule.max_virtual_size}"
        )
    if rule.virtual_size_multiple is not None and size % rule.virtual_size_multiple:
        yield found(
            "virtual_size_multiple", f"the disk has {size} bytes, no multiple of {rule.virtual_size_multiple}"
        )


def _badly_placed(rule: Rule, name: str | None, around: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with where a disk lies."""
    if not rule.accepts_placement(around):
        place = f"in {'/'.join(around)}" if around else "that lies in nothing"
        yield found("banned_format", f"the policy takes no disk {place}")
    elif around and rule.member_name is not None and name != rule.member_name:
        yield found("banned_format", f"the policy takes a disk that is called {rule.member_name!r}")


def judge(
    facts: Facts, unfinished: str | None = None, rule: Rule | None = None
) -> tuple[Status, tuple[str, ...]]:
    """The status and the reasons for it, most weighty first, each once.

    Args:
        facts: What the inspection knows, with a rule applied.
        unfinished: The code of why the inspection was broken off, if it was.
        rule: Says how much proof of wholeness `safe` needs.
    """
    grounds: list[tuple[Status, str]] = [
        # What is critical is unsafe, whatever the check; so a rule can make it.
        (
            Status.UNSAFE if finding.severity is Severity.CRITICAL else STATUS_OF_CHECK[finding.check],
            finding.check,
        )
        for finding in facts.findings
        if finding.severity is not Severity.INFO
    ]
    other: Reason | None = None
    if unfinished is not None or not facts.complete:
        grounds.append((Status.INCONCLUSIVE, facts.unseen or unfinished or Reason.MISSED))
    elif facts.format is None:
        other = media_type.unrecognized_reason(facts)
    elif facts.format in CONTAINER_FORMATS and not facts.members:
        other = Reason.NO_KNOWN_FORMAT
    elif not grounds and facts.format not in CONTAINER_FORMATS and not facts.virtual_size:
        # No rule can waive it: of a disk without a size nothing else that was checked means anything.
        other = Reason.SIZE_UNKNOWN
    elif not (grounds or _whole_enough(facts, rule or Rule()) or _members_in_doubt(facts)):
        other = Reason.WHOLENESS_UNCHECKED
    if other is not None:
        grounds.append((other.status, other))
    if not grounds:
        return Status.SAFE, ()
    grounds.sort(key=lambda ground: PRECEDENCE.index(ground[0]))
    return grounds[0][0], tuple(dict.fromkeys(reason for _, reason in grounds))


def worst(
    verdicts: Sequence[tuple[Status, tuple[str, ...]]],
) -> tuple[Status, tuple[str, ...]]:
    """The verdict on a container: the worst of its own and its members', with the reasons of all."""
    decided = [verdict for verdict in verdicts if verdict[0] is not Status.SAFE]
    if not decided:
        return Status.SAFE, ()
    decided.sort(key=lambda verdict: PRECEDENCE.index(verdict[0]))
    return decided[0][0], tuple(dict.fromkeys(reason for _, reasons in decided for reason in reasons))


def _members_in_doubt(facts: Facts) -> bool:
    """Whether a container has members that say themselves why they are not known to their ends."""
    return any(not member.facts.complete for member in facts.members)


def _whole_enough(facts: Facts, rule: Rule) -> bool:
    if rule.wholeness == "proven":
        return facts.wholeness is Wholeness.PROVEN
    if rule.wholeness == "unchecked" or (rule.wholeness == "provable" and facts.format in UNPROVABLE):
        return True
    return facts.wholeness is not Wholeness.UNCHECKED
