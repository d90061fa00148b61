"""Scans one object: fetches the ranges that its inspection needs until the inspection is complete."""

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
from keyhole.scan.ranges import ReadRanges
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

#: How many times a scan may start. It starts again if the object was replaced while it was being read.
MAX_STARTS = 3
#: The maximum number of rounds of fetches. Each round completes at least one region, and the inspection of an
#: image has fewer than 32 regions, so an inspection that needs more rounds has a bug. The inspection of a
#: container, or of an image whose maps are all read, can need many more rounds. In this case, the budget
#: limits the rounds.
MAX_ROUNDS, MAX_CONTAINER_ROUNDS = 32, 20_000


def scan(
    target: Target,
    open_source: Callable[[Meter], Source],
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
    on_end: Callable[[Meter], object] | None = None,
) -> Report:
    """Scan one object and return its report. If the scan fails, the report has the status of the failure.

    Args:
        target: The object, for the report.
        open_source: Opens the object. It is called again if the object changed during the scan.
        settings: The sizes of reads, the budgets and the policy.
        rate_limiter: Called before every request; it may sleep.
        memory: The pool of memory that all scans of the process share; `None` for no limit.
        on_end: Called with the scan's meter when the scan has ended.
    """
    rule = settings.policy.rule_for(target.bucket, target.matched)
    container_budget = settings.container_budget_by(rule)
    # The response to the first GET can contain compressed data. These are decompressed before the object is
    # known to be a container, so the container's limit on decompressed bytes applies from the start.
    meter = Meter(replace(settings.budget, decompressed=container_budget.decompressed), rate_limiter)
    try:
        return _scan(target, open_source, settings, meter, memory)
    finally:
        if memory is not None:
            memory.scan_ended()
        if on_end is not None:
            on_end(meter)


def _scan(
    target: Target,
    open_source: Callable[[Meter], Source],
    settings: ScanSettings,
    meter: Meter,
    memory: MemoryPool | None,
) -> Report:
    rule = settings.policy.rule_for(target.bucket, target.matched)
    container_budget = settings.container_budget_by(rule)
    decompression = _decompression(rule, meter.decompressed)
    reporter = Reporter(target, meter, settings.policy)
    changed = ObjectChangedError()
    for _ in range(MAX_STARTS):
        inspection = Inspection(inside=Inside(decompression=decompression, thorough=_thorough(rule)))
        source: Source | None = None
        reporter.ranges = ReadRanges()
        widen = partial(meter.widen, container_budget)
        try:
            with watched(partial(_check_budget, meter, inspection, widen)), _sharing(memory, meter):
                source = open_source(meter)
                _inspect(source, inspection, settings, widen, reporter.ranges, thorough=_thorough(rule))
                return reporter.judged(inspection.facts(), source.identity)
        except ObjectChangedError as error:
            changed = error
        except BudgetExhaustedError as error:
            if meter.trouble is not None:
                # Failures of the server used up a part of the budget. Without them, the budget might have
                # been enough. So the report states the failure, and a worker scans the object again.
                return reporter.unread(meter.trouble, source)
            return reporter.interrupted(error, source, inspection)
        except SourceError as error:
            return reporter.unread(error, source)
        finally:
            inspection.close()
    return reporter.unread(changed, None)


def scan_stream(target: Target, chunks: Iterable[bytes], policy: Policy) -> Report:
    """Scan a stream to its end and return the report.

    Bytes of a stream that have passed cannot be read again. If the inspection needs such bytes, it stays
    incomplete, and the verdict is not `safe`.
    """
    meter = Meter(Budget())
    rule = policy.rule_for(target.bucket, target.matched)
    inspection = Inspection(inside=Inside(decompression=_decompression(rule), thorough=_thorough(rule)))
    for chunk in chunks:
        meter.received(len(chunk))
        inspection.eat_chunk(chunk)
    inspection.finish()
    return Reporter(target, meter, policy).judged(inspection.facts(), Identity(meter.bytes_read))


def _decompression(rule: Rule, watch: Callable[[int], None] = lambda _length: None) -> Decompression:
    """Return the limits of decompression under a rule.

    The rule's limit on the output also limits the input, because compressed data are not longer than their
    content. `watch` is called with the length of every piece of output.
    """
    allowed = rule.decompress or 0
    return Decompression(max(allowed, FREE_OUTPUT), max(allowed, FREE_INPUT), watch)


def _thorough(rule: Rule) -> bool:
    """Return whether a rule requires that all maps of an image (such as L2 tables) are read.

    Only the full maps prove wholeness; a sample of them does not.
    """
    return rule.wholeness == "proven"


@contextmanager
def _sharing(memory: MemoryPool | None, meter: Meter) -> Iterator[None]:
    """Let the inspection in this block take its memory from the pool that all scans share.

    A request for memory waits for at most half of the scan's remaining time. The other half is for the scan.
    """
    if memory is None:
        yield
        return
    with memory.share(lambda: meter.seconds_left / 2) as share, held_by(share):
        yield


def _check_budget(meter: Meter, inspection: Inspection, widen: Callable[[], None]) -> None:
    """Check the CPU time that a scan has used. `widen` gives the scan the larger budget of a container.

    Raises:
        BudgetExhaustedError: The scan has used up its CPU time.
    """
    try:
        meter.work()
    except BudgetExhaustedError:
        # The first bytes of a container can take longer to decompress than the budget of an image allows. In
        # this case, `_inspect` has not widened the budget yet, so widen the budget here.
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
    ranges: ReadRanges,
    *,
    thorough: bool,
) -> None:
    """Fetch ranges and feed them to the inspection until it needs no more bytes.

    `widen` gives the scan the larger budget of a container. Every range that was read is added to `ranges`.
    """
    head = source.read(0, settings.head_bytes)
    ranges.add(0, len(head))
    size = source.identity.size if source.identity else len(head)
    # Set the length before feeding the first bytes: the inspection then requests no memory for regions beyond
    # the end of the object.
    inspection.finish(size)
    inspection.feed(0, head)
    del head  # the regions have copies of what they need, and other scans need the memory
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
        for part, data in zip(wanted, source.read_all(wanted), strict=True):
            ranges.add(part.offset, len(data))
            inspection.feed(part.offset, data)
            del data
    raise AssertionError(f"an inspection still needs {inspection.missing()} after {number} rounds")


def _extended(missing: list[ByteRange], size: int, settings: ScanSettings) -> list[ByteRange]:
    """Return the ranges to fetch from a container, each at least `head_bytes` long.

    A range is shorter only at the end of the object.

    An archive stores each member's header in front of the member's data. So the GET for a header also fetches
    the first bytes of the data, which the inspection needs next. Ranges are merged only over gaps of at most
    `head_bytes`. With hundreds of members, fetching longer gaps would use up the budget.
    """
    gap = min(settings.gap_bytes, settings.head_bytes)
    ahead = (
        ByteRange(part.offset, max(part.length, min(settings.head_bytes, size - part.offset)))
        for part in missing
    )
    return merge(ahead, gap)
