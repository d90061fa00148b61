"""The steps that record a verdict: what Redis must execute, and in which order."""

import os
from datetime import UTC, datetime
from types import SimpleNamespace

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
from keyhole.results.tags import TagDebt
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.store.round_trips import Step
from tests.servers.model_s3 import Fault, ModelS3

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


class TestOwners:
    """An audit with an owner tag finds the owner of each scanned object."""

    ENTRY = Entry("entry", (JOB,), audit="owned", version=2)

    @pytest.fixture
    def s3(self) -> ModelS3:
        s3 = ModelS3(versioned=False)
        s3.put(b"x", {"team": "payments"})
        return s3

    def result(self, valkey_url: str, s3: ModelS3, *sinks: str) -> tuple[Services, Step]:
        """Record a verdict, and return the step that stores the result for the audit."""
        doing = work(valkey_url, *sinks)
        services = doing._services
        services.__dict__["tags"] = TagWriter(s3)  # type: ignore[arg-type] # as above
        access = SimpleNamespace(client=s3)
        spec = AuditSpec(bucket="images", owner_tag="team")
        services.audits.create("owned", spec, ruleset="1", scanner="keyhole/test")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Services, "s3", property(lambda _: access))
            stored = s3.current
            report = REPORT.model_copy(update={"etag": stored and stored.etag})
            *_, accounting = doing.recording(self.ENTRY, JOB, report)
        return services, accounting

    @pytest.mark.usefixtures("valkey")
    @pytest.mark.parametrize(
        ("sinks", "reads", "requests"), [(["redis"], 1, 1), (["tags"], 2, 5), (["redis", "tags"], 2, 5)]
    )
    def test_it_costs_a_request_only_if_the_tags_are_not_read_anyway(
        self, valkey_url: str, s3: ModelS3, sinks: list[str], reads: int, requests: int
    ) -> None:
        services, step = self.result(valkey_url, s3, *sinks)

        assert s3.requests.count("GetObjectTagging") == reads
        assert len(s3.requests) == requests
        *_, result, _ = step.args
        counts = bytes(result)[18:].split(b" ", 4)
        assert (counts[1], counts[4]) == (str(REPORT.requests + requests).encode(), b"=payments")
        assert services.prices.get_tagging() > 0

    @pytest.mark.usefixtures("valkey")
    @pytest.mark.parametrize("sinks", [["redis"], ["tags"], ["redis", "tags"]])
    def test_unreadable_tags_lose_no_verdict(self, valkey_url: str, s3: ModelS3, sinks: list[str]) -> None:
        s3.before = lambda request: Fault.DENIED if request == "GetObjectTagging" else None

        services, step = self.result(valkey_url, s3, *sinks)

        *_, result, _ = step.args
        assert b"!reading the tags is denied; Keyhole needs s3:GetObjectTagging" in bytes(result)
        assert s3.requests.count("GetObjectTagging") == 1
        if sinks == ["redis", "tags"]:
            assert services.store.get("images", "a") is not None

    @pytest.mark.usefixtures("valkey")
    def test_if_another_worker_writes_the_tags_they_are_read_all_the_same(
        self, valkey_url: str, s3: ModelS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keyhole.jobs.tag_debts._WAIT_SECONDS", 0)
        holder = work(valkey_url, "tags")._services
        assert holder.tag_debts.hold(TagDebt("images", "a")) is not None

        _, step = self.result(valkey_url, s3, "tags")

        assert s3.requests == ["GetObjectTagging"]
        *_, result, _ = step.args
        assert bytes(result).endswith(b" =payments")
