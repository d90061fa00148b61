"""Predicts the requests, dollars, hours and Redis memory of an audit from a few numbers, without a listing.

The threads, the processors, S3, the rate limit, the listing and Redis can each serve a certain maximum number
of objects per second, which is called a ceiling. The model assumes that the audit runs at the lowest ceiling.
In a worker process, several threads share one processor. So when a thread has received data from S3, it may
have to wait because another thread is using the processor. Mean value analysis (Reiser and Lavenberg, 1980)
computes the speed of the threads and the processor together.

A scan fetches an object in rounds. In the first round, it sends one GET; the answer shows which ranges the
scan needs next. In each later round, it sends several GETs at the same time, and waits for the slowest
answer.

The model ignores errors and retries, objects that are unchanged since an earlier verdict, archived objects,
and the time that workers need to start. It assumes that no two processes share a processor core.

The predicted time is too short, by up to an eighth, if the two lowest ceilings are nearly equal, or if a
batch has fewer than two objects for each thread. `tests/intake/audits/test_plan.py` compares the predicted
time with a simulation of a million objects.
"""

import math
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from keyhole.intake.audits.costs import USUAL_TAGS
from keyhole.intake.audits.estimate import NO_TAGS, Spending
from keyhole.intake.audits.page import jobs_in_batch
from keyhole.intake.audits.prices import Prices
from keyhole.intake.audits.records import ROW_BYTES
from keyhole.intake.listing import PAGE_KEYS

#: The numbers of GETs and bytes of an average scan. These are the averages of the table in `keyhole docs
#: cost`.
MEAN_GETS: Final = 2.6
MEAN_BYTES: Final = 726 * 1024
#: The number of rounds of an average scan, also from this table.
MEAN_ROUNDS: Final = 2
#: The maximum number of GETs that a scan sends at the same time (`keyhole.sources.s3`).
GETS_AT_ONCE: Final = 4
#: The slowest answers take longer than the average by this share, and the fastest answers take less by this
#: share. This is an assumption, not a measurement.
SPREAD: Final = 0.3
#: The CPU time of a worker process for one object, in seconds. `python -m tests.bench throughput` measured
#: about 3 ms for reading and inspecting. It takes about 1 ms more to record the verdict and to count it for
#: the audit.
MEAN_CPU_SECONDS: Final = 0.004
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

# Bytes of Redis memory for one object, measured with Valkey 9.1 and keys of about 20 bytes. If a key is
# longer than 20 bytes, each further byte of the key takes two to three bytes of memory.
# `tests/e2e/test_plan.py` measures these constants again, from RECORD_BYTES to DONE_BYTES.
#: RECORD_BYTES: the record of the verdict, including the record's key and its share of the server's table of
#: keys.
RECORD_BYTES: Final = 384
#: The object's entries in the index by status and in the index by key, and its row for searches.
INDEX_BYTES: Final = 235
#: An entry in the stream of verdicts.
STREAM_BYTES: Final = 740
#: A job that is queued or in progress. Copies of the job are in the audit's list of batches, in the ledger
#: and in the broker.
JOB_BYTES: Final = 250
#: The marker that states that a batch is complete.
DONE_BYTES: Final = 90


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Work(_Frozen):
    """The objects of the audit, and the average numbers of requests, bytes and seconds that a scan needs."""

    objects: int
    gets: float = MEAN_GETS
    bytes: int = MEAN_BYTES
    cpu_seconds: float = MEAN_CPU_SECONDS
    #: Seconds from a request to the first byte of the answer.
    ttfb_seconds: float
    storage_class: str = "STANDARD"
    #: Whether workers also write the verdict as tags.
    tags: bool = False

    @property
    def rounds(self) -> float:
        """The average number of rounds of a scan."""
        return max(min(self.gets, MEAN_ROUNDS), self.gets / GETS_AT_ONCE)


class Fleet(_Frozen):
    """The workers, and the limits of the audit.

    `prefixes` is the number of prefixes that are audited at the same time, each by its own audit. `rate` is
    in requests per second; 0 means no limit.
    """

    processes: int
    threads: int
    prefixes: int = 1
    rate: float
    #: The maximum number of batches of one audit that are queued or in progress, and the maximum number of
    #: objects of one batch.
    outstanding: int
    batch_size: int

    @property
    def busy(self) -> int:
        """The number of processes that have work at the same time.

        Each of these processes needs its own batch.
        """
        return min(self.processes, self.outstanding * self.prefixes)

    @property
    def batch(self) -> int:
        """The number of objects in a batch."""
        return jobs_in_batch(self.batch_size, rate=self.rate, outstanding=self.outstanding)


class Kept(_Frozen):
    """The data that Redis stores.

    Times are in seconds. If `record_seconds` is 0, Redis stores the records forever.
    """

    records: bool
    record_seconds: int
    stream_length: int
    done_seconds: int


class Resource(StrEnum):
    """The resources that can bound the speed of an audit."""

    RATE = "rate"
    LATENCY = "latency"
    CPU = "cpu"
    S3_READS = "s3_reads"
    S3_WRITES = "s3_writes"
    LISTING = "listing"
    REDIS = "redis"


class Ceiling(_Frozen):
    """The maximum number of objects per second that a resource can serve."""

    resource: Resource
    objects_per_second: float


class Memory(_Frozen):
    """The memory of Redis at the end of the audit, in bytes."""

    records: int
    indexes: int
    stream: int
    audit_rows: int
    jobs: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.records + self.indexes + self.stream + self.audit_rows + self.jobs


class Plan(_Frozen):
    """The prediction. The first of the `ceilings` is the lowest one, which bounds the speed of the audit."""

    work: Work
    fleet: Fleet
    kept: Kept
    spending: Spending
    ceilings: tuple[Ceiling, ...]
    objects_per_second: float
    seconds: float
    memory: Memory
    prices_date: date
    region: str
    #: Whether the price table contains the storage class. If not, the prediction uses the highest prices in
    #: the table.
    priced: bool

    @property
    def bound(self) -> Resource:
        """The resource that bounds the audit."""
        return self.ceilings[0].resource

    def ceiling(self, resource: Resource) -> float:
        """Return the number of objects per second that a resource can serve.

        If `ceilings` does not contain the resource, return infinity.
        """
        return next(
            (one.objects_per_second for one in self.ceilings if one.resource is resource), float("inf")
        )

    @property
    def bits_per_second(self) -> float:
        """The network traffic of all hosts together, in bits per second."""
        return 8 * self.work.bytes * self.objects_per_second


def plan(work: Work, fleet: Fleet, kept: Kept, prices: Prices) -> Plan:
    """Return the prediction for an audit in which no object has a valid verdict."""
    ceilings = sorted(_ceilings(work, fleet), key=lambda one: one.objects_per_second)
    speed = min(ceilings[0].objects_per_second, _fleet_speed(work, fleet, work.cpu_seconds))
    return Plan(
        work=work,
        fleet=fleet,
        kept=kept,
        spending=_spending(work, prices),
        ceilings=tuple(ceilings),
        objects_per_second=speed,
        seconds=work.objects / speed,
        memory=_memory(work, fleet, kept, speed),
        prices_date=prices.date,
        region=prices.region,
        priced=prices.knows(work.storage_class),
    )


def _spending(work: Work, prices: Prices) -> Spending:
    tags = USUAL_TAGS if work.tags else NO_TAGS
    objects = work.objects
    lists, gets = -(-objects // PAGE_KEYS), round(objects * work.gets)
    heads, reads, writes = objects * tags.looks, objects * tags.reads, objects * tags.writes
    dollars = lists * prices.list_request() + (gets + heads) * prices.get(work.storage_class, 0)
    dollars += prices.retrieval(work.storage_class, objects * work.bytes)
    dollars += reads * prices.get_tagging() + writes * prices.put_tagging()
    return Spending(
        lists=lists,
        gets=gets,
        heads=heads,
        tag_reads=reads,
        tag_writes=writes,
        bytes_read=objects * work.bytes,
        dollars=dollars,
    )


def _ceilings(work: Work, fleet: Fleet) -> Iterator[Ceiling]:
    tags = USUAL_TAGS if work.tags else NO_TAGS
    reads = work.gets + tags.looks + tags.reads + 1 / PAGE_KEYS
    asked = reads + tags.writes
    if fleet.rate:
        yield Ceiling(resource=Resource.RATE, objects_per_second=fleet.rate / asked)
    yield Ceiling(resource=Resource.LATENCY, objects_per_second=_fleet_speed(work, fleet, 0))
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
    waits += sum(USUAL_TAGS) if work.tags else 0
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


def _fleet_speed(work: Work, fleet: Fleet, cpu_seconds: float) -> float:
    """Return the number of objects per second that all processes together scan.

    An audit lists its next page when it has fewer outstanding batches than `fleet.outstanding` allows. While
    the audit lists the page, it creates no new batches. So if the allowed number of batches is not larger
    than the number of processes, a process that finishes its batch is idle until the page is listed.
    """
    speed = _process_speed(work, fleet, cpu_seconds)
    busy = fleet.busy / fleet.prefixes
    ended_per_second = busy * speed / fleet.batch
    page = _page_seconds(work)
    # While the page is listed, the number of idle processes begins at `first`, and grows by
    # `ended_per_second` each second. If `first` is negative, batches are still waiting, and no process is
    # idle before these batches are taken.
    first = 1 - (fleet.outstanding - busy)
    begins = max(0.0, -first / ended_per_second)
    listing = max(0.0, page - begins)
    idle = min(busy, max(0.0, first))
    # The number of idle processes grows for this many seconds, until the page is listed or all processes are
    # idle.
    growing = min(listing, (busy - idle) / ended_per_second)
    idle_seconds = idle * growing + ended_per_second * growing**2 / 2 + busy * (listing - growing)
    working_seconds = PAGE_KEYS / speed
    return fleet.busy * speed * working_seconds / (working_seconds + idle_seconds)


def _memory(work: Work, fleet: Fleet, kept: Kept, speed: float) -> Memory:
    objects, batch = work.objects, fleet.batch
    recorded = objects if kept.records else 0
    alive = min(recorded, speed * kept.record_seconds) if kept.record_seconds else recorded
    done = min(objects, speed * kept.done_seconds) / batch
    queued = min(objects, fleet.outstanding * fleet.prefixes * batch + fleet.prefixes * PAGE_KEYS)
    return Memory(
        records=round(alive * RECORD_BYTES),
        indexes=recorded * INDEX_BYTES,
        stream=min(recorded, kept.stream_length) * STREAM_BYTES,
        audit_rows=objects * ROW_BYTES,
        jobs=round(queued * JOB_BYTES + done * DONE_BYTES),
    )
