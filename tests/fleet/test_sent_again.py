"""The rest of a batch of long scans is sent again, which is not counted as a failure."""

import os
from collections.abc import Iterator

import pytest
import redis

from keyhole import limits
from keyhole.fleet import services as serving
from keyhole.fleet import wiring
from keyhole.fleet.services import Services, services
from keyhole.intake.dead_letters import DeadLetters
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import EVENTS
from keyhole.settings import Settings
from keyhole.tasks import scan_batch
from tests.servers.access import CREDENTIALS, isolate

JOBS = tuple(ScanJob(id=key, bucket="images", key=key) for key in ("a", "b", "c"))
BATCH = Entry("batch", JOBS, EVENTS)


@pytest.fixture
def sent(
    valkey: redis.Redis, valkey_url: str, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Entry]]:
    """Return what this process sends again if it starts one object and then has no time left."""
    valkey.ping()
    isolate(monkeypatch, **CREDENTIALS)
    settings = Settings(redis_url=valkey_url, s3_endpoint_url=moto_url)
    monkeypatch.setattr(serving, "_services", Services(settings, os.getpid()))
    monkeypatch.setattr(limits, "BEGIN", -1)
    again: list[Entry] = []
    monkeypatch.setattr(wiring.CeleryPublisher, "publish", lambda _, entries: again.extend(entries))
    services().ledger.record(BATCH)
    yield again
    services().redis.close()


def test_a_batch_is_sent_again_until_all_of_it_is_done(sent: list[Entry], valkey: redis.Redis) -> None:
    message = ENTRY.dump_python(BATCH, mode="json", exclude_none=True)
    for times in range(len(JOBS)):
        assert len(sent) == times
        assert not services().ledger.is_done(BATCH.id)
        scan_batch.apply(args=[message], throw=True)

    assert services().ledger.is_done(BATCH.id)
    assert all(services().store.get("images", job.key) for job in JOBS)
    assert sent == [BATCH] * (len(JOBS) - 1)
    assert DeadLetters(valkey).count() == 0
