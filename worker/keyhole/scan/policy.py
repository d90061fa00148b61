"""Turns facts into a verdict, by a table that maps every check to a status.

A rule (`keyhole.scan.rules`) adds findings for what it forbids, and may change the severity of others. Then
the table decides.
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

#: The version of the rules below. It changes whenever the same facts could lead to another verdict.
RULESET = "5"


def ruleset(policy: Policy) -> str:
    """The rules of a verdict: the version of Keyhole's own rules, and the name of the policy."""
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

#: Formats without a high-water mark: the data after a LUKS header may end anywhere. (An ASIF has one in its
#: tables, which are not read, so an ASIF may be cut off and is not here.)
UNPROVABLE = frozenset({"luks"})

#: The order of statuses: if there are several, the first one is the verdict.
PRECEDENCE = (Status.UNSAFE, Status.DAMAGED, Status.REJECTED, Status.INCONCLUSIVE, Status.UNRECOGNIZED)


def apply(rule: Rule, facts: Facts, declared: Declared, around: Sequence[str] = ()) -> Facts:
    """Apply a rule: add findings for what it forbids, and set the severity of each finding.

    The virtual size is that of the rule's first reader. A finding that the rule makes information, or that
    concerns none of its readers, stays in the report. `around` has the formats of the enclosing containers,
    from the outside in.
    """
    facts = replace(facts, virtual_size=facts.virtual_size_by(rule.readers[0]))
    is_disk = facts.format is not None and facts.format not in CONTAINER_FORMATS
    placed = _badly_placed(rule, declared.key, around) if is_disk else ()
    findings = [*facts.findings, *placed, *_forbidden(rule, facts)]
    if rule.compare_declared:
        findings += compare(declared, facts)
    return replace(facts, findings=tuple(_weighed(rule, one) for one in findings))


def _weighed(rule: Rule, finding: Finding) -> Finding:
    """A finding with the severity that a rule gives it."""
    concerns = finding.concerns(rule.readers)
    severity = rule.severity.get(finding.check, finding.severity) if concerns else Severity.INFO
    return replace(finding, severity=severity)


def _forbidden(rule: Rule, facts: Facts) -> Iterator[Finding]:
    """Yield what a rule forbids of an image. Properties that were not seen lead to no finding."""
    if facts.format is None:
        return
    known = facts.complete or facts.subformat is not None or not rule.accepts_some(facts.format)
    if known and not rule.accepts(facts.format, facts.subformat):
        name = f"{facts.format} ({facts.subformat})" if facts.subformat else facts.format
        yield found("banned_format", f"the policy does not take {name}")
    if facts.format in CONTAINER_FORMATS:
        # A container has no disk of its own: the rule's sizes apply to its members.
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
    """Yield a finding if the rule does not accept a disk in these containers, or with this name."""
    if not rule.accepts_placement(around):
        place = f"in {'/'.join(around)}" if around else "that lies in nothing"
        yield found("banned_format", f"the policy takes no disk {place}")
    elif around and rule.member_name is not None and name != rule.member_name:
        yield found("banned_format", f"the policy takes a disk that is called {rule.member_name!r}")


def judge(
    facts: Facts, unfinished: str | None = None, rule: Rule | None = None
) -> tuple[Status, tuple[str, ...]]:
    """Return the status and its reasons, the most important first, each once.

    Args:
        facts: The facts of the inspection, with a rule applied.
        unfinished: The reason code if the inspection was interrupted.
        rule: The rule, which says how much proof of wholeness `safe` needs.
    """
    grounds: list[tuple[Status, str]] = [
        # A critical finding is unsafe, whatever the check, so a rule can make any check unsafe.
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
        # No rule can waive this: if the size is unknown, the other checks mean nothing.
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
    """Return the verdict on a container: the worst of its own and those of its members, with all reasons."""
    decided = [verdict for verdict in verdicts if verdict[0] is not Status.SAFE]
    if not decided:
        return Status.SAFE, ()
    decided.sort(key=lambda verdict: PRECEDENCE.index(verdict[0]))
    return decided[0][0], tuple(dict.fromkeys(reason for _, reasons in decided for reason in reasons))


def _members_in_doubt(facts: Facts) -> bool:
    """Whether a container has incomplete members, whose own reports have the reasons."""
    return any(not member.facts.complete for member in facts.members)


def _whole_enough(facts: Facts, rule: Rule) -> bool:
    if rule.wholeness == "proven":
        return facts.wholeness is Wholeness.PROVEN
    if rule.wholeness == "unchecked" or (rule.wholeness == "provable" and facts.format in UNPROVABLE):
        return True
    return facts.wholeness is not Wholeness.UNCHECKED
