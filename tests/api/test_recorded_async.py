"""Waiting for jobs and reading verdicts in an event loop, with a real Valkey."""

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest
import redis

from keyhole import Report, Settings, Status
from keyhole.aio import verdict, verdicts, wait
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.results.redis_store import RedisStore
from tests.api.recording import write
from tests.e2e.commands import PATIENCE

ENTRIES = [Entry(key, (ScanJob(id=key, bucket="b", key=key),)) for key in ("done", "left")]


@pytest.fixture
def settings(valkey: redis.Redis, valkey_url: str) -> Settings:
    assert valkey.ping()
    return Settings(redis_url=valkey_url)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=100)


@pytest.fixture
def half_done(valkey: redis.Redis, store: RedisStore) -> Ledger:
    """Two jobs, one of which is done."""
    ledger = Ledger(valkey, done_seconds=60)
    ledger.record_many(ENTRIES)
    write(store, "done", Status.SAFE, job="done")
    ledger.complete(ENTRIES[0])
    return ledger


async def threads_end() -> None:
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), PATIENCE)


def test_recorded_verdicts_are_those_of_the_other_api(store: RedisStore, settings: Settings) -> None:
    for number in range(250):  # more than one call in a thread takes
        write(store, f"{number}", Status.UNSAFE, at=number)

    async def read() -> tuple[list[str | None], list[str | None], Report | None, Report | None]:
        found = [report.key async for report in verdicts(status="unsafe", settings=settings)]
        few = [report.key async for report in verdicts(limit=2, since="2026-05-01", settings=settings)]
        known = await verdict("s3://b/7", settings=settings)
        with pytest.raises(ValueError, match="'sfae'"):
            await anext(verdicts(status="sfae", settings=settings))
        return found, few, known, await verdict("s3://b/other", settings=settings)

    found, few, known, other = asyncio.run(read())

    assert found == [str(number) for number in reversed(range(250))]
    assert few == ["249", "248"]
    assert known is not None
    assert (known.key, other) == ("7", None)


@pytest.mark.usefixtures("half_done")
def test_a_wait_yields_what_is_done_and_then_times_out(settings: Settings) -> None:
    async def read() -> list[str | None]:
        reports = wait(ENTRIES, timeout=0.1, settings=settings)
        keys = [(await anext(reports)).key]
        with pytest.raises(TimeoutError, match="1 job is not done yet"):
            await anext(reports)
        return keys

    assert asyncio.run(read()) == ["done"]


@pytest.mark.usefixtures("half_done")
def test_a_cancelled_wait_ends_with_its_thread_and_the_job_stays_queued(
    settings: Settings, half_done: Ledger
) -> None:
    async def read() -> None:
        began = asyncio.Event()

        async def waiting() -> None:
            async for _ in wait(ENTRIES, settings=settings):
                began.set()

        task = asyncio.create_task(waiting())
        await asyncio.wait_for(began.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await threads_end()

    asyncio.run(read())

    assert half_done.is_open("left")


@pytest.mark.usefixtures("half_done")
def test_a_wait_that_is_left_early_ends_with_its_thread(settings: Settings) -> None:
    async def read() -> str | None:
        reports = cast("AsyncGenerator[Report]", wait(ENTRIES, settings=settings))
        first = await asyncio.wait_for(anext(reports), PATIENCE)
        await reports.aclose()
        await threads_end()
        return first.key

    assert asyncio.run(read()) == "done"


def test_the_event_loop_runs_while_a_wait_blocks(
    settings: Settings, half_done: Ledger, store: RedisStore
) -> None:
    """The loop itself completes the second job, which would otherwise be a deadlock."""

    async def read() -> list[str | None]:
        keys = []
        async for report in wait(ENTRIES, settings=settings):
            keys.append(report.key)
            asyncio.get_running_loop().call_soon(complete)
        return keys

    def complete() -> None:
        write(store, "left", Status.SAFE, job="left")
        half_done.complete(ENTRIES[1])

    assert asyncio.run(asyncio.wait_for(read(), PATIENCE)) == ["done", "left"]
