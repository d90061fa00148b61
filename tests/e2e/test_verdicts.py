"""End to end: each submitted object gets its verdict once, in Redis and as tags."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import QueueNotFound

from keyhole.app import app
from keyhole.builders import qcow2
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.store import keys
from keyhole.tasks import scan, scan_batch, submit
from tests.e2e.commands import until
from tests.e2e.conftest import UNACKNOWLEDGED, Site

GIB = 1024**3
SAFE = qcow2(GIB).to_bytes()
UNSAFE = qcow2(GIB, backing_file="/etc/shadow").to_bytes()
DAMAGED = qcow2(GIB, allocated=8).truncated(300_000).to_bytes()


@pytest.fixture
def bucket(site: Site) -> Iterator[str]:
    """A bucket with one object of each kind."""
    name = site.bucket()
    for key, body in {"safe.qcow2": SAFE, "unsafe.qcow2": UNSAFE, "damaged.qcow2": DAMAGED}.items():
        site.s3.put_object(Bucket=name, Key=key, Body=body)
    return name


def entry(result: Any) -> Entry:
    """An entry that a task submitted. Only the id is known."""
    return Entry(result.id, (ScanJob(id=result.id, bucket="-", key="-"),))


def verdict(site: Site, result: Any) -> Report:
    """The verdict on the only object of a task."""
    (report,) = site.verdicts(entry(result)).values()
    return report


class TestOneObject:
    def test_its_verdict_is_in_redis_and_on_the_object(self, site: Site, bucket: str) -> None:
        report = verdict(site, scan.delay(f"s3://{bucket}/unsafe.qcow2"))

        assert report.status is Status.UNSAFE
        assert "backing_file" in report.reasons
        assert site.store.get(bucket, "unsafe.qcow2") == report
        tags = site.tags(bucket, "unsafe.qcow2")
        assert tags["keyhole-status"] == "unsafe"
        assert tags["keyhole-image"] == f"qcow2 {GIB}"
        assert str(report.etag).strip('"') in tags["keyhole-scan"]

    def test_a_version_gets_a_verdict_of_its_own(self, site: Site) -> None:
        bucket = site.bucket()
        site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        old = site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=UNSAFE)["VersionId"]
        new = site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)["VersionId"]

        by_position = verdict(site, scan.delay(f"s3://{bucket}/a.qcow2", old))
        by_name = verdict(site, scan.delay(f"s3://{bucket}/a.qcow2", version_id=new))

        assert (by_position.status, by_position.version_id) == (Status.UNSAFE, old)
        assert (by_name.status, by_name.version_id) == (Status.SAFE, new)
        old_tags = site.s3.get_object_tagging(Bucket=bucket, Key="a.qcow2", VersionId=old)["TagSet"]
        assert {"Key": "keyhole-status", "Value": "unsafe"} in old_tags
        assert site.tags(bucket, "a.qcow2")["keyhole-status"] == "safe"

    @pytest.mark.parametrize(
        "key",
        [
            "a b+c&d=e.qcow2",
            "ü/日本語.qcow2",
            "//double//slash",
            "per%2Fcent%20",
            "question?mark#hash",
            "../up/./here",
            "tab\there",
            "esc\x1b[31mred",
            " ",
        ],
    )
    def test_its_key_may_be_anything(self, site: Site, bucket: str, key: str) -> None:
        site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)

        report = verdict(site, scan.delay(f"s3://{bucket}/{key}"))

        assert (report.key, report.status) == (key, Status.SAFE), report.details
        assert site.tags(bucket, key)["keyhole-status"] == "safe"


class TestManyObjects:
    def test_each_gets_its_own_verdict(self, site: Site, bucket: str) -> None:
        good = [f"good-{number}.qcow2" for number in range(20)]
        for key in good:
            site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
        keys_ = [*good, "unsafe.qcow2", "missing.qcow2", "damaged.qcow2"]
        jobs = [ScanJob(bucket=bucket, key=key) for key in keys_]

        result = scan_batch.delay(jobs)

        reports = site.verdicts(Entry(result.id, tuple(jobs)))
        statuses = {key: report.status for key, report in reports.items()}
        assert statuses == {
            **dict.fromkeys(good, Status.SAFE),
            "unsafe.qcow2": Status.UNSAFE,
            "missing.qcow2": Status.UNREADABLE,
            "damaged.qcow2": Status.DAMAGED,
        }
        assert reports["missing.qcow2"].reasons == ("not_found",)
        assert site.tags(bucket, "damaged.qcow2")["keyhole-status"] == "damaged"

    def test_they_may_be_given_as_uris(self, site: Site, bucket: str) -> None:
        result = scan_batch.delay([f"s3://{bucket}/safe.qcow2", f"s3://{bucket}/unsafe.qcow2"])

        site.completed(Entry(result.id, ()))

        assert [site.store.get(bucket, f"{name}.qcow2").status for name in ("safe", "unsafe")] == [
            Status.SAFE,
            Status.UNSAFE,
        ]


class TestTheSameAgain:
    def test_a_message_twice_changes_nothing(self, site: Site, bucket: str) -> None:
        """A broker delivers a message again if it was processed but not acknowledged."""
        (done,) = submit([ScanJob(bucket=bucket, key="unsafe.qcow2")], batch_size=1)
        site.verdicts(done)
        site.completed(done)
        before = traces(site, bucket)
        message = [done.id, [job.model_dump(exclude_none=True) for job in done.jobs]]

        app.send_task("keyhole.scan", args=message, queue=JOBS)
        app.send_task("keyhole.scan", args=message, queue=JOBS)

        flush(site, bucket)
        assert traces(site, bucket) == before

    def test_a_verdict_is_written_once_even_where_the_marks_are_gone(self, site: Site, bucket: str) -> None:
        """The ledger's marks expire, but the record contains the job's id."""
        (done,) = submit([ScanJob(bucket=bucket, key="unsafe.qcow2")], batch_size=1)
        site.verdicts(done)
        site.completed(done)
        before = traces(site, bucket)
        site.redis.delete(keys.entry_done(done.id))

        app.send_task("keyhole.scan", args=[done.id, [job.model_dump() for job in done.jobs]], queue=JOBS)

        flush(site, bucket)
        assert traces(site, bucket) == before

    def test_submitting_again_is_a_new_job(self, site: Site, bucket: str) -> None:
        first = verdict(site, scan.delay(f"s3://{bucket}/safe.qcow2"))
        second = verdict(site, scan.delay(f"s3://{bucket}/safe.qcow2"))

        assert second.scanned_at > first.scanned_at
        assert site.store.get(bucket, "safe.qcow2") == second


def traces(site: Site, bucket: str) -> tuple[object, ...]:
    """The results for the bucket's only hostile object: record, verdicts in the stream, tag writes."""
    announced = [
        fields
        for _, fields in site.redis.xrange(keys.VERDICTS)
        if json.loads(fields[b"report"])["target"] == f"s3://{bucket}/unsafe.qcow2"
    ]
    written = [path for path in site.held.tag_writes if f"/{bucket}/unsafe.qcow2" in path]
    record = site.redis.get(keys.record(keys.object_id(bucket, "unsafe.qcow2", None)))
    return record, announced, written, site.tags(bucket, "unsafe.qcow2")


def flush(site: Site, bucket: str) -> None:
    """Wait until all earlier work is done: each process has worked on a later job."""
    entries = submit([ScanJob(bucket=bucket, key=f"nothing-{number}") for number in range(8)], batch_size=1)
    site.verdicts(*entries)
    until(lambda: site.redis.hlen(UNACKNOWLEDGED) == 0)


class TestForeignMessages:
    def test_garbage_is_logged_and_the_next_job_is_done(self, site: Site, bucket: str) -> None:
        garbage: list[tuple[tuple[object, ...], dict[str, object]]] = [
            ((), {}),
            (("s3://b/k",), {}),
            ((1, 2), {}),
            (("id", [{"bucket": "b", "key": "k", "exec": "rm"}]), {}),
            (("id", [{"bucket": "", "key": "k"}]), {}),
            (("id", "s3://b/k"), {}),
            ((None, None), {}),
            (("id", []), {"surprise": True}),
        ]

        sent = [app.send_task("keyhole.scan", args, kwargs, queue=JOBS).id for args, kwargs in garbage]

        assert verdict(site, scan.delay(f"s3://{bucket}/safe.qcow2")).status is Status.SAFE
        flush(site, bucket)
        errors = [line for line in site.log.read_text().splitlines() if '"level": "error"' in line]
        assert [task_id for task_id in sent if not any(task_id in line for line in errors)] == []

    def test_a_task_of_no_such_name_is_logged_and_the_next_job_is_done(self, site: Site, bucket: str) -> None:
        app.send_task("keyhole.nonsense", args=("x",), queue=JOBS)

        assert verdict(site, scan.delay(f"s3://{bucket}/safe.qcow2")).status is Status.SAFE
        flush(site, bucket)
        assert "keyhole.nonsense" in site.log.read_text()

    @pytest.mark.parametrize(
        "publish",
        [
            lambda: scan.apply_async(("s3://b/k",), queue="keyhole.job"),
            lambda: app.send_task("keyhole.scan", args=("x",), queue="keyhole.job"),
        ],
    )
    def test_a_queue_of_no_such_name_is_refused(self, site: Site, publish: Callable[[], object]) -> None:
        """Otherwise its jobs would wait forever for a worker."""
        with pytest.raises(QueueNotFound, match=r"keyhole\.job"):
            publish()

        assert not site.redis.exists("keyhole:broker:keyhole.job")
