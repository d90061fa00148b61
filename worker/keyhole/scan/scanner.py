"""One object, one report: ask the inspection what it wants, fetch it, stop the moment all is there."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from keyhole import __version__
from keyhole.inspectors.compression.inspector import MOST_PIECE
from keyhole.inspectors.compression.limits import FREE_INPUT, FREE_OUTPUT, Decompression
from keyhole.inspectors.effort import CALL, spend, watched
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.inspection import Inspection
from keyhole.inspectors.memory import held_by
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.text import printable
from keyhole.reasons import Reason
from keyhole.scan import media_type
from keyhole.scan.declared import Declared
from keyhole.scan.memory import MemoryPool
from keyhole.scan.plan import merge
from keyhole.scan.policy import apply, judge, ruleset, worst
from keyhole.scan.report import Report
from keyhole.scan.rules import Policy, Rule, load_policy
from keyhole.sources.errors import (
    BudgetExhaustedError,
    ObjectChangedError,
    SourceError,
)
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.source import Identity, Source

#: An object that is replaced under every scan is not worth a fourth.
MAX_STARTS = 3
#: Every fetch fills a region, and no inspection has this many; one that asks for more is a bug of ours. For
#: containers, and where all maps are read, the budget is the bound.
MAX_ROUNDS, MAX_CONTAINER_ROUNDS = 32, 20_000
#: The longest scan of an object that the policy has decompressed in full, in seconds. With its tags written
#: it ends within the time limit of a message (`keyhole.limits`).
FULL_SECONDS = 400.0
#: Bytes a second that the slowest decoder makes: bzip2 of what does not compress.
LEAST_RATE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """How to read: the length of the first GET, and the gap over which two ranges are fetched as one.

    336 KiB hold what is read of a usual qcow2, its first L2 table included, and what an archive has in front
    of it. Others have it 3 ms later than with 64 KiB (`tests/bench/reads.py --heads`).
    """

    head_bytes: int = 336 * 1024
    gap_bytes: int = 1024 * 1024
    budget: Budget = field(default_factory=Budget)
    policy: Policy = field(default_factory=lambda: load_policy("default"))
    #: What a container may take: a header and a head of each member, and what each of these wants. An image
    #: may take as much where the policy has all of its maps read.
    container_budget: Budget = field(
        default_factory=lambda: Budget(
            requests=1024, bytes=256 * 1024 * 1024, seconds=240.0, cpu_seconds=10.0
        )
    )

    def container_budget_by(self, rule: Rule) -> Budget:
        """What a container may take under a rule, which can have it decompressed in full."""
        budget, allowed = self.container_budget, rule.decompress
        if allowed is None:
            return budget
        return Budget(
            # Compressed, nothing grows; and it is read in such pieces.
            budget.requests + allowed // MOST_PIECE,
            budget.bytes + allowed,
            max(budget.seconds, FULL_SECONDS),
            max(budget.cpu_seconds, min(FULL_SECONDS, budget.cpu_seconds + allowed / LEAST_RATE)),
            budget.decompressed + allowed,
        )


class Target(NamedTuple):
    """What a report says it is about."""

    name: str
    bucket: str | None = None
    key: str | None = None
    version_id: str | None = None


def scan(
    target: Target,
    open_source: Callable[[Meter], Source],
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Scan one object. Whatever goes wrong with it becomes the report's status.

    Args:
        target: Its name, for the report.
        open_source: Opens it; called again when the object changed under the scan.
        settings: How to read.
        rate_limiter: Called before every request, to wait for its turn.
        memory: What it shares with the other scans of the process.
    """
    try:
        return _scan(target, open_source, settings, rate_limiter, memory)
    finally:
        if memory is not None:
            memory.scan_ended()


def _scan(
    target: Target,
    open_source: Callable[[Meter], Source],
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None,
    memory: MemoryPool | None,
) -> Report:
    rule = settings.policy.rule_for(target.bucket, target.key or target.name)
    container_budget = settings.container_budget_by(rule)
    # The first GET may bring something compressed already.
    meter = Meter(replace(settings.budget, decompressed=container_budget.decompressed), rate_limiter)
    decompression = _decompression(rule, meter.decompressed)
    reporter = Reporter(target, meter, settings.policy)
    changed = ObjectChangedError()
    for _ in range(MAX_STARTS):
        inspection = Inspection(inside=Inside(decompression=decompression, thorough=_thorough(rule)))
        source: Source | None = None
        widen = partial(meter.widen, container_budget)
        try:
            with watched(partial(_work, meter, inspection, widen)), _sharing(memory, meter):
                source = open_source(meter)
                _inspect(source, inspection, settings, widen, _thorough(rule))
                return reporter.judged(inspection.facts(), source.identity)
        except ObjectChangedError as error:
            changed = error
        except BudgetExhaustedError as error:
            if meter.trouble is not None:
                # Without the faults it might have been enough, so the object is as unknown as before.
                return reporter.not_read(meter.trouble, source)
            return reporter.broken_off(error, source, inspection)
        except SourceError as error:
            return reporter.not_read(error, source)
    return reporter.not_read(changed, None)


def scan_stream(target: Target, chunks: Iterable[bytes], policy: Policy) -> Report:
    """Scan a stream to its end. It can pass what is wanted before that is known to be wanted."""
    meter = Meter(Budget())
    rule = policy.rule_for(target.bucket, target.key or target.name)
    inspection = Inspection(inside=Inside(decompression=_decompression(rule), thorough=_thorough(rule)))
    for chunk in chunks:
        meter.received(len(chunk))
        inspection.eat_chunk(chunk)
    inspection.finish()
    return Reporter(target, meter, policy).judged(inspection.facts(), Identity(meter.bytes_read))


def failure(target: Target, reason: Reason, message: str) -> Report:
    """The report of an object that could not be scanned for a fault of ours."""
    return Reporter(target, Meter(Budget()), load_policy("default")).not_read(
        SourceError(reason, message), None
    )


def _decompression(rule: Rule, watch: Callable[[int], None] = lambda _length: None) -> Decompression:
    """How much a rule allows to be decompressed. What is so much compresses to less."""
    allowed = rule.decompress or 0
    return Decompression(max(allowed, FREE_OUTPUT), max(allowed, FREE_INPUT), watch)


def _thorough(rule: Rule) -> bool:
    """Whether a rule has all maps of an image read: a sample is no proof."""
    return rule.wholeness == "proven"


@contextmanager
def _sharing(memory: MemoryPool | None, meter: Meter) -> Iterator[None]:
    """Take what an inspection holds from the memory that all scans share.

    It waits for half of its seconds at most, so that there is some time left for the work.
    """
    if memory is None:
        yield
        return
    with memory.share(lambda: meter.seconds_left / 2) as share, held_by(share):
        yield


def _work(meter: Meter, inspection: Inspection, widen: Callable[[], None]) -> None:
    """Look whether a scan may go on to work, by the budget of what the object is known as by now."""
    try:
        meter.work()
    except BudgetExhaustedError:
        # The first bytes alone can tell a container and be much to decompress.
        with watched(None):
            is_container = inspection.is_container
        if is_container:
            widen()
        meter.work()


def _inspect(
    source: Source,
    inspection: Inspection,
    settings: ScanSettings,
    widen: Callable[[], None],
    thorough: bool,
) -> None:
    """Fetch what is wanted until nothing is; `widen` widens the budget to a container's."""
    head = source.read(0, settings.head_bytes)
    size = source.identity.size if source.identity else len(head)
    # The length first: what lies behind the end is not asked memory for.
    inspection.finish(size)
    inspection.feed(0, head)
    for number in range(MAX_CONTAINER_ROUNDS):
        spend(CALL)
        missing = inspection.missing()
        if not missing:
            return
        container = inspection.is_container
        if number >= MAX_ROUNDS and not container and not thorough:
            break
        if container or thorough:
            widen()
        wanted = _of_container(missing, size, settings) if container else merge(missing, settings.gap_bytes)
        for part in wanted:
            data = source.tail(part.length) if part.end == size else source.read(part.offset, part.length)
            inspection.feed(part.offset, data)
    raise AssertionError(f"an inspection still wants {inspection.missing()} after {number} rounds")


def _of_container(missing: list[ByteRange], size: int, settings: ScanSettings) -> list[ByteRange]:
    """What to fetch of a container: behind a member's header lies its head, so one GET is for both.

    Over a gap that is longer than such a head it would be bytes that run out, of hundreds of members.
    """
    gap = min(settings.gap_bytes, settings.head_bytes)
    ahead = (
        ByteRange(part.offset, max(part.length, min(settings.head_bytes, size - part.offset)))
        for part in missing
    )
    return merge(ahead, gap)


class Around(NamedTuple):
    """What a member lies in: the name of the innermost, and the formats of all, from the outside in."""

    name: str
    formats: tuple[str, ...]


class Reporter:
    """Puts facts, verdict and costs together."""

    def __init__(self, target: Target, meter: Meter, policy: Policy) -> None:
        self._target = target
        self._meter = meter
        self._policy = policy

    def judged(self, facts: Facts, identity: Identity | None, unfinished: str | None = None) -> Report:
        """The report of an inspection that came to an end, or was broken off for the reason given."""
        name = self._target.key or self._target.name
        rule = self._policy.rule_for(self._target.bucket, name)
        known = identity or Identity(0)
        facts = apply(rule, facts, Declared(name, known.content_type, known.metadata, known.content_encoding))
        around = Around(self._target.name, (str(facts.format),))
        members = tuple(self._member(member, rule, unfinished, around) for member in facts.members)
        status, reasons = judge(facts, unfinished, rule)
        if facts.members:
            status, reasons = worst([(status, reasons), *((one.status, one.reasons) for one in members)])
        return self._report(
            identity,
            status=status,
            reasons=reasons,
            format=facts.format,
            subformat=facts.subformat,
            virtual_size=facts.virtual_size,
            actual_size=facts.actual_size,
            content=facts.content,
            details={**facts.details, **media_type.details(facts)},
            findings=facts.findings,
            wholeness=facts.wholeness,
            members=members,
        )

    def _member(self, member: Member, rule: Rule, unfinished: str | None, around: "Around") -> Report:
        """The report of something in a container. It cost nothing of its own: the container was read."""
        spend(CALL)
        facts = apply(rule, member.facts, Declared(member.name, None, ()), around.formats)
        unseen = facts.unseen or unfinished
        within = Around(f"{around.name}!/{member.name}", (*around.formats, str(facts.format)))
        # What was not seen of it, was not seen of what lies in it either.
        inside = tuple(self._member(one, rule, unseen, within) for one in facts.members)
        # What has all that it wants is decided, whatever else ran out.
        status, reasons = judge(facts, None if facts.complete else unfinished, rule)
        if inside:
            status, reasons = worst([(status, reasons), *((one.status, one.reasons) for one in inside)])
        place = {} if member.offset is None else {"offset": member.offset}
        return Report.model_validate(
            {
                "target": within.name,
                "bucket": self._target.bucket,
                "key": self._target.key,
                "size": member.size,
                "status": status,
                "reasons": reasons,
                "format": facts.format,
                "subformat": facts.subformat,
                "virtual_size": facts.virtual_size,
                "actual_size": facts.actual_size,
                "content": facts.content,
                "details": {"name": member.name, **place, **facts.details, **media_type.details(facts)},
                "findings": facts.findings,
                "wholeness": facts.wholeness,
                "members": inside,
                **self._by(),
            }
        )

    def _by(self) -> dict[str, object]:
        """When, by which version, by which rules."""
        return {
            "scanned_at": datetime.now(UTC),
            "scanner": f"keyhole/{__version__}",
            "ruleset": ruleset(self._policy),
        }

    def broken_off(self, error: SourceError, source: Source | None, inspection: Inspection) -> Report:
        """The report of an inspection that ran out of budget, with what it knows so far."""
        identity = source.identity if source else None
        self._meter.extend_cpu()
        try:
            with watched(self._meter.work):
                return self.judged(inspection.facts(), identity, error.reason)
        except BudgetExhaustedError:
            # To tell what it knows is too much as well.
            return self.not_read(error, source)

    def not_read(self, error: SourceError, source: Source | None) -> Report:
        """The report of an object that could not be read to the end."""
        return self._report(
            source.identity if source else None,
            status=error.reason.status,
            reasons=(error.reason,),
            details={"error": printable(str(error).encode(errors="surrogateescape"))},
        )

    def _report(self, identity: Identity | None, **facts: object) -> Report:
        target, known = self._target, identity or Identity(0)
        return Report.model_validate(
            {
                "target": target.name,
                "bucket": target.bucket,
                "key": target.key,
                "version_id": known.version_id or target.version_id,
                "etag": known.etag,
                "size": identity.size if identity else None,
                "last_modified": known.last_modified,
                "requests": self._meter.requests,
                "bytes_read": self._meter.bytes_read,
                "elapsed_ms": round(self._meter.elapsed_seconds * 1000, 3),
                "cpu_ms": round(self._meter.cpu_seconds * 1000, 3),
                **self._by(),
                **facts,
            }
        )
