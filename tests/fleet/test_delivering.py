"""Events reach their sinks at least once, whatever happens, and hold no verdict up."""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from keyhole.fleet import delivering
from keyhole.fleet.delivering import Deliverer, open_sinks
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.intake.dead_letters import LetterKind
from keyhole.jobs.debts import LOST_SECONDS
from keyhole.jobs.deliveries import LONGEST_DELAY, Deliveries
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.metrics.recorder import Outcome, Recorder, recorder, use_recorder
from keyhole.reasons import Status
from keyhole.results.sinks.delivery import DeliveryError
from keyhole.results.sinks.event import Event
from keyhole.scan.report import Report
from keyhole.settings import Settings
from tests.e2e.commands import PATIENCE
from tests.jobs.clock import pass_seconds
from tests.results.sinks.reports import EVENT, report
from tests.servers.webhook_server import WebhookServer, status, webhook_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JOB = ScanJob(id="job", bucket="images", key="a.qcow2")


@pytest.fixture(scope="module")
def _server() -> Iterator[WebhookServer]:
    with webhook_server() as server:
        yield server


@pytest.fixture
def server(_server: WebhookServer) -> WebhookServer:
    _server.received.clear()
    _server.answers.clear()
    return _server


class Site:
    """A worker whose verdicts go to Redis and to a webhook."""

    def __init__(self, valkey: redis.Redis, valkey_url: str, url: str, **settings: Any) -> None:
        self.valkey = valkey
        given = {
            "redis_url": valkey_url,
            "sinks": ("redis", "webhook"),
            "webhook_url": url,
            "webhook_secret": SECRET,
            "webhook_private": True,
            **settings,
        }
        self.services = Services(Settings.model_validate(given), os.getpid())
        self.scans = ScanWork(self.services)
        self.deliveries = Deliveries(self.services.redis, "webhook")
        self.work = Deliverer(self.services).work("webhook", open_sinks(self.services.settings)["webhook"])

    def record(self, verdict: Report, job: ScanJob = JOB) -> None:
        """Record a verdict."""
        self.scans.record(Entry(job.id, (job,)), job, verdict)

    def send(self, after: float = 0) -> list[str]:
        """Let some seconds pass, and let a worker process send what is due then."""
        if after:
            pass_seconds(self.valkey, after)
        return list(self.work.send_due())


class Counting(Recorder):
    """Counts deliveries."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def delivered(self, sink: str, outcome: Outcome) -> None:
        self.outcomes[sink, outcome] += 1


@pytest.fixture(autouse=True)
def counted() -> Iterator[Counting]:
    """The recorder of the metrics during the test."""
    before, counting = recorder(), Counting()
    use_recorder(counting)
    yield counting
    use_recorder(before)


@pytest.fixture
def site(valkey: redis.Redis, valkey_url: str, server: WebhookServer) -> Site:
    return Site(valkey, valkey_url, server.url)


def test_a_verdict_is_sent_once_and_leaves_nothing(
    site: Site, server: WebhookServer, counted: Counting
) -> None:
    site.record(report())
    before = set(site.valkey.keys("*sink*"))

    assert site.send() == ["delivered"]
    assert site.send(after=1000) == []
    (request,) = server.received
    assert json.loads(request.body)["data"]["status"] == "unsafe"
    assert counted.outcomes == {("webhook", "delivered"): 1}
    assert len(before) == 2
    assert set(site.valkey.keys("*sink*")) == set()


@pytest.mark.parametrize("status", Status)
def test_by_default_every_status_but_safe_is_sent(site: Site, status: Status) -> None:
    site.record(report(status=status))

    assert site.deliveries.count() == (status is not Status.SAFE)


def test_the_statuses_can_be_chosen(valkey: redis.Redis, valkey_url: str, server: WebhookServer) -> None:
    site = Site(valkey, valkey_url, server.url, notify_statuses="safe,damaged")
    for number, kind in enumerate((Status.SAFE, Status.UNSAFE, Status.DAMAGED)):
        site.record(
            report(status=kind, key=f"{number}"), ScanJob(id=f"{number}", bucket="images", key=f"{number}")
        )

    site.send()

    statuses = {json.loads(request.body)["data"]["status"] for request in server.received}
    assert statuses == {"safe", "damaged"}


@pytest.mark.parametrize("sinks", [("webhook",), ("redis", "webhook")])
def test_it_needs_no_other_sink(
    valkey: redis.Redis, valkey_url: str, server: WebhookServer, sinks: tuple[str, ...]
) -> None:
    site = Site(valkey, valkey_url, server.url, sinks=sinks)

    site.record(report())

    assert site.send() == ["delivered"]
    assert (site.services.store.get("images", "a.qcow2") is not None) == ("redis" in sinks)


def test_a_verdict_that_redis_refuses_is_not_sent(site: Site, server: WebhookServer) -> None:
    """A newer verdict is recorded, and its event is sent."""
    newer = report(scanned_at=report().scanned_at.replace(hour=13), status=Status.SAFE)
    site.record(newer, ScanJob(id="newer", bucket="images", key="a.qcow2"))

    site.record(report())

    assert site.send() == []
    assert server.received == []


def test_a_redelivered_job_sends_no_second_event(site: Site, server: WebhookServer) -> None:
    site.record(report())
    site.send()

    site.record(report(scanned_at=report().scanned_at.replace(hour=13)))

    assert site.send() == []
    assert len(server.received) == 1


def test_after_a_failure_it_is_sent_again_with_the_same_id_and_the_same_bytes(
    site: Site, server: WebhookServer, counted: Counting
) -> None:
    server.answers += [status(500), status(429, retry_after="30")]
    site.record(report())

    assert site.send() == ["failed"]
    assert site.send(after=7) == ["failed"]
    assert site.send(after=20) == []
    assert site.send(after=10) == ["delivered"]
    assert len({request.body for request in server.received}) == 1
    assert len({request.headers["webhook-id"] for request in server.received}) == 1
    assert counted.outcomes == {("webhook", "failed"): 2, ("webhook", "delivered"): 1}


def test_the_delay_grows_to_ten_minutes(site: Site, server: WebhookServer) -> None:
    server.answers += [status(500)] * 12
    site.record(report())
    for _ in range(12):
        site.send(after=LONGEST_DELAY * 1.25)

    (owed,) = site.deliveries.owed_by_id([Event.of(report(), job_id="job").id])

    assert owed is not None
    assert owed.times == 12
    assert owed.history.reasons == {"http_500": 12}
    assert site.send(after=LONGEST_DELAY * 0.74) == []
    assert site.send(after=LONGEST_DELAY * 0.52) == ["delivered"]


def test_what_the_receiver_refuses_for_good_becomes_a_dead_letter_at_once(
    site: Site, server: WebhookServer, counted: Counting
) -> None:
    server.answers.append(status(401, b"unknown secret"))
    site.record(report())

    assert site.send() == ["dead"]
    (letter,) = site.services.dead_letters.letters()
    assert (letter.kind, letter.source) == (LetterKind.EVENT, "webhook")
    assert "unknown secret" in letter.reason
    assert counted.outcomes == {("webhook", "dead"): 1}
    assert set(site.valkey.keys("*sink*")) == set()


def test_so_does_what_could_not_be_sent_for_too_long(
    valkey: redis.Redis, valkey_url: str, server: WebhookServer
) -> None:
    site = Site(valkey, valkey_url, server.url, undecided_seconds=60)
    server.answers += [status(503)] * 10
    site.record(report())
    assert site.send() == ["failed"]

    assert site.send(after=90) == ["dead"]
    (letter,) = site.services.dead_letters.letters(LetterKind.EVENT)
    whole = site.services.dead_letters.get(letter.id)
    assert whole is not None
    assert whole.body == Event.of(report(), job_id="job").body
    assert "http_503" in letter.reason


class TestAWorkerThatIsKilled:
    def test_between_the_verdict_and_the_delivery(self, site: Site, server: WebhookServer) -> None:
        """The verdict's script has recorded the event, so another worker finds it."""
        site.record(report())

        assert site.send() == ["delivered"]
        assert len(server.received) == 1

    def test_after_it_took_the_event(self, site: Site) -> None:
        site.record(report())
        site.deliveries.take_due(10)

        assert site.send() == []
        assert site.send(after=121) == ["delivered"]

    def test_after_the_receiver_got_the_event(self, site: Site, server: WebhookServer) -> None:
        """It is sent a second time, with the same id, and not a third time."""
        site.record(report())
        (event_id,) = site.deliveries.take_due(10)
        hold = site.deliveries.hold_recorded(event_id)
        assert hold is not None
        site.work.sink.send(hold.debt)

        assert site.send(after=LOST_SECONDS - 20) == []
        assert site.send(after=20) == ["delivered"]
        assert site.send(after=1000) == []
        assert len({request.headers["webhook-id"] for request in server.received}) == 1
        assert len(server.received) == 2


def test_an_event_of_a_later_version_does_not_stop_the_others(site: Site, server: WebhookServer) -> None:
    site.record(report())
    site.deliveries.record(Event("future", b"{}"))

    outcomes = site.send()

    assert sorted(outcomes) == ["delivered", "failed"]
    assert len(server.received) == 1


def test_a_bug_in_a_sink_is_a_failed_attempt(site: Site) -> None:
    class Broken:
        def send(self, _: Event) -> None:
            raise ZeroDivisionError("oops")

        def check(self) -> str:
            raise DeliveryError("broken", "it is broken")

    site.record(report())

    outcomes = Deliverer(site.services).work("webhook", Broken()).send_due()

    assert outcomes == ["failed"]
    (owed,) = site.deliveries.owed_by_id([Event.of(report(), job_id="job").id])
    assert owed is not None
    assert "ZeroDivisionError: oops" in owed.history.error


def test_a_sink_that_hangs_delays_neither_a_verdict_nor_another_sink(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    delivered = threading.Event()

    class Hanging:
        def send(self, _: Event) -> None:
            release.wait(PATIENCE)

        def check(self) -> str:
            return ""

    class Quick(Hanging):
        def send(self, _: Event) -> None:
            delivered.set()

    monkeypatch.setattr(delivering, "open_sinks", lambda _: {"webhook": Hanging(), "sns": Quick()})
    monkeypatch.setattr(delivering, "LAST_SECONDS", 5.0)
    before = threading.active_count()
    deliverer = Deliverer(site.services)
    for number in range(50):
        Deliveries(site.services.redis, "webhook").record(Event.of(report(key=f"{number}"), job_id="job"))
    deliverer.start()

    Deliveries(site.services.redis, "sns").record(EVENT)
    site.record(report())

    assert delivered.wait(PATIENCE)
    assert site.services.store.get("images", "a.qcow2") is not None
    assert threading.active_count() - before <= 2 * (1 + delivering.THREADS)
    release.set()
    deliverer.stop()


def test_what_is_due_when_a_process_ends_is_still_sent(site: Site, server: WebhookServer) -> None:
    deliverer = Deliverer(site.services)
    deliverer.start()
    site.record(report())

    deliverer.stop()

    assert len(server.received) == 1


def test_the_threads_survive_a_redis_that_does_not_answer(
    site: Site, server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [redis.ConnectionError("gone")] * 2
    real = Deliveries.take_due

    def take_due(self: Deliveries, limit: int) -> list[str]:
        if failures:
            raise failures.pop()
        return real(self, limit)

    monkeypatch.setattr(Deliveries, "take_due", take_due)
    monkeypatch.setattr(delivering, "PAUSE_SECONDS", 0.01)
    deliverer = Deliverer(site.services)
    site.record(report())

    deliverer.start()
    server.wait_for(1)
    deliverer.stop()

    assert failures == []
