"""The steps that record a verdict: what Redis must execute, and in which order."""

import os
from datetime import UTC, datetime

import pytest
import redis

from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.audits.scripts import RECORD_RESULT
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.reasons import Status
from keyhole.results.record import WRITE_SCRIPT
from keyhole.results.tag_writer import TagWriter
from keyhole.scan.report import Report
from keyhole.settings import Settings
from tests.servers.model_s3 import ModelS3

JOB = ScanJob(id="job", bucket="images", key="a")
REPORT = Report(
    target="s3://images/a",
    bucket="images",
    key="a",
    status=Status.SAFE,
    scanned_at=datetime(2026, 5, 1, tzinfo=UTC),
    scanner="keyhole/test",
    ruleset="1",
)


def work(valkey_url: str, *sinks: str) -> ScanWork:
    """The work of a process that writes verdicts to these sinks. The object does not exist."""
    services = Services(Settings.model_validate({"redis_url": valkey_url, "sinks": sinks}), os.getpid())
    services.__dict__["tags"] = TagWriter(ModelS3(versioned=False))  # type: ignore[arg-type] # a model of its client
    services.audits.create("audit", AuditSpec(bucket="images"), ruleset="1", scanner="keyhole/test")
    return ScanWork(services)


@pytest.mark.parametrize(
    ("sinks", "audit", "expected"),
    [
        (["redis"], None, [WRITE_SCRIPT]),
        (["redis"], "audit", [WRITE_SCRIPT, RECORD_RESULT]),
        (["tags"], None, []),
        (["tags"], "audit", [RECORD_RESULT]),
        (["redis", "tags"], None, []),
        (["redis", "tags"], "audit", [RECORD_RESULT]),
    ],
)
def test_the_steps_depend_on_the_sinks_and_the_audit(
    valkey: redis.Redis, valkey_url: str, sinks: list[str], audit: str | None, expected: list[str]
) -> None:
    """If the verdict is also written as tags, it is in Redis before the steps run."""
    doing = work(valkey_url, *sinks)

    steps = doing.recording(Entry("entry", (JOB,), audit=audit), JOB, REPORT)

    assert [step.script for step in steps] == expected
    assert (doing._services.store.get("images", "a") == REPORT) == (sinks == ["redis", "tags"])
    assert valkey.ping()


@pytest.mark.parametrize("sink", ["redis", "tags"])
def test_recording_at_once_runs_the_steps(valkey: redis.Redis, valkey_url: str, sink: str) -> None:
    doing = work(valkey_url, sink)

    doing.record(Entry("entry", (JOB,)), JOB, REPORT)

    assert (doing._services.store.get("images", "a") == REPORT) == (sink == "redis")
    assert valkey.ping()


def test_a_step_that_fails_is_raised(valkey: redis.Redis, valkey_url: str) -> None:
    doing = work(valkey_url, "redis")
    valkey.set("keyhole:{v1}:verdicts", "not a stream")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        doing.record(Entry("entry", (JOB,)), JOB, REPORT)
