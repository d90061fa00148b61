"""Waiting for verdicts: each job arrives once, from the stream or from the ledger."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis

from keyhole.jobs import wait
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.wait import Arrived, await_verdicts
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore, StreamPage
from keyhole.scan.report import Report
from keyhole.store import keys

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
JOBS = tuple(ScanJob(id=f"job-{number}", bucket="images", key=f"{number}.qcow2") for number in range(3))
BATCH = Entry("batch", JOBS)


def report(job: ScanJob, *, status: Status = Status.SAFE, scanned_at: datetime = NOON) -> Report:
    return Report(
        target=f"s3://{job.bucket}/{job.key}",
        bucket=job.bucket,
        key=job.key,
        status=status,
        scanned_at=scanned_at,
        scanner="keyhole/test",
        ruleset="1",
    )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the silence after which the ledger is asked."""
    monkeypatch.setattr(wait, "BLOCK_MS", 20)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=1000)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    ledger = Ledger(valkey, done_seconds=3600)
    ledger.record(BATCH)
    return ledger


@pytest.fixture
def waiting(store: RedisStore, ledger: Ledger) -> Iterator[Arrived | None]:
    """Wait for the batch in a thread."""
    return await_verdicts([BATCH], store, ledger, after=store.stream_position())


def write(store: RedisStore, job: ScanJob, written: Report | None = None) -> None:
    store.write(written or report(job), job_id=job.id, sequencer=None)


def test_verdicts_arrive_in_the_order_in_which_they_are_written(
    store: RedisStore, waiting: Iterator[Arrived | None]
) -> None:
    for job in reversed(JOBS):
        write(store, job)

    assert list(waiting) == [Arrived(job, report(job)) for job in reversed(JOBS)]


def test_a_silence_is_told(store: RedisStore, waiting: Iterator[Arrived | None]) -> None:
    """The caller can then report it or give up."""
    assert next(waiting) is None
    write(store, JOBS[0])
    assert next(waiting) == Arrived(JOBS[0], report(JOBS[0]))
    assert next(waiting) is None


def test_what_was_written_before_the_submission_is_not_taken_for_it(
    store: RedisStore, ledger: Ledger
) -> None:
    """Other jobs had scanned the same objects before."""
    write(store, ScanJob(id="earlier", bucket="images", key="0.qcow2"))
    waiting = await_verdicts([BATCH], store, ledger, after=store.stream_position())

    for job in JOBS:
        write(store, job, report(job, scanned_at=NOON + timedelta(minutes=1)))

    assert [arrived.job.id for arrived in waiting if arrived] == [job.id for job in JOBS]


def test_other_peoples_verdicts_and_unreadable_entries_are_skipped(
    store: RedisStore, valkey: redis.Redis, waiting: Iterator[Arrived | None]
) -> None:
    write(store, ScanJob(id="other", bucket="images", key="other"))
    valkey.xadd(keys.VERDICTS, {"surprise": "!"})
    valkey.xadd(keys.VERDICTS, {"job": "job-0", "report": "{"})
    for job in JOBS:
        write(store, job)

    assert [arrived for arrived in waiting if arrived] == [Arrived(job, report(job)) for job in JOBS]


def test_a_verdict_that_a_newer_one_stands_against_arrives_as_the_newer_one(
    store: RedisStore, ledger: Ledger, waiting: Iterator[Arrived | None]
) -> None:
    """The verdict is refused and not announced. The ledger states that the job is done."""
    newer = report(JOBS[0], status=Status.UNSAFE, scanned_at=NOON + timedelta(minutes=1))
    write(store, ScanJob(id="newer", bucket="images", key="0.qcow2"), newer)
    for job in JOBS:
        write(store, job)
    ledger.complete(BATCH)

    arrived = {each.job.id: each.report for each in waiting if each}

    assert arrived == {"job-0": newer, "job-1": report(JOBS[1]), "job-2": report(JOBS[2])}


def test_a_job_whose_verdict_is_not_kept_in_redis_arrives_without(
    ledger: Ledger, waiting: Iterator[Arrived | None]
) -> None:
    """The verdicts are only written as tags."""
    ledger.complete(BATCH)

    assert [arrived for arrived in waiting if arrived] == [Arrived(job, None) for job in JOBS]


def test_each_arrives_once_even_if_announced_twice(
    store: RedisStore, valkey: redis.Redis, ledger: Ledger, waiting: Iterator[Arrived | None]
) -> None:
    write(store, JOBS[0])
    valkey.xadd(keys.VERDICTS, {"job": "job-0", "report": report(JOBS[0]).model_dump_json()})
    write(store, JOBS[1])
    write(store, JOBS[2])
    ledger.complete(BATCH)

    assert [arrived.job.id for arrived in waiting if arrived] == ["job-0", "job-1", "job-2"]


def test_nothing_submitted_is_nothing_to_wait_for(store: RedisStore, ledger: Ledger) -> None:
    assert list(await_verdicts([], store, ledger, after="0-0")) == []


def test_busy_strangers_do_not_keep_a_refused_verdict_from_arriving(
    store: RedisStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy site the stream is never silent, but the ledger is still asked."""
    newer = report(JOBS[0], scanned_at=NOON + timedelta(minutes=1))
    write(store, ScanJob(id="newer", bucket="images", key="0.qcow2"), newer)
    position = store.stream_position()
    write(store, JOBS[0])
    ledger.record(Entry("only", JOBS[:1]))
    ledger.complete(Entry("only", JOBS[:1]))
    read, strangers = store.read_stream, iter(range(1000))

    def busy(after: str, *, block_ms: int) -> StreamPage:
        number = next(strangers)
        write(store, ScanJob(id=f"{number}", bucket="images", key=f"stranger-{number}"))
        return read(after, block_ms=block_ms)

    monkeypatch.setattr(store, "read_stream", busy)

    arrived = list(await_verdicts([Entry("only", JOBS[:1])], store, ledger, position))

    assert arrived == [Arrived(JOBS[0], newer)]
