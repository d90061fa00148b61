"""Predicts how many objects per second an audit scans.

The threads, the processors, S3, the rate limit, the listing and Redis can each serve a certain maximum number
of objects per second, which is called a ceiling. The model assumes that the audit runs at the lowest ceiling.
In a worker process, several threads share one processor. So when a thread has received data from S3, it may
have to wait because another thread is using the processor. Mean value analysis (Reiser and Lavenberg, 1980)
computes the speed of the threads and the processor together.

A scan fetches an object in rounds. In the first round, it sends one GET; the answer shows which ranges the
scan needs next. In each later round, it sends several GETs at the same time, and waits for the slowest
answer.

The model ignores the time that workers need to start. It assumes that no two processes share a processor
core.

The prediction is off by up to an eighth if a batch has at most two objects for each thread.
`tests/intake/audits/test_plan.py` compares the predicted time with a simulation of a million objects.
"""

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from keyhole.intake.audits.workload import Fleet, Frozen, Work
from keyhole.intake.listing import PAGE_KEYS

#: The slowest answers take longer than the average by this share, and the fastest answers take less by this
#: share. This is an assumption, not a measurement.
SPREAD: Final = 0.3
#: Bytes per second of one connection to S3 (S3's "Performance design patterns" states 85 to 90 MB/s).
CONNECTION_BYTES: Final = 85_000_000
#: The requests per second that S3 answers for each prefix (S3's user guide, "Optimizing performance").
S3_READS: Final = 5_500
S3_WRITES: Final = 3_500
#: The seconds between two batches of a process. In this time, the process acknowledges a message and receives
#: the next one. BATCH_SECONDS, PAGE_TTFBS and PAGE_SECONDS are estimates, not measurements.
BATCH_SECONDS: Final = 0.01
#: An audit lists one page at a time. For each page, S3 collects 1,000 keys, which takes about as long as
#: PAGE_TTFBS small GETs. Then Keyhole compares the keys with its verdicts and commits the page, which takes
#: PAGE_SECONDS.
PAGE_TTFBS: Final = 4
PAGE_SECONDS: Final = 0.15
#: The CPU time, in seconds, that Redis needs for one object, for the tags of one object, and for one request
#: that the audit's rate limit counts. Redis executes commands in one thread. (Measured with Valkey 9.1, on a
#: busy machine.)
REDIS_SECONDS: Final = 0.00025
REDIS_SECONDS_OF_TAGS: Final = 0.0002
REDIS_SECONDS_OF_RATE: Final = 0.00004


class Resource(StrEnum):
    """The resources that can bound the speed of an audit."""

    RATE = "rate"
    LATENCY = "latency"
    CPU = "cpu"
    S3_READS = "s3_reads"
    S3_WRITES = "s3_writes"
    LISTING = "listing"
    REDIS = "redis"


class Ceiling(Frozen):
    """The maximum number of objects per second that a resource can serve."""

    resource: Resource
    objects_per_second: float


def ceilings(work: Work, fleet: Fleet) -> tuple[Ceiling, ...]:
    """Return the ceilings of an audit, the lowest first."""
    return tuple(sorted(_ceilings(work, fleet), key=lambda one: one.objects_per_second))


def _ceilings(work: Work, fleet: Fleet) -> Iterator[Ceiling]:
    tags = work.tagging
    reads = work.gets + tags.looks + tags.reads + 1 / PAGE_KEYS
    asked = reads + tags.writes
    if fleet.rate:
        yield Ceiling(resource=Resource.RATE, objects_per_second=fleet.rate / asked)
    yield Ceiling(resource=Resource.LATENCY, objects_per_second=fleet_speed(work, fleet, 0))
    if work.cpu_seconds:
        yield Ceiling(resource=Resource.CPU, objects_per_second=fleet.busy / work.cpu_seconds)
    yield Ceiling(resource=Resource.S3_READS, objects_per_second=S3_READS * fleet.prefixes / reads)
    if tags.writes:
        speed = S3_WRITES * fleet.prefixes / tags.writes
        yield Ceiling(resource=Resource.S3_WRITES, objects_per_second=speed)
    speed = fleet.prefixes * PAGE_KEYS / _page_seconds(work)
    yield Ceiling(resource=Resource.LISTING, objects_per_second=speed)
    redis_seconds = REDIS_SECONDS + (REDIS_SECONDS_OF_TAGS if work.tags else 0)
    redis_seconds += REDIS_SECONDS_OF_RATE * asked if fleet.rate else 0
    yield Ceiling(resource=Resource.REDIS, objects_per_second=1 / redis_seconds)


def _page_seconds(work: Work) -> float:
    return PAGE_TTFBS * work.ttfb_seconds + PAGE_SECONDS


def object_seconds(work: Work) -> float:
    """Return the seconds for which a thread waits for S3 while it scans one object.

    If the latencies of n answers are distributed evenly between 1 - s and 1 + s, the slowest of them takes
    1 + s (n - 1) / (n + 1) on average.
    """
    later_rounds = work.rounds - 1
    at_once = (work.gets - 1) / later_rounds if later_rounds else 1
    waits = 1 + later_rounds * (1 + SPREAD * (at_once - 1) / (at_once + 1))
    waits += sum(work.tagging)
    # The answers of a round arrive over several connections, each with the full rate.
    transfer = work.rounds * work.bytes / work.gets / CONNECTION_BYTES
    return waits * work.ttfb_seconds + transfer


def _process_speed(work: Work, fleet: Fleet, cpu_seconds: float) -> float:
    """Return the number of objects per second that one process scans if it always has a batch.

    The process takes the next batch only after all threads have finished. At the end of a batch, some threads
    find no further object and wait for the others. On average, a thread waits for half of the time that the
    scan of a slow object takes.
    """
    waits, batch = object_seconds(work), fleet.batch
    # The slowest object has the most rounds, and its answers take longer than the average by about half of
    # the possible delay.
    more_rounds = math.ceil(work.rounds) - work.rounds + SPREAD * work.rounds / 2
    slowest = waits + more_rounds * work.ttfb_seconds
    threads = min(fleet.threads, batch)
    speed, in_line = 0.0, 0.0
    for busy in range(1, threads + 1):
        # When a thread begins to wait for the processor, some threads are already waiting. According to the
        # arrival theorem, their number is the average number of waiting threads in a process that has one
        # thread less. If one of them uses the processor, it has done half of its work on average.
        response = cpu_seconds * (1 + in_line - speed * cpu_seconds / 2)
        speed = busy / (waits + response)
        in_line = speed * response
    if batch > threads:
        seconds = batch / speed + (slowest + cpu_seconds) / 2
    else:
        seconds = batch / speed + slowest - waits
    # At the beginning of a batch, the processor is idle until the first answer from S3 arrives.
    seconds = max(seconds, work.ttfb_seconds + batch * cpu_seconds)
    return batch / (seconds + BATCH_SECONDS)


def fleet_speed(work: Work, fleet: Fleet, cpu_seconds: float) -> float:
    """Return the number of objects per second that all processes together scan.

    An audit lists its next page when it has fewer outstanding batches than `fleet.outstanding` allows. So in
    a cycle of several pages, it waits until all batches of these pages, except `fleet.outstanding` - 1, are
    finished, and then for the listing of a page. The processes scan the batches in rounds, one batch for each
    process, because processes that were idle begin their next batches at the same time. The cycle with the
    longest time per page determines the speed. (The theory of event graphs calls this time the maximum cycle
    mean.)
    """
    processes = fleet.busy / fleet.prefixes
    batches = math.ceil(PAGE_KEYS / fleet.batch)
    batch_seconds = PAGE_KEYS / batches / _process_speed(work, fleet, cpu_seconds)
    seconds = batches * batch_seconds / processes  # if the audit allows so many batches that none is idle
    fewest = math.ceil(fleet.outstanding / batches)
    # Longer cycles consist of these cycles and of cycles in which no process is idle.
    for pages in range(fewest, fewest + math.ceil(processes)):
        rounds = math.ceil((pages * batches - fleet.outstanding + 1) / processes)
        seconds = max(seconds, (rounds * batch_seconds + _page_seconds(work)) / pages)
    return fleet.prefixes * PAGE_KEYS / seconds
