"""Builds the report on a scan: applies the policy to the facts, and adds what the scan cost."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from keyhole.inspectors.effort import CALL, spend, watched
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.inspection import Inspection
from keyhole.inspectors.text import printable
from keyhole.reasons import Reason
from keyhole.scan import media_type
from keyhole.scan.declared import Declared
from keyhole.scan.policy import apply, judge, ruleset, worst
from keyhole.scan.ranges import ReadRanges
from keyhole.scan.report import SCANNER, Report
from keyhole.scan.rules import Policy, Rule, load_policy
from keyhole.scan.waivers import Applied, for_object, used
from keyhole.sources.errors import BudgetExhaustedError, SourceError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.source import Identity, Source


class Target(NamedTuple):
    """The object that a report is about.

    `path` is the name without the masked parts of a URL; `None` if the name has no such parts.
    """

    name: str
    bucket: str | None = None
    key: str | None = None
    version_id: str | None = None
    path: str | None = None

    @property
    def matched(self) -> str:
        """Return the name that a policy's globs match, and whose suffix declares a format."""
        return self.key or self.path or self.name


class _Enclosing(NamedTuple):
    """The containers that enclose a member.

    `name` is the name of the innermost container. `formats` are the formats of all containers, outermost
    first.
    """

    name: str
    formats: tuple[str, ...]


class _Accepted(NamedTuple):
    """What the policy accepts in an object: the rule for it, and the waivers in force."""

    rule: Rule
    waivers: tuple[Applied, ...]


def build_report(target: Target, ruleset: str, **fields: object) -> Report:
    """Return a report with the current time and this version of Keyhole. `fields` are its other fields."""
    return Report.model_validate(
        {
            "target": target.name,
            "bucket": target.bucket,
            "key": target.key,
            "version_id": target.version_id,
            "scanned_at": datetime.now(UTC),
            "scanner": SCANNER,
            "ruleset": ruleset,
            **fields,
        }
    )


def failure(target: Target, reason: Reason, message: str) -> Report:
    """Return the report on an object that was not scanned because of an error in Keyhole or its workers."""
    return Reporter(target, Meter(Budget()), load_policy("default")).unread(
        SourceError(reason, message), None
    )


class Reporter:
    """Builds the report of one scan. `ranges` are the ranges of the object that the scan has read so far."""

    def __init__(self, target: Target, meter: Meter, policy: Policy) -> None:
        self._target = target
        self._meter = meter
        self._policy = policy
        self.ranges = ReadRanges()

    def judged(self, facts: Facts, identity: Identity | None, unfinished: str | None = None) -> Report:
        """Return the report on an inspection.

        `unfinished` is the reason code if the inspection was interrupted.
        """
        name = self._target.matched
        rule = self._policy.rule_for(self._target.bucket, name)
        known = identity or Identity(0)
        facts = apply(rule, facts, Declared(name, known.content_type, known.metadata, known.content_encoding))
        accepted = _Accepted(
            rule,
            for_object(
                self._policy.waivers, self._target.bucket, self._target.key, known.etag, known.version_id
            ),
        )
        enclosing = _Enclosing(self._target.name, (str(facts.format),))
        members = tuple(self._member(member, accepted, unfinished, enclosing) for member in facts.members)
        return self._report(identity, **_verdict(facts, members, unfinished, accepted))

    def _member(
        self, member: Member, accepted: "_Accepted", unfinished: str | None, enclosing: _Enclosing
    ) -> Report:
        """Return the report on a member of a container. Only the container's report states the costs."""
        spend(CALL)
        facts = apply(accepted.rule, member.facts, Declared(member.name, None, ()), enclosing.formats)
        within = _Enclosing(f"{enclosing.name}!/{member.name}", (*enclosing.formats, str(facts.format)))
        # If bytes of this member were not read, the inspections of the members inside it may be incomplete
        # for the same reason.
        unseen = facts.unseen or unfinished
        members = tuple(self._member(inner, accepted, unseen, within) for inner in facts.members)
        # A complete member gets its verdict, even if the scan's budget ran out before the container's end.
        verdict = _verdict(facts, members, None if facts.complete else unfinished, accepted)
        offset = {} if member.offset is None else {"offset": member.offset}
        verdict["details"] = {"name": member.name, **offset, **verdict["details"]}
        target = Target(within.name, self._target.bucket, self._target.key)
        rules = ruleset(self._policy, verdict["waivers"])
        return build_report(target, rules, size=member.size, **verdict)

    def interrupted(self, error: SourceError, source: Source | None, inspection: Inspection) -> Report:
        """Return the report on an inspection whose budget ran out, with the facts that are known so far."""
        identity = source.identity if source else None
        self._meter.extend_cpu()
        try:
            with watched(self._meter.work):
                return self.judged(inspection.facts(), identity, error.reason)
        except BudgetExhaustedError:
            # Building the report on the known facts also takes too much CPU time.
            return self.unread(error, source)

    def unread(self, error: SourceError, source: Source | None) -> Report:
        """Return the report on an object that could not be read. It has no facts."""
        return self._report(
            source.identity if source else None,
            status=error.reason.status,
            reasons=(error.reason,),
            details={"error": printable(str(error).encode(errors="surrogateescape"))},
        )

    def _report(self, identity: Identity | None, **fields: Any) -> Report:  # noqa: ANN401 - of many types
        known = identity or Identity(0)
        return build_report(
            self._target._replace(version_id=known.version_id or self._target.version_id),
            ruleset(self._policy, fields.get("waivers", ())),
            etag=known.etag,
            size=identity.size if identity else None,
            last_modified=known.last_modified,
            requests=self._meter.requests,
            bytes_read=self._meter.bytes_read,
            ranges=self.ranges.report(),
            elapsed_ms=round(self._meter.elapsed_seconds * 1000, 3),
            cpu_ms=round(self._meter.cpu_seconds * 1000, 3),
            **fields,
        )


def _verdict(
    facts: Facts, members: Sequence[Report], unfinished: str | None, accepted: _Accepted
) -> dict[str, Any]:  # the fields of a report have many types
    """Return the fields of a report that depend on the facts and on the reports of the members."""
    status, reasons = judge(facts, unfinished, accepted.rule, accepted.waivers)
    waived = [*used(facts.findings, accepted.waivers), *(one for each in members for one in each.waivers)]
    if members:
        status, reasons = worst([(status, reasons), *((one.status, one.reasons) for one in members)])
    return {
        "status": status,
        "reasons": reasons,
        "format": facts.format,
        "subformat": facts.subformat,
        "virtual_size": facts.virtual_size,
        "actual_size": facts.actual_size,
        "content": facts.content,
        "details": {**facts.details, **media_type.details(facts)},
        "findings": facts.findings,
        "wholeness": facts.wholeness,
        "waivers": tuple(dict.fromkeys(waived)),
        "members": members,
    }
