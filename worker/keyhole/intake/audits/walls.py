"""Finds the walls of a plan.

A wall is a problem to expect. The first wall of a plan is the resource that bounds the speed of the audit.
Each wall has a message that states the problem, and advice that states what the operator can do.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from keyhole.intake.audits.plan import INDEX_BYTES, Plan
from keyhole.intake.audits.speed import Resource, fleet_speed

#: If a Redis contains more bytes than this, it is hard to operate. When Redis rewrites its file on disk, it
#: forks, and the forked process can need as much memory as Redis itself. After a restart, Redis must read the
#: whole file before Keyhole can continue.
LARGE_REDIS_BYTES: Final = 64 * 2**30
#: The network speed of a usual host, in bits per second.
HOST_BITS: Final = 10e9
#: The largest value of KEYHOLE_AUDIT_OUTSTANDING.
MOST_OUTSTANDING: Final = 1000
#: The advised number of batches is at least this much greater than the number of processes, and with it an
#: audit has at least this share of its highest speed.
_MORE_BATCHES, _ENOUGH = 4, 0.99


class Wall(NamedTuple):
    """A wall: its name, the problem, and advice for the operator."""

    name: str
    message: str
    advice: str


def walls(plan: Plan) -> tuple[Wall, ...]:
    """Return the walls of a plan. The first wall is the resource that bounds the speed."""
    return (_bound(plan), *(wall for find in _OTHERS for wall in find(plan)))


def _bound(plan: Plan) -> Wall:
    fleet, work = plan.fleet, plan.work
    match plan.bound:
        case Resource.RATE:
            message = f"all audits of a bucket together make at most {fleet.rate:g} requests per second"
            advice = "raise --rate, or KEYHOLE_AUDIT_RATE, if S3 and the other users of the bucket allow it"
        case Resource.LATENCY:
            message = f"{fleet.busy:,} processes with {fleet.threads} threads wait for the answers of S3"
            advice = "start more worker processes, or raise KEYHOLE_SCAN_THREADS, or run them nearer to S3"
            if fleet.outstanding * fleet.prefixes < fleet.processes:
                advice = "raise KEYHOLE_AUDIT_OUTSTANDING, so that all processes have work"
        case Resource.CPU:
            each = f"{work.cpu_seconds * 1e3:g} ms per object"
            message = f"{fleet.busy:,} processes use their processors fully, {each}"
            advice = "start more worker processes on more cores; more threads do not help"
        case Resource.S3_READS | Resource.S3_WRITES:
            message = "S3 answers 5,500 reads and 3,500 writes per second for each prefix"
            advice = (
                "audit several prefixes at the same time, each by its own audit (--prefixes); S3 divides a "
                "bucket at its prefixes only after some time of load"
            )
        case Resource.LISTING:
            message = "an audit lists one page of 1,000 keys at a time"
            advice = "audit several prefixes at the same time, or list from an S3 Inventory (--inventory)"
        case Resource.REDIS:
            message = "Redis executes the commands for all objects in one thread"
            advice = "divide the prefixes among several installations of Keyhole, each with its own Redis"
    return Wall(plan.bound.value, message, advice)


def _idle_processes(plan: Plan) -> Iterator[Wall]:
    fleet = plan.fleet
    if fleet.busy < fleet.processes:
        yield Wall(
            "idle_processes",
            f"only {fleet.busy:,} of {fleet.processes:,} processes have work, because an audit has at most "
            f"{fleet.outstanding:,} batches in progress",
            f"set KEYHOLE_AUDIT_OUTSTANDING to {_batches_needed(plan)} or more",
        )


def _batches_needed(plan: Plan) -> int:
    """Return the number of batches in progress with which an audit is about as fast as with any number.

    Usually, a few more batches than processes are enough. If batches are short, more are needed, because
    otherwise processes wait while the audit lists its next page.
    """
    # A rate limit makes batches smaller. This calculation keeps their size.
    fleet = plan.fleet.model_copy(update={"rate": 0, "batch_size": plan.fleet.batch})
    others = (
        one.objects_per_second
        for one in plan.ceilings
        if one.resource not in {Resource.LATENCY, Resource.CPU}
    )

    def speed(outstanding: int) -> float:
        return fleet_speed(
            plan.work, fleet.model_copy(update={"outstanding": outstanding}), plan.work.cpu_seconds
        )

    enough = _ENOUGH * min(speed(MOST_OUTSTANDING), *others)
    few = min(MOST_OUTSTANDING, -(-fleet.processes // fleet.prefixes) + _MORE_BATCHES)
    return few + bisect_left(range(few, MOST_OUTSTANDING), enough, key=speed)


def _refusals(plan: Plan) -> Iterator[Wall]:
    s3 = min(plan.ceiling(Resource.S3_READS), plan.ceiling(Resource.S3_WRITES))
    if plan.bound in {Resource.S3_READS, Resource.S3_WRITES}:
        requests = s3 * plan.spending.requests / plan.work.objects
        yield Wall(
            "refusals",
            "the workers can send more requests than S3 answers, so S3 refuses some with 503; Keyhole tries "
            "them again, and other users of the prefix are refused, too",
            f"set --rate to {requests * 0.9:,.0f} or less",
        )


def _redis_memory(plan: Plan) -> Iterator[Wall]:
    if plan.memory.total <= LARGE_REDIS_BYTES:
        return
    kept = plan.kept
    if plan.memory.records:
        yield Wall(
            "redis_memory",
            "the verdicts need more memory than one Redis should have",
            "let the verdicts expire (KEYHOLE_RECORD_SECONDS), or write them only to tags "
            "(KEYHOLE_SINKS=tags), or divide the prefixes among several installations of Keyhole, each with "
            "its own Redis",
        )
    else:
        yield Wall(
            "redis_memory",
            "the audit's list of objects needs more memory than one Redis should have",
            "divide the prefixes among several installations of Keyhole, each with its own Redis",
        )
    if kept.record_seconds and plan.work.objects * INDEX_BYTES > LARGE_REDIS_BYTES:
        yield Wall(
            "indexes",
            "the indexes keep the names of expired verdicts until a command reads them",
            "run `keyhole results` regularly, which removes these names from the indexes of the statuses",
        )


def _expiry(plan: Plan) -> Iterator[Wall]:
    kept = plan.kept
    if kept.records and 0 < kept.record_seconds < plan.seconds:
        yield Wall(
            "expiry",
            "the first verdicts expire before the audit ends, so its report lacks their names and reasons",
            "read the stream of verdicts while the audit runs, or audit one prefix after the other and write "
            "a report of each (`keyhole report ID --to audit.parquet`)",
        )


def _nothing_recorded(plan: Plan) -> Iterator[Wall]:
    if not plan.kept.records:
        yield Wall(
            "no_records",
            "without recorded verdicts, every audit scans all objects again, and its report has no names",
            "add redis to KEYHOLE_SINKS if that costs more than the memory",
        )


def _tags(plan: Plan) -> Iterator[Wall]:
    if plan.work.tags:
        yield Wall(
            "tags",
            "five more requests for each object write its tags and check them",
            "write tags only where a bucket policy reads them",
        )


def _network(plan: Plan) -> Iterator[Wall]:
    if plan.bits_per_second > HOST_BITS:
        yield Wall(
            "network",
            f"the workers read {plan.bits_per_second / 1e9:,.1f} Gbit/s",
            "divide the processes among several hosts, and reach S3 without a NAT gateway",
        )


_OTHERS: Final[tuple[Callable[[Plan], Iterator[Wall]], ...]] = (
    _idle_processes,
    _refusals,
    _redis_memory,
    _expiry,
    _nothing_recorded,
    _tags,
    _network,
)
