"""Turns the facts about an object into a verdict.

First a rule of the policy (`keyhole.scan.rules`) adds a finding for each property that the rule forbids. The
rule can also change the severity of other findings. Then `STATUS_OF_CHECK` maps the check of each finding to
a status, and the worst status is the verdict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from keyhole.inspectors.catalogue import CONTAINER_FORMATS
from keyhole.inspectors.facts import Facts, Wholeness
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.reasons import Reason, Status
from keyhole.scan import media_type
from keyhole.scan.accepted import accepted_formats, accepted_places
from keyhole.scan.declared import Declared, compare
from keyhole.scan.rules import Policy, Rule
from keyhole.scan.waivers import Applied, used, waiver_of

#: The version of the rules in this module. Increase it with every change after which the same facts can lead
#: to a different verdict.
RULESET = "5"


def ruleset(policy: Policy, waivers: Sequence[Applied] = ()) -> str:
    """Return the `ruleset` of a report: the version of Keyhole's own rules, and the name of the policy.

    If the verdict depends on waivers, the ruleset also states the last day of the waiver that ends first,
    because the verdict is not valid after that day (see `is_current`).
    """
    name = f"{RULESET}:{policy.name}"
    return f"{name}{_UNTIL}{min(waiver.until for waiver in waivers)}" if waivers else name


def policy_of(rules: str) -> str:
    """Return the name of the policy in a ruleset without waivers."""
    return rules.partition(":")[2]


def is_current(made_by: str, rules: str, today: date | None = None) -> bool:
    """Return whether a verdict is valid under the current rules.

    Args:
        made_by: The `ruleset` of the verdict's report.
        rules: The `ruleset` of the current policy, without waivers.
        today: The current day in UTC, if it is not the clock's.
    """
    if made_by == rules:
        return True
    name, mark, until = made_by.rpartition(_UNTIL)
    if not mark or name != rules:
        return False
    try:
        return (today or datetime.now(UTC).date()) <= date.fromisoformat(until)
    except ValueError:  # a part of the name of another policy file
        return False


#: Stands in a ruleset before the last day on which the verdict's waivers are in force. A policy's name ends
#: with a digest or is a profile, so it never ends with a date.
_UNTIL = "+until:"

#: For each check, the status of an object with a finding of this check. Findings with the severity `info`
#: have no influence on the status, and findings with the severity `critical` make every object unsafe.
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

#: Formats that do not record where their data end, so no program can prove that an image is whole. The data
#: after a LUKS header can have any length. (ASIF is not in this set. Its tables record where its data end,
#: but Keyhole does not read these tables.)
UNPROVABLE = frozenset({"luks"})

#: If an object has several statuses, the first one in this order is the verdict.
PRECEDENCE = (Status.UNSAFE, Status.DAMAGED, Status.REJECTED, Status.INCONCLUSIVE, Status.UNRECOGNIZED)


def apply(rule: Rule, facts: Facts, declared: Declared, around: Sequence[str] = ()) -> Facts:
    """Apply a rule of the policy to facts, and return a changed copy of the facts.

    The findings and the virtual size are changed.

    The rule adds a finding for each property that it forbids. A check in the rule's table `severity` gets the
    severity from this table. The rule also names the readers, the programs that will read the disk. A finding
    that concerns none of them gets the severity `info`. The virtual size is the one that the rule's first
    reader uses.

    Args:
        rule: The rule for the object.
        facts: The facts of the inspection.
        declared: What the uploader declares about the object.
        around: The formats of the containers that enclose the image, outermost first.
    """
    facts = replace(facts, virtual_size=facts.virtual_size_by(rule.readers[0]))
    is_disk = facts.format is not None and facts.format not in CONTAINER_FORMATS
    placed = _badly_placed(rule, declared.key, around) if is_disk else ()
    findings = [*facts.findings, *placed, *_forbidden(rule, facts)]
    if rule.compare_declared:
        findings += compare(declared, facts)
    return replace(facts, findings=tuple(_weighed(rule, one) for one in findings))


def _weighed(rule: Rule, finding: Finding) -> Finding:
    """Return a finding with the severity that the rule gives it."""
    concerns = finding.concerns(rule.readers)
    severity = rule.severity.get(finding.check, finding.severity) if concerns else Severity.INFO
    return replace(finding, severity=severity)


def _forbidden(rule: Rule, facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each property of an image that the rule forbids.

    An interrupted inspection does not know every property. Unknown properties yield no finding.
    """
    if facts.format is None:
        return
    known = facts.complete or facts.subformat is not None or not rule.accepts_some(facts.format)
    if known and not rule.accepts(facts.format, facts.subformat):
        name = f"{facts.format} ({facts.subformat})" if facts.subformat else facts.format
        accepted = accepted_formats(rule, facts.format)
        yield found("banned_format", f"the policy does not accept {name}; it accepts {accepted}")
    if facts.format in CONTAINER_FORMATS:
        # The rule's sizes apply to the disks in a container, not to the container.
        return
    size = facts.virtual_size
    if size is None:
        if facts.complete and rule.max_virtual_size is not None:
            wants = f"accepts at most {rule.max_virtual_size} bytes"
        elif facts.complete and rule.virtual_size_multiple is not None:
            wants = f"requires a multiple of {rule.virtual_size_multiple} bytes"
        else:
            return
        yield found("virtual_size_limit", f"the size of the disk is unknown or zero, and the policy {wants}")
        return
    if rule.max_virtual_size is not None and size > rule.max_virtual_size:
        yield found(
            "virtual_size_limit",
            f"the disk has {size} bytes; the policy accepts at most {rule.max_virtual_size}",
        )
    if rule.virtual_size_multiple is not None and size % rule.virtual_size_multiple:
        yield found(
            "virtual_size_multiple",
            f"the disk has {size} bytes; the policy requires a multiple of {rule.virtual_size_multiple}",
        )


def _badly_placed(rule: Rule, name: str | None, around: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if the rule does not accept a disk in these containers, or with this member name."""
    if not rule.accepts_placement(around):
        place = f"inside {'/'.join(around)}" if around else "outside a container"
        accepted = f"it accepts disks {accepted_places(rule)}"
        yield found("banned_format", f"the policy does not accept a disk {place}; {accepted}")
    elif around and rule.member_name is not None and name != rule.member_name:
        yield found("banned_format", f"the policy requires the disk to have the name {rule.member_name!r}")


def judge(
    facts: Facts,
    unfinished: str | None = None,
    rule: Rule | None = None,
    waivers: Sequence[Applied] = (),
) -> tuple[Status, tuple[str, ...]]:
    """Return the status of an object, and the reason codes for it, most important first.

    Args:
        facts: The facts of the inspection, as returned by `apply`.
        unfinished: Why the inspection was interrupted, as a reason code; `None` if it was not.
        rule: The rule for the object. It states whether the wholeness of an image must be proven, sampled or
            neither, so that the image can be `safe`.
        waivers: The waivers for the object. The findings that they cover do not count. All other conditions
            for `safe` still apply.
    """
    grounds: list[tuple[Status, str]] = [
        # A critical finding of any check makes the object unsafe. A rule can make any check critical.
        (
            Status.UNSAFE if finding.severity is Severity.CRITICAL else STATUS_OF_CHECK[finding.check],
            finding.check,
        )
        for finding in facts.findings
        if finding.severity is not Severity.INFO and waiver_of(finding, waivers) is None
    ]
    other: Reason | None = None
    if unfinished is not None or not facts.complete:
        grounds.append((Status.INCONCLUSIVE, facts.unseen or unfinished or Reason.MISSED))
    elif facts.format is None:
        other = media_type.unrecognized_reason(facts)
    elif facts.format in CONTAINER_FORMATS and not facts.members:
        other = Reason.NO_KNOWN_FORMAT
    elif not grounds and facts.format not in CONTAINER_FORMATS and not facts.virtual_size:
        # A rule cannot allow an image of unknown size, because the other checks prove nothing if the size is
        # unknown.
        other = Reason.SIZE_UNKNOWN
    elif not (grounds or _whole_enough(facts, rule or Rule(), waivers) or _members_in_doubt(facts)):
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
    """Return the verdict on a container: the worst of the given verdicts, with the reasons of all of them.

    `verdicts` are the container's own verdict and the verdicts on its members.
    """
    decided = [verdict for verdict in verdicts if verdict[0] is not Status.SAFE]
    if not decided:
        return Status.SAFE, ()
    decided.sort(key=lambda verdict: PRECEDENCE.index(verdict[0]))
    return decided[0][0], tuple(dict.fromkeys(reason for _, reasons in decided for reason in reasons))


def _members_in_doubt(facts: Facts) -> bool:
    """Return whether the inspection of at least one member is incomplete.

    That member's own report has the reason.
    """
    return any(not member.facts.complete for member in facts.members)


def _whole_enough(facts: Facts, rule: Rule, waivers: Sequence[Applied]) -> bool:
    if facts.wholeness is Wholeness.UNCHECKED and _needs_evidence(facts, waivers):
        return False
    if _hides_content(facts, waivers):
        return False
    if rule.wholeness == "proven":
        return facts.wholeness is Wholeness.PROVEN
    if rule.wholeness == "unchecked" or (rule.wholeness == "provable" and facts.format in UNPROVABLE):
        return True
    return facts.wholeness is not Wholeness.UNCHECKED


def _needs_evidence(facts: Facts, waivers: Sequence[Applied]) -> bool:
    """Return whether an image must not be `unchecked`, whatever the rule says, because of waived findings.

    After a finding of damage or ambiguity, an inspector can stop, and the walk through an archive can stop
    after every finding. If such a finding is waived, only the wholeness shows that Keyhole has seen the rest.
    """
    waived = [waiver.check for waiver in used(facts.findings, waivers)]
    return any(
        facts.format in CONTAINER_FORMATS
        or STATUS_OF_CHECK[check] is Status.DAMAGED
        or check == "ambiguous_format"
        for check in waived
    )


def _hides_content(facts: Facts, waivers: Sequence[Applied]) -> bool:
    """Return whether a waived finding means that Keyhole has not inspected all images in the object.

    Keyhole inspects an object that is valid in two formats by the rules of only one. It does not see the
    encrypted members of an archive, and no archive after the end of an archive.
    """
    is_container = facts.format in CONTAINER_FORMATS
    return any(
        (finding.check == "ambiguous_format" and bool(facts.also_valid_as))
        or (is_container and finding.check == "encrypted")
        or (is_container and finding.check == "trailing_data" and finding.severity is Severity.CRITICAL)
        for finding in facts.findings
        if waiver_of(finding, waivers) is not None
    )
