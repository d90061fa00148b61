"""The history of an object's verdicts: only changes, bounded, and gone with the object."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from keyhole.reasons import Status
from keyhole.results.drop import Drops
from keyhole.results.history import MOST, Past, history
from keyhole.results.lookup import Name
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store import keys

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def report(minute: int, status: Status = Status.SAFE, **more: Any) -> Report:
    fields = {"etag": '"abc"', "scanned_at": NOON + timedelta(minutes=minute), **more}
    return Report(
        target="s3://images/a", bucket="images", key="a", status=status, scanner="k", ruleset="1", **fields
    )


def past(minute: int, status: Status, *reasons: str, etag: str | None = "abc") -> Past:
    return Past(NOON + timedelta(minutes=minute), status, reasons, etag)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=3600, stream_length=100)


def write(store: RedisStore, *reports: Report) -> None:
    for one in reports:
        store.write(one, job_id=one.scanned_at.isoformat(), sequencer=None)


def test_a_change_of_status_reasons_or_etag_is_kept(store: RedisStore, valkey: redis.Redis) -> None:
    write(
        store,
        report(0),
        report(1),
        report(2, Status.DAMAGED, reasons=("truncated",)),
        report(3, Status.DAMAGED, reasons=("truncated", "checksum")),
        report(4, Status.DAMAGED, reasons=("truncated", "checksum"), etag='"a|b\n"'),
        report(5),
    )

    assert history(valkey, "images", "a") == [
        past(4, Status.DAMAGED, "truncated", "checksum", etag="a|b\n"),
        past(3, Status.DAMAGED, "truncated", "checksum"),
        past(2, Status.DAMAGED, "truncated"),
        past(1, Status.SAFE),
    ]


def test_a_verdict_that_never_changed_needs_no_memory(store: RedisStore, valkey: redis.Redis) -> None:
    write(store, *map(report, range(3)))

    assert not valkey.exists(keys.past(keys.object_id("images", "a", None)))


def test_only_the_latest_changes_are_kept_and_expire(store: RedisStore, valkey: redis.Redis) -> None:
    write(store, *(report(n, (Status.SAFE, Status.UNSAFE)[n % 2]) for n in range(MOST + 5)))

    found = history(valkey, "images", "a")
    assert [one.scanned_at.minute for one in found] == [*range(MOST + 3, 3, -1)]
    assert 3500 < valkey.ttl(keys.past(keys.object_id("images", "a", None))) <= 3600


def test_a_new_version_is_a_change_of_the_bare_key(store: RedisStore, valkey: redis.Redis) -> None:
    write(
        store,
        report(0, Status.UNSAFE, reasons=("backing_file",)),
        report(1, version_id="v1", etag='"one"', status=Status.DAMAGED, reasons=("truncated",)),
        report(2, version_id="v2", etag='"two"'),
        report(3, version_id="v2", etag='"two"'),
    )

    assert history(valkey, "images", "a") == [
        past(1, Status.DAMAGED, "truncated", etag="one"),
        past(0, Status.UNSAFE, "backing_file"),
    ]
    assert history(valkey, "images", "a", "v2") == []


def test_it_is_dropped_with_the_verdict(store: RedisStore, valkey: redis.Redis) -> None:
    write(store, report(0), report(1, Status.UNSAFE))
    drops = Drops(valkey)
    (standing,) = drops.look([Name("images", "a")])
    assert standing is not None
    drops.drop(standing)

    assert list(valkey.scan_iter(keys.past("*"))) == []


def test_a_corrupt_entry_is_skipped(store: RedisStore, valkey: redis.Redis) -> None:
    write(store, report(0), report(1, Status.UNSAFE))
    name = keys.past(keys.object_id("images", "a", None))
    valkey.rpush(name, b"\xff", "1|2", "x|safe|a|b", "1|happy|a|b", f"{10**30}|safe|a|b")

    assert history(valkey, "images", "a") == [past(0, Status.SAFE)]
