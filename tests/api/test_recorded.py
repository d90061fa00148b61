"""Recorded verdicts, and waiting for queued jobs, with a real Valkey."""

import copy
import doctest
import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
import redis
from celery.result import AsyncResult

from keyhole import Reason, Report, Settings, Status, tasks, verdict, verdicts, wait
from keyhole.app import configure
from keyhole.fleet.services import use_settings
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.results.redis_store import RedisStore
from tests.api.recording import write
from tests.e2e.commands import PATIENCE

#: Keys as an uploader can choose them.
HOSTILE = "\u202e<script>\x1b[2J" + "k" * 1000


@pytest.fixture
def settings(valkey: redis.Redis, valkey_url: str) -> Settings:
    assert valkey.dbsize() == 0
    return Settings(redis_url=valkey_url)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=100)


def test_verdicts_are_filtered_and_the_latest_comes_first(store: RedisStore, settings: Settings) -> None:
    for number, (bucket, key, status) in enumerate(
        [
            ("b", "x/1", Status.SAFE),
            ("b", "x/2", Status.UNSAFE),
            ("c", "x/3", Status.SAFE),
            ("b", HOSTILE, Status.SAFE),
        ]
    ):
        write(store, key, status, bucket=bucket, at=number)

    def keys(**filters: object) -> list[str | None]:
        return [report.key for report in verdicts(settings=settings, **filters)]  # type: ignore[arg-type]

    assert keys() == [HOSTILE, "x/3", "x/2", "x/1"]
    assert keys(status="safe", bucket="b") == [HOSTILE, "x/1"]
    assert keys(prefix="x/", limit=2) == ["x/3", "x/2"]
    assert keys(format="vmdk") == keys(limit=0) == []
    with pytest.raises(ValueError, match="'sfae' is not a status; did you mean safe"):
        verdicts(status="sfae", settings=settings)
    with pytest.raises(ValueError, match="limit is -1; it must be at least 0"):
        verdicts(limit=-1, settings=settings)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"status": "unsfe"}, "'unsfe' is not a status; did you mean unsafe"),
        ({"status": "?"}, r"'\?' is not a status; use one of safe, unsafe, damaged"),
        ({"format": "vmkd"}, r"'vmkd' is not a format; did you mean vmdk\?"),
        ({"format": "?"}, r"'\?' is not a format; the formats are raw, qcow2"),
        ({"reason": "truncatd"}, "'truncatd' is not a reason; did you mean truncated"),
        ({"reason": "?"}, r"'\?' is not a reason; `keyhole explain` lists all reasons"),
        ({"reason": HOSTILE}, r"'\\u202e<script>\\x1b"),
    ],
)
def test_a_misspelt_filter_is_an_error_before_the_first_verdict(
    settings: Settings, filters: dict[str, str], message: str
) -> None:
    """It would find nothing, which looks as if there were no bad images."""
    with pytest.raises(ValueError, match=message) as refused:
        verdicts(settings=settings, **filters)  # type: ignore[arg-type]
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_a_format_and_a_reason_that_only_a_record_has_are_accepted(
    store: RedisStore, settings: Settings
) -> None:
    """A later version can have recorded a verdict."""
    later = write(store, "later", Status.DAMAGED).model_copy(
        update={"format": "newdisk", "reasons": ("new_check",), "scanned_at": datetime.now(UTC)}
    )
    store.write(later, job_id="later", sequencer=None)

    for filters in ({"format": "newdisk"}, {"reason": "new_check"}):
        assert [report.key for report in verdicts(settings=settings, **filters)] == ["later"]  # type: ignore[arg-type]
    assert [*verdicts(settings=settings, reason=Reason.EMPTY)] == []


def test_a_filter_reads_only_the_records_that_match(
    valkey: redis.Redis, store: RedisStore, settings: Settings
) -> None:
    for number in range(200):
        write(store, f"{number}", Status.SAFE, bucket="many", at=number)
    write(store, "one", Status.SAFE, bucket="few")
    valkey.config_resetstat()

    assert [report.key for report in verdicts(bucket="few", settings=settings)] == ["one"]
    assert valkey.info("commandstats")["cmdstat_mget"]["calls"] == 1


def test_the_verdict_on_an_object_is_found(store: RedisStore, settings: Settings) -> None:
    report = write(store, HOSTILE, Status.UNSAFE)

    assert verdict(f"s3://b/{HOSTILE}", settings=settings) == report
    assert verdict("s3://b/other", settings=settings) is None
    with pytest.raises(ValueError, match="names a bucket"):
        verdict("s3://b", settings=settings)


def test_calls_share_a_connection(valkey: redis.Redis, settings: Settings) -> None:
    verdict("s3://b/other", settings=settings)
    before = valkey.info("stats")["total_connections_received"]

    for _ in range(10):
        verdict("s3://b/other", settings=settings)

    assert valkey.info("stats")["total_connections_received"] == before


def test_without_a_redis_the_error_says_what_to_set() -> None:
    for ask in (verdicts, lambda: verdict("s3://b/k"), lambda: list(wait([]))):
        with pytest.raises(ValueError, match="set KEYHOLE_REDIS_URL"):
            ask()


def test_waiting_yields_the_verdicts_of_jobs_that_are_done_and_then_times_out(
    valkey: redis.Redis, store: RedisStore, settings: Settings
) -> None:
    ledger = Ledger(valkey, done_seconds=60)
    done, left = (Entry(key, (ScanJob(id=key, bucket="b", key=key),)) for key in ("done", "left"))
    ledger.record_many([done, left])
    report = write(store, "done", Status.SAFE, job="done")
    ledger.complete(done)

    reports = wait([left, done], timeout=0.1, settings=settings)

    assert next(reports) == report
    with pytest.raises(TimeoutError, match=r"1 job is not done yet; it stays queued\. No worker takes work"):
        next(reports)


@pytest.mark.parametrize(
    ("queued", "message"),
    [
        (17, r"int is not a list of queued jobs; write wait\(\[job\]\)"),
        (["s3://b/k"], r"str is not a queued job; pass what keyhole\.tasks\.scan\.delay returns"),
        ("s3://b/k", "str is not a queued job"),
        ([None], "NoneType is not a queued job"),
    ],
)
def test_what_is_no_list_of_jobs_is_an_error(settings: Settings, queued: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        list(wait(queued, settings=settings))


@pytest.fixture
def configured(settings: Settings) -> Iterator[None]:
    configure(settings)
    use_settings(settings)
    yield
    configure(Settings())
    use_settings(Settings())


@pytest.mark.usefixtures("configured")
def test_the_result_of_delay_waits_for_the_status(valkey: redis.Redis, store: RedisStore) -> None:
    queued = tasks.scan.delay("s3://b/k")
    batch = tasks.scan_batch.delay(["s3://b/1", "s3://b/2"])

    assert not queued.ready()
    with pytest.raises(TypeError, match=r"QueuedScan is not a list of queued jobs; write wait\(\[job\]\)"):
        list(wait(queued))  # type: ignore[call-overload]
    with pytest.raises(TimeoutError):
        queued.get(timeout=0.1)
    write(store, "k", Status.UNSAFE, job=queued.id)
    Ledger(valkey, done_seconds=60).complete(queued.entry)
    assert queued.ready()
    assert (queued.get(timeout=PATIENCE), queued.report().key) == (Status.UNSAFE, "k")
    with pytest.raises(ValueError, match=r"keyhole\.wait"):
        batch.get()


@pytest.mark.usefixtures("configured")
def test_a_job_is_ready_as_soon_as_its_verdict_was_returned(store: RedisStore) -> None:
    """A worker completes the job in the ledger only after it has written the tags."""
    queued = tasks.scan.delay("s3://b/k")
    arrivals: list[Report] = []
    waiting = threading.Thread(target=lambda: arrivals.append(queued.report(PATIENCE)))
    waiting.start()
    keys = (f"{number}" for number in count())
    while waiting.is_alive():
        # The wait sees only later verdicts, and Redis keeps one verdict of an object and a job.
        write(store, next(keys), Status.UNSAFE, job=queued.id)
        waiting.join(0.1)

    assert [report.status for report in arrivals] == [Status.UNSAFE]
    assert queued.ready()


#: What a `QueuedScan` can do. Everything else in Celery's class raises one error.
WORKING = {
    *("app", "as_list", "as_tuple", "backend", "id", "ignored", "parent", "supports_native_join", "task_id"),
    *("get", "ready", "wait", "TimeoutError"),
}


@pytest.mark.usefixtures("configured")
def test_what_celery_would_need_a_result_for_says_where_to_look() -> None:
    queued = tasks.scan.delay("s3://b/k")
    names = {name for name in dir(AsyncResult) if not name.startswith("_")}

    assert names >= WORKING
    assert all(hasattr(queued, name) for name in WORKING)
    for name in sorted(names - WORKING):
        with pytest.raises(NotImplementedError, match=r"keyhole show|accept no commands"):
            getattr(queued, name)()  # an attribute raises before the call


@pytest.mark.usefixtures("configured")
def test_a_queued_job_can_be_copied_and_pickled() -> None:
    queued = tasks.scan.delay("s3://b/k")

    assert copy.copy(queued).entry == pickle.loads(pickle.dumps(queued)).entry == queued.entry  # noqa: S301 - our own data


@pytest.mark.usefixtures("configured")
def test_a_bucket_cannot_be_queued(valkey: redis.Redis) -> None:
    line = "'s3://bucket/' names a bucket, not an object; write s3://bucket/key"

    for publish in (tasks.scan.delay, lambda uri: tasks.scan_batch.delay(["s3://b/k", uri])):
        with pytest.raises(ValueError, match=f"^{line}$"):
            publish("s3://bucket/")
    assert valkey.dbsize() == 0


@pytest.mark.usefixtures("configured", "valkey")
@pytest.mark.parametrize("task", [tasks.scan, tasks.scan_batch], ids=["scan", "scan_batch"])
def test_the_example_of_a_task_runs(task: Any) -> None:
    (example,) = doctest.DocTestFinder().find(type(task._get_current_object()).delay, "delay", globs={})

    outcome = doctest.DocTestRunner().run(example)

    assert (outcome.failed, outcome.attempted) == (0, 3)
    assert "Args:" in task.delay.__doc__


def test_verdicts_since_a_time_or_an_age_are_found(store: RedisStore, settings: Settings) -> None:
    for number in range(3):
        write(store, f"{number}", Status.SAFE, at=number)
    second = datetime(2026, 5, 1, 0, 0, 1, tzinfo=UTC)

    def keys(since: datetime | str) -> list[str | None]:
        return [report.key for report in verdicts(since=since, settings=settings)]

    assert keys(second) == keys(second.replace(tzinfo=None)) == keys("2026-05-01T00:00:01") == ["2", "1"]
    assert keys("52000w") == ["2", "1", "0"]
    with pytest.raises(ValueError, match="write the time as 90m, 24h"):
        verdicts(since="yesterday", settings=settings)


@pytest.mark.usefixtures("configured")
def test_arguments_of_a_task_are_known_by_their_names_and_none_is_dropped() -> None:
    queued = tasks.scan.apply_async(kwargs={"version_id": "v", "uri": "s3://b/k"})

    (job,) = queued.entry.jobs
    assert (job.bucket, job.key, job.version_id) == ("b", "k", "v")
    for wrong, kind, message in (
        (lambda: tasks.scan.apply_async(("s3://b/k", "v", "more")), TypeError, "too many positional"),
        (lambda: tasks.scan.apply_async(("s3://b/k",), {"versoin_id": "v"}), TypeError, "versoin_id"),
        (lambda: tasks.scan.delay(job, "v"), ValueError, "a ScanJob names its version itself"),
        (lambda: tasks.scan_batch.delay("s3://b/k"), TypeError, "str is one object; pass a list"),
    ):
        with pytest.raises(kind, match=message):
            wrong()
