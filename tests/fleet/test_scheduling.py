"""The scheduler publishes the right messages at the right times, with beat and RedBeat on a real Valkey."""

import logging
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from redbeat.schedulers import get_redis

from keyhole.fleet import scheduling
from keyhole.intake.schedules import Schedule
from keyhole.jobs.queues import HOUSEKEEPING
from keyhole.store import keys
from keyhole.store.connection import connect
from keyhole.tasks import audit_due
from tests.e2e.commands import until
from tests.fleet.beat import QUEUE, Scheduling
from tests.ports import free_port
from tests.servers.cluster import valkey_cluster
from tests.servers.rabbitmq import RabbitMQ

NIGHTLY = Schedule(name="nightly", bucket="images", crontab="15 3 * * *")
OFTEN = Schedule(name="often", bucket="incoming", every="6h")
#: The prefixes of the keys that a scheduler writes.
OURS = (keys.BEAT_PREFIX, "keyhole:broker:")


@pytest.fixture
def beat(valkey: redis.Redis, valkey_url: str) -> Iterator[Scheduling]:
    scheduling = Scheduling(valkey, valkey_url)
    yield scheduling
    scheduling.close()


class TestWhatIsDue:
    def test_nothing_is_before_its_time(self, beat: Scheduling) -> None:
        """The first run of an interval is one interval after a scheduler has first read it."""
        beat.scheduler(NIGHTLY, OFTEN).tick()

        assert beat.messages() == []

    def test_it_is_told_of_once(self, beat: Scheduling) -> None:
        scheduler = beat.scheduler(NIGHTLY, OFTEN)
        beat.make_due("often")

        scheduler.tick()
        scheduler.tick()

        assert beat.due() == ["often"]

    def test_the_message_begins_the_audit_of_the_schedule(self, beat: Scheduling) -> None:
        scheduler = beat.scheduler(OFTEN)
        beat.make_due("often")

        scheduler.tick()

        (message,) = beat.messages()
        assert (message.task, message.name) == (audit_due.name, "often")
        assert message.spec == OFTEN.spec(rate=500, outstanding=8, batch_size=100)

    @pytest.mark.parametrize("schedule", [NIGHTLY, OFTEN], ids=lambda schedule: schedule.name)
    def test_the_message_expires_when_it_is_due_again(self, beat: Scheduling, schedule: Schedule) -> None:
        scheduler = beat.scheduler(schedule)
        beat.make_due(schedule.name)
        before = datetime.now(UTC)

        scheduler.tick()

        (message,) = beat.messages()
        again = schedule.when.next_after(before)
        assert timedelta(0) <= message.expires - again < timedelta(minutes=1)

    def test_what_was_missed_is_made_up_for_once(self, beat: Scheduling) -> None:
        beat.scheduler(NIGHTLY, OFTEN)
        for name in ("nightly", "often"):
            beat.make_due(name, timedelta(days=9))

        scheduler = beat.scheduler(NIGHTLY, OFTEN)
        scheduler.tick()
        scheduler.tick()

        assert sorted(beat.due()) == ["nightly", "often"]

    def test_nothing_but_the_schedules_is_told_of(self, beat: Scheduling) -> None:
        """Celery's own beat would also publish a task that cleans up results."""
        beat.scheduler(OFTEN)

        assert beat.client.zrange(f"{keys.BEAT_PREFIX}:schedule", 0, -1) == [
            keys.beat_entry("often").encode()
        ]

    def test_all_that_it_writes_is_keyholes(self, beat: Scheduling) -> None:
        scheduler = beat.scheduler(OFTEN)
        beat.make_due("often")
        scheduler.tick()

        written = {key.decode() for key in beat.client.scan_iter()}
        assert {key for key in written if not key.startswith(OURS)} == set()
        assert {keys.BEAT_LOCK, keys.BEAT_NAMES} <= written


class TestFiles:
    def test_what_is_no_longer_in_the_file_is_forgotten(self, beat: Scheduling) -> None:
        beat.scheduler(OFTEN, NIGHTLY)
        beat.make_due("often")

        renamed = OFTEN.model_copy(update={"name": "renamed"})
        beat.scheduler(renamed, NIGHTLY).tick()

        assert beat.due() == []
        assert not beat.client.exists(keys.beat_entry("often"))
        assert scheduling.known_names(beat.client) == {"renamed", "nightly"}

    def test_a_restart_does_not_put_off_what_is_to_come(self, beat: Scheduling) -> None:
        beat.scheduler(OFTEN)
        beat.make_due("often", timedelta(hours=5))
        entry = scheduling.beat_entry(beat.client, "often")

        beat.scheduler(OFTEN).tick()

        assert scheduling.beat_entry(beat.client, "often") == entry
        assert beat.due() == []

    @pytest.mark.parametrize(
        "changed", [{"crontab": "15 5 * * *"}, {"crontab": None, "every": "60s"}], ids=["crontab", "every"]
    )
    def test_another_time_counts_from_the_change(
        self, beat: Scheduling, changed: dict[str, str | None]
    ) -> None:
        beat.scheduler(NIGHTLY)
        beat.make_due("nightly")

        beat.scheduler(NIGHTLY.model_copy(update=changed)).tick()

        assert beat.due() == []

    def test_another_bucket_at_the_same_time_is_due_when_the_old_one_was(self, beat: Scheduling) -> None:
        beat.scheduler(NIGHTLY)
        beat.make_due("nightly")

        beat.scheduler(NIGHTLY.model_copy(update={"bucket": "other"})).tick()

        (message,) = beat.messages()
        assert message.spec.bucket == "other"

    def test_what_is_known_of_a_schedule_says_whether_it_comes_as_in_the_file(self, beat: Scheduling) -> None:
        before = datetime.now(UTC)
        beat.scheduler(NIGHTLY, OFTEN)

        for schedule in (NIGHTLY, OFTEN):
            entry = scheduling.beat_entry(beat.client, schedule.name)
            assert entry is not None
            assert before <= entry.due_before <= datetime.now(UTC)
            assert entry.comes(schedule)
            assert not entry.comes(schedule.model_copy(update={"crontab": "16 3 * * *"}))
        assert scheduling.beat_entry(beat.client, "never") is None


class TestOneDueTime:
    def test_has_one_id_whoever_tells_of_it(self, beat: Scheduling) -> None:
        one, other = beat.scheduler(OFTEN), beat.scheduler(OFTEN)
        beat.make_due("often")
        entries = [scheduler.schedule["often"] for scheduler in (one, other)]

        for scheduler, entry in zip((one, other), entries, strict=True):
            scheduler.apply_async(entry)

        first, second = beat.messages()
        assert first.id == second.id

    def test_has_another_id_than_the_next_and_than_another_schedules(self, beat: Scheduling) -> None:
        scheduler = beat.scheduler(OFTEN, NIGHTLY)
        for _ in range(2):
            for name in ("often", "nightly"):
                beat.make_due(name)
            scheduler.tick()

        assert len({message.id for message in beat.messages()}) == 4


class TestABrokerThatIsAway:
    def test_loses_no_due_time(self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scheduling, "PUBLISHING", {"max_retries": 0})
        beat.broker = f"redis://127.0.0.1:{free_port()}"
        beat.scheduler(OFTEN)
        beat.make_due("often")
        entry = scheduling.beat_entry(beat.client, "often")
        beat.scheduler(OFTEN).tick()
        assert scheduling.beat_entry(beat.client, "often") == entry

        beat.close()
        beat.broker = beat.url
        beat.scheduler(OFTEN).tick()

        assert beat.due() == ["often"]

    def test_is_one_warning_for_each_attempt(
        self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(scheduling, "PUBLISHING", {"max_retries": 0})
        beat.broker = f"amqp://127.0.0.1:{free_port()}"
        scheduler = beat.scheduler(OFTEN)
        beat.make_due("often")

        scheduler.tick()

        (warning,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert (warning.levelname, warning.exc_info) == ("WARNING", None)
        assert warning.getMessage() == (
            "the broker did not accept the due run of often, and the scheduler tries again: "
            "[Errno 111] Connection refused"
        )

    def test_is_named_until_a_run_is_published(
        self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        scheduler = beat.scheduler(OFTEN, on_look=said.append)
        beat.make_due("often")
        with monkeypatch.context() as away:
            away.setattr(scheduler, "send_task", _raise(OSError("the broker is away")))
            scheduler.tick()
        scheduler.tick()
        scheduler.tick()

        trouble = "the broker did not accept the due run of often, so its audit has not started; see the log"
        assert said == ["", trouble, ""]
        assert beat.due() == ["often"]

    def test_is_forgotten_with_the_lock(self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch) -> None:
        """The scheduler that then has the lock publishes the run."""
        said: list[str] = []
        scheduler = beat.scheduler(OFTEN, on_look=said.append)
        beat.make_due("often")
        monkeypatch.setattr(scheduler, "send_task", _raise(OSError("the broker is away")))
        scheduler.tick()
        beat.client.set(keys.BEAT_LOCK, "another's")

        for _ in range(3):
            scheduler.tick()

        assert (said[0], said[-1]) == ("", "")
        assert "often" in said[1]

    def test_holds_up_no_other_schedule(self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch) -> None:
        scheduler = beat.scheduler(OFTEN, NIGHTLY)
        for name in ("often", "nightly"):
            beat.make_due(name)
        send = scheduler.send_task

        def fail_for_one(task: str, args: list[Any], **options: Any) -> object:
            if args[0] == "often":
                raise OSError("the broker is away")
            return send(task, args, **options)

        monkeypatch.setattr(scheduler, "send_task", fail_for_one)
        scheduler.tick()

        assert beat.due() == ["nightly"]

    @pytest.mark.slow
    def test_a_connection_that_was_dropped_is_made_anew(self, beat: Scheduling, rabbitmq: RabbitMQ) -> None:
        """A broker drops a connection that is silent from one night to the next."""
        beat.broker = rabbitmq.url()
        scheduler = beat.scheduler(OFTEN)
        with rabbitmq.channel() as channel:

            def waiting() -> int:
                return int(channel.queue_declare(HOUSEKEEPING, passive=True).message_count)

            beat.make_due("often")
            scheduler.tick()
            until(lambda: waiting() == 1)
            with scheduler.app.pool.acquire() as connection:
                connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)

            beat.make_due("often")
            scheduler.tick()
            until(lambda: waiting() == 2)


class TestTheLock:
    def test_it_is_taken_and_held_and_given_back(self, beat: Scheduling) -> None:
        scheduler = beat.scheduler(OFTEN)
        assert not scheduling.is_at_work(beat.client)

        scheduler.tick()
        assert scheduling.is_at_work(beat.client)
        assert 20_000 < beat.client.pttl(keys.BEAT_LOCK) <= 30_000

        scheduler.close()
        assert not scheduling.is_at_work(beat.client)

    def test_one_that_lost_it_tells_of_nothing_and_waits_for_it(
        self, beat: Scheduling, caplog: pytest.LogCaptureFixture
    ) -> None:
        scheduler = beat.scheduler(OFTEN)
        scheduler.tick()
        beat.client.set(keys.BEAT_LOCK, "another's", px=300)
        beat.make_due("often")

        with caplog.at_level(logging.WARNING):
            assert scheduler.tick() == 0
        assert beat.due() == []
        assert "has lost the lock" in caplog.text

        assert scheduler.tick() == scheduling.LOOK_SECONDS
        assert beat.due() == []
        until(lambda: scheduler.tick() and beat.due())
        assert beat.client.get(keys.BEAT_LOCK) != b"another's"
        assert beat.due() == ["often"]

    def test_one_that_waits_for_it_is_alive(self, beat: Scheduling) -> None:
        beat.client.set(keys.BEAT_LOCK, "another's", ex=60)
        looks: list[str] = []
        scheduler = beat.scheduler(OFTEN, on_look=looks.append)

        assert scheduler.tick() == scheduling.LOOK_SECONDS

        assert looks == [""]

    def test_one_whose_lock_ran_out_takes_it_again(self, beat: Scheduling) -> None:
        """A lock expires during an outage of Redis, or while a laptop sleeps."""
        scheduler = beat.scheduler(OFTEN)
        scheduler.tick()
        beat.client.delete(keys.BEAT_LOCK)

        scheduler.tick()
        scheduler.tick()

        assert scheduling.is_at_work(beat.client)

    def test_a_redis_that_is_away_is_waited_for(
        self, beat: Scheduling, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        scheduler = beat.scheduler(OFTEN)
        scheduler.tick()
        beat.make_due("often")
        away: Callable[..., object] = _raise(redis.ConnectionError("away"))
        monkeypatch.setattr(scheduler.lock, "extend", away)

        with caplog.at_level(logging.WARNING):
            assert scheduler.tick() == scheduling.LOOK_SECONDS
        assert "Redis does not answer: away" in caplog.text
        assert beat.due() == []
        monkeypatch.undo()
        scheduler.tick()

        assert beat.due() == ["often"]

    def test_one_that_did_not_get_it_at_the_start_does_not_work_without(self, beat: Scheduling) -> None:
        holder = beat.scheduler(OFTEN)
        holder.tick()
        other = beat.scheduler(OFTEN)
        beat.make_due("often")
        beat.client.pexpire(keys.BEAT_LOCK, 300)

        until(lambda: other.tick() and beat.due())

        assert beat.due() == ["often"]
        assert holder.tick() == 0  # it notices that, and publishes nothing


def _raise(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:p%40ss@localhost:6379/1", "SlotConnection"),
        ("rediss://localhost:6379/1", "TlsSlotConnection"),
        ("unix:///run/valkey.sock?db=2", "UnixConnection"),
    ],
)
def test_every_url_that_verdicts_take_is_one_that_schedules_take(url: str, kind: str) -> None:
    app = Celery("keyhole-test", set_as_current=False)
    app.conf.update(scheduling.configuration(url, [], 30))

    pool = get_redis(app).connection_pool

    assert pool.connection_class.__name__ == kind
    assert pool.connection_kwargs["retry"]._retries == scheduling.RETRIES


@pytest.mark.slow
def test_a_schedule_in_a_cluster_is_told_of_by_another_broker(valkey: redis.Redis, valkey_url: str) -> None:
    """RedBeat's connections also lead to the node that has the keys."""
    with valkey_cluster() as cluster, connect(cluster.others[0].url) as client:
        beat = Scheduling(client, cluster.others[0].url)
        beat.broker = valkey_url
        scheduler = beat.scheduler(OFTEN)
        beat.make_due("often")

        scheduler.tick()

        assert valkey.llen(QUEUE) == 1
        assert client.exists(keys.BEAT_LOCK)
        beat.close()
