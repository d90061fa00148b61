"""Fills a Redis with many verdicts."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from keyhole.reasons import Status
from keyhole.results.record import WRITE_SCRIPT
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def report(key: str = "a.qcow2", *, seconds: float = 0, status: Status = Status.SAFE, **more: Any) -> Report:
    """A report on an object in the bucket `images`."""
    fields = {"bucket": "images", "format": "qcow2", "scanned_at": NOON + timedelta(seconds=seconds), **more}
    target = f"s3://{fields['bucket']}/{key}"
    return Report(target=target, key=key, status=status, scanner="keyhole/1", ruleset="1", **fields)


def nightly(count: int) -> Iterator[Report]:
    """Reports on ordinary images in two buckets and 365 folders."""
    ranges = ((0, 65536), (1 << 30, 131072))
    whole = report(version_id=None, ranges=ranges, etag='"0123456789abcdef0123456789abcdef"', size=1 << 31)
    for number in range(count):
        own = {
            "key": f"nightly/{number % 365:03}/debian-{number:06}.qcow2",
            "bucket": ("images", "uploads")[number % 2],
            "scanned_at": NOON + timedelta(seconds=number),
        }
        yield whole.model_copy(update=own)


def fill(client: redis.Redis, reports: Iterable[Report]) -> list[Report]:
    """Store the reports in a pipeline."""
    store = RedisStore(client, expiry_seconds=None, stream_length=100)
    name = client.script_load(WRITE_SCRIPT)
    filled = list(reports)
    for start in range(0, len(filled), 1000):
        with client.pipeline(transaction=False) as pipe:
            for number, one in enumerate(filled[start : start + 1000]):
                step = store.writing(one, job_id=f"job-{start + number}", sequencer=None)
                pipe.evalsha(name, len(step.keys), *step.keys, *step.args)
            pipe.execute()
    return filled
