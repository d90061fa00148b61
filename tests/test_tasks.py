"""The tasks turn their arguments into jobs, and each process makes its own services."""

import os

import pytest
from pydantic import ValidationError

from keyhole.fleet import services as module
from keyhole.fleet.services import Services, services
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import EVENTS, JOBS
from keyhole.settings import Settings
from keyhole.tasks import scan, scan_batch

JOB = ScanJob(id="job", bucket="b", key="k", version_id="v", sequencer="0A")


class TestTheEntryOfACall:
    def test_one_object(self) -> None:
        assert scan.entry(["s3://b/k"], "id", EVENTS) == Entry(
            "id", (ScanJob(id="id", bucket="b", key="k"),), EVENTS
        )

    def test_one_version(self) -> None:
        (job,) = scan.entry(["s3://b/k", "v"], "id", JOBS).jobs

        assert job.version_id == "v"

    def test_a_job_keeps_its_id(self) -> None:
        """The id identifies the work, so submitting the same job twice is not more work."""
        assert scan.entry([JOB], "id", JOBS) == Entry("job", (JOB,))

    def test_many_objects(self) -> None:
        entry = scan_batch.entry([["s3://b/1", "s3://b/2", JOB]], "id", JOBS)

        assert entry.id == "id"
        assert [job.key for job in entry.jobs] == ["1", "2", "k"]
        assert [job.id for job in entry.jobs] == ["id-0", "id-1", "job"]

    @pytest.mark.parametrize("arguments", [["b/k"], ["s3:///k"], ["s3://b"], ["s3://b/"]])
    def test_what_names_no_object_is_refused(self, arguments: list[str]) -> None:
        with pytest.raises(ValueError, match=r"s3|key"):
            scan.entry(arguments, "id", JOBS)

    def test_a_job_with_what_it_must_not_have_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="surprise"):
            scan_batch.entry([[{"bucket": "b", "key": "k", "surprise": 1}]], "id", JOBS)


class TestServices:
    def test_a_process_has_one_of_each(self, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> None:
        monkeypatch.setattr(module, "_services", Services(Settings(redis_url=valkey_url), os.getpid()))

        assert services() is services()
        assert services().store is services().store

    def test_a_forked_child_makes_its_own(self, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> None:
        """If two processes share a connection, each can receive the other's answers."""
        parents = Services(Settings(redis_url=valkey_url), os.getpid() + 1)
        monkeypatch.setattr(module, "_services", parents)

        assert services() is not parents
        assert services().pid == os.getpid()

    def test_a_forked_child_has_the_same_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command can choose settings that are not in the environment, such as an embedded Valkey's URL."""
        chosen = Settings(redis_url="redis://chosen", sinks=("tags",))
        monkeypatch.setattr(module, "_services", Services(chosen, os.getpid() + 1))

        assert services().settings == chosen

    def test_without_a_redis_it_says_what_to_set(self) -> None:
        with pytest.raises(RuntimeError, match="KEYHOLE_REDIS_URL"):
            _ = Services(Settings(redis_url=None), os.getpid()).redis
