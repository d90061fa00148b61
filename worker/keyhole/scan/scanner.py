"""Scans one object: fetches the ranges that the inspection asks for, until it asks for no more."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from keyhole.inspectors.compression.limits import FREE_INPUT, FREE_OUTPUT, Decompression
from keyhole.inspectors.effort import CALL, spend, watched
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.inspection import Inspection
from keyhole.inspectors.memory import held_by
from keyhole.inspectors.region import ByteRange
from keyhole.scan.memory import MemoryPool
from keyhole.scan.plan import merge
from keyhole.scan.report import Report
from keyhole.scan.reporter import Reporter, Target
from keyhole.scan.rules import Policy, Rule
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import (
    BudgetExhaustedError,
    ObjectChangedError,
    SourceError,
)
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.source import Identity, Source

#: The most starts of a scan, which starts over if the object was replaced in the meantime.
MAX_STARTS = 3
#: Rounds of fetches. Every round fills a region, and no inspection has so many regions; one that needs more
#: has a bug. For containers, and if all maps are read, the budget is the limit.
MAX_ROUNDS, MAX_CONTAINER_ROUNDS = 32, 20_000


def scan(
    target: Target,
    open_source: Callable[[Meter], Source],
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Scan one object. If that fails, the report's status says so.

    Args:
        target: The object, for the report.
        open_source: Opens the object; called again if the object changed during the scan.
        settings: The sizes of reads, the budgets and the policy.
        rate_limiter: Called before every request; it may sleep.
        memory: The memory that all scans of the process share.
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
    # The first GET may already contain compressed data.
    meter = Meter(replace(settings.budget, decompressed=container_budget.decompressed), rate_limiter)
    decompression = _decompression(rule, meter.decompressed)
    reporter = Reporter(target, meter, settings.policy)
    changed = ObjectChangedError()
    for _ in range(MAX_STARTS):
        inspection = Inspection(inside=Inside(decompression=decompression, thorough=_thorough(rule)))
        source: Source | None = None
        widen = partial(meter.widen, container_budget)
        try:
            with watched(partial(_check_budget, meter, inspection, widen)), _sharing(memory, meter):
                source = open_source(meter)
                _inspect(source, inspection, settings, widen, _thorough(rule))
                return reporter.judged(inspection.facts(), source.identity)
        except ObjectChangedError as error:
            changed = error
        except BudgetExhaustedError as error:
            if meter.trouble is not None:
                # Without the faults the budget might have been enough, so the object is undecided.
                return reporter.unread(meter.trouble, source)
            return reporter.interrupted(error, source, inspection)
        except SourceError as error:
            return reporter.unread(error, source)
    return reporter.unread(changed, None)


def scan_stream(target: Target, chunks: Iterable[bytes], policy: Policy) -> Report:
    """Scan a stream to its end.

    A range that the inspection asks for after the stream has passed it is missed.
    """
    meter = Meter(Budget())
    rule = policy.rule_for(target.bucket, target.key or target.name)
    inspection = Inspection(inside=Inside(decompression=_decompression(rule), thorough=_thorough(rule)))
    for chunk in chunks:
        meter.received(len(chunk))
        inspection.eat_chunk(chunk)
    inspection.finish()
    return Reporter(target, meter, policy).judged(inspection.facts(), Identity(meter.bytes_read))


def _decompression(rule: Rule, watch: Callable[[int], None] = lambda _length: None) -> Decompression:
    """The limits of decompression under a rule. Compressed data are not longer than what they hold."""
    allowed = rule.decompress or 0
    return Decompression(max(allowed, FREE_OUTPUT), max(allowed, FREE_INPUT), watch)


def _thorough(rule: Rule) -> bool:
    """Whether a rule needs all maps of an image read, because a sample does not prove wholeness."""
    return rule.wholeness == "proven"


@contextmanager
def _sharing(memory: MemoryPool | None, meter: Meter) -> Iterator[None]:
    """Take the memory of an inspection from the pool that all scans share.

    A scan waits for memory for at most half of its remaining time, so that some is left for the work.
    """
    if memory is None:
        yield
        return
    with memory.share(lambda: meter.seconds_left / 2) as share, held_by(share):
        yield


def _check_budget(meter: Meter, inspection: Inspection, widen: Callable[[], None]) -> None:
    """Raise if a scan has used its budget, which is larger once the object is known to be a container."""
    try:
        meter.work()
    except BudgetExhaustedError:
        # The first bytes alone can identify a container and take long to decompress.
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
    """Fetch until the inspection needs nothing more. `widen` gives it the budget of a container."""
    head = source.read(0, settings.head_bytes)
    size = source.identity.size if source.identity else len(head)
    # Report the length first, so that no memory is requested for regions beyond the end.
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
        wanted = _extended(missing, size, settings) if container else merge(missing, settings.gap_bytes)
        for part in wanted:
            data = source.tail(part.length) if part.end == size else source.read(part.offset, part.length)
            inspection.feed(part.offset, data)
    raise AssertionError(f"an inspection still needs {inspection.missing()} after {number} rounds")


def _extended(missing: list[ByteRange], size: int, settings: ScanSettings) -> list[ByteRange]:
    """Return the ranges to fetch of a container. One GET reads a member's header and the head after it.

    Ranges are not merged over gaps longer than a head: with hundreds of members that would exceed the budget.
    """
    gap = min(settings.gap_bytes, settings.head_bytes)
    ahead = (
        ByteRange(part.offset, max(part.length, min(settings.head_bytes, size - part.offset)))
        for part in missing
    )
    return merge(ahead, gap)
