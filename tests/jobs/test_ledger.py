"""The ledger: accepted jobs can be found until their verdicts are stored."""

from datetime import UTC, datetime, timedelta

import pytest
import redis

from keyhole.jobs import queues
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.leases import Holder
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.work_status import WorkStatus
from keyhole.store import keys

JOBS = (
    ScanJob(id="job-1", bucket="images", key="a.qcow2"),
    ScanJob(id="job-2", bucket="images", key="ü b.vmdk", version_id="v1", sequencer="0A"),
)
BATCH = Entry("batch", JOBS)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    """A ledger that stores markers for an hour."""
    return Ledger(valkey, done_seconds=3600)


def age(valkey: redis.Redis, entry_id: str, seconds: float) -> None:
    """Move an entry's last activity back by this much."""
    valkey.zincrby(keys.ledger_open(queues.JOBS), -seconds, entry_id)


class TestNoting:
    def test_a_noted_entry_is_pending_with_its_jobs(self, ledger: Ledger) -> None:
        """The ledger stores everything that is needed to send the entry again."""
        assert ledger.record(BATCH)

        (pending,) = ledger.idle(queues.JOBS, 10)

        assert pending.entry == BATCH
        assert abs(pending.last_active_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert ledger.count() == 1

    def test_noting_again_changes_nothing(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """The jobs and the time since which the entry waits stay the same."""
        ledger.record(BATCH)
        age(valkey, "batch", 100)

        assert ledger.record(Entry("batch", JOBS[:1]))

        (pending,) = ledger.idle(queues.JOBS, 10)
        assert pending.entry.jobs == JOBS
        assert (WorkStatus(valkey).longest_idle() or 0) >= 100

    def test_recording_a_complete_entry_does_not_open_it(self, ledger: Ledger) -> None:
        """The same event came twice, the second time after its verdict."""
        ledger.record(BATCH)
        ledger.complete(BATCH)

        assert not ledger.record(BATCH)

        assert ledger.count() == 0
        assert ledger.idle(queues.JOBS, 10) == []

    def test_many_are_noted_at_once_but_for_those_done(self, ledger: Ledger) -> None:
        """The call returns the entries that must be sent."""
        entries = [Entry(str(number), JOBS) for number in range(5)]
        ledger.record(Entry("3", JOBS))
        ledger.complete(Entry("3", JOBS))

        assert ledger.record_many(entries) == [entries[0], entries[1], entries[2], entries[4]]
        assert ledger.count() == 4

    def test_none_are_noted_without_a_word_to_redis(self) -> None:
        """Even an empty pipeline would request a connection."""
        unreachable = redis.Redis.from_url("redis://nowhere.invalid:1")

        assert Ledger(unreachable, done_seconds=1).record_many([]) == []


class TestStriking:
    def test_a_complete_entry_is_done(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """The marker stays as long as the message can be delivered again. Then nothing is left."""
        ledger.record(BATCH)
        assert not ledger.is_done("batch")

        ledger.complete(BATCH)
        ledger.complete(BATCH)

        assert ledger.is_done("batch")
        assert ledger.count() == 0
        assert {key.decode() for key in valkey.scan_iter()} == {keys.entry_done("batch"), keys.LEDGER_CLOCK}
        assert 3500 < valkey.ttl(keys.entry_done("batch")) <= 3600

    def test_an_entry_that_was_never_recorded_can_be_completed(self, ledger: Ledger) -> None:
        """The ledger was emptied after the message was sent."""
        ledger.complete(BATCH)

        assert ledger.is_done("batch")

    def test_those_done_are_told_from_many(self, ledger: Ledger) -> None:
        """There are more entries than fit into one command."""
        for number in range(0, 2500, 500):
            ledger.complete(Entry(str(number), JOBS))

        done = ledger.done_among([str(number) for number in range(2400)])

        assert done == {"0", "500", "1000", "1500", "2000"}

    def test_an_entry_that_cannot_be_read_can_be_completed(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """The entry's jobs are unknown, so their attempts expire instead of being deleted."""
        ledger.record(BATCH)
        valkey.hset(keys.LEDGER_ENTRIES, "batch", "hello")

        ledger.complete(BATCH)

        assert ledger.count() == 0


class TestJobs:
    def test_completing_deletes_the_attempts(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """The attempts of all jobs of the entry are deleted."""
        ledger.record(BATCH)
        for job in JOBS:
            ledger.attempts.start(job.id, "w1", bool)

        ledger.complete(BATCH)

        assert not any(valkey.exists(keys.attempts(job.id)) for job in JOBS)

    def test_a_job_of_an_open_batch_can_be_done(self, ledger: Ledger) -> None:
        """When the batch is delivered again, the worker continues with the other jobs."""
        ledger.record(BATCH)

        ledger.mark_done("job-1")

        assert ledger.job_done("job-1")
        assert not ledger.job_done("job-2")
        assert ledger.jobs_done(BATCH) == {"job-1"}
        assert not ledger.is_done("batch")

    def test_a_job_may_have_the_id_of_its_entry(self, ledger: Ledger) -> None:
        """The only job of a message has the message's id.

        If both had the same marker, the entry would never be completed.
        """
        ledger.record(Entry("job-1", JOBS[:1]))

        ledger.mark_done("job-1")

        assert not ledger.is_done("job-1")
        assert ledger.count() == 1


class TestSendingAgain:
    def test_it_is_counted_and_is_activity(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.record(BATCH)
        age(valkey, "batch", 100)

        assert [ledger.count_resend(BATCH), ledger.count_resend(BATCH)] == [1, 2]
        assert ledger.idle(queues.JOBS, 10, seconds=60) == []

    def test_only_times_without_progress_are_counted(self, ledger: Ledger) -> None:
        """If a worker is lost at every tenth object, a batch of a hundred objects still makes progress."""
        ledger.record(BATCH)
        assert [ledger.count_resend(BATCH), ledger.count_resend(BATCH)] == [1, 2]
        assert not ledger.made_progress(BATCH)

        ledger.mark_done("job-1")

        assert ledger.made_progress(BATCH)
        assert [ledger.count_resend(BATCH), ledger.count_resend(BATCH)] == [1, 2]
        assert not ledger.made_progress(BATCH)

    def test_a_discarded_entry_is_neither_open_nor_done(self, ledger: Ledger) -> None:
        """A user can record it again."""
        ledger.record(BATCH)
        ledger.count_resend(BATCH)

        ledger.discard(BATCH)

        assert ledger.count() == 0
        assert not ledger.is_done("batch")
        assert ledger.record(BATCH)
        assert ledger.count_resend(BATCH) == 1

    def test_what_was_published_is_remembered_for_a_while(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.mark_published(["1", "3"], 60)

        assert ledger.published_among(["1", "2", "3"]) == {"1", "3"}
        assert 50 < valkey.ttl(keys.entry_published("1")) <= 60

    def test_an_entry_keeps_its_queue_and_its_audit(self, ledger: Ledger) -> None:
        entry = Entry("batch", JOBS, queues.AUDITS, audit="a1")
        ledger.record(entry)

        assert [pending.entry for pending in ledger.idle(queues.AUDITS, 10)] == [entry]


class TestSilence:
    def test_the_longest_idle_comes_first(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """A sweep takes a limited number of entries, and no entry that was idle only for a short time."""
        for entry_id, seconds in ("new", 0), ("older", 100), ("oldest", 200), ("old", 50):
            ledger.record(Entry(entry_id, JOBS))
            age(valkey, entry_id, seconds)

        def ids(limit: int, seconds: float) -> list[str]:
            return [pending.entry.id for pending in ledger.idle(queues.JOBS, limit, seconds=seconds)]

        assert ids(10, 60) == ["oldest", "older"]
        assert ids(1, 60) == ["oldest"]
        assert ids(10, 0) == ["oldest", "older", "old", "new"]
        assert 200 <= (WorkStatus(valkey).longest_idle() or 0) < 260

    def test_a_heartbeat_makes_it_the_youngest(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """The next sweep does not send it again."""
        ledger.record(BATCH)
        age(valkey, "batch", 100)

        ledger.leases.renew(queues.JOBS, ["batch"])

        assert ledger.idle(queues.JOBS, 10, seconds=60) == []
        assert ledger.count() == 1

    def test_a_heartbeat_does_not_open_a_complete_entry(self, ledger: Ledger) -> None:
        """The heartbeat came late."""
        ledger.complete(BATCH)

        ledger.leases.renew(queues.JOBS, ["batch"])

        assert ledger.count() == 0

    def test_an_empty_ledger_has_no_oldest(self, ledger: Ledger, valkey: redis.Redis) -> None:
        assert WorkStatus(valkey).longest_idle() is None
        assert ledger.idle(queues.JOBS, 10) == []

    @pytest.mark.parametrize("text", [b"hello", b"\xff", b"[1]", b'{"id": "1", "jobs": [], "new": 1}'])
    def test_an_entry_that_cannot_be_read_hides_no_other(
        self, ledger: Ledger, valkey: redis.Redis, caplog: pytest.LogCaptureFixture, text: bytes
    ) -> None:
        """A later version of Keyhole wrote the entry. It is logged and left to that version."""
        ledger.record(Entry("foreign", JOBS))
        valkey.hset(keys.LEDGER_ENTRIES, "foreign", text)
        ledger.record(BATCH)

        assert [pending.entry.id for pending in ledger.idle(queues.JOBS, 10)] == ["batch"]
        assert ledger.count() == 2
        assert "foreign" in caplog.text


class TestPassedOver:
    """Entries that a broker lost. Later entries that have begun show that they are lost."""

    def record(self, ledger: Ledger, valkey: redis.Redis, entry_id: str, seconds_ago: float) -> Entry:
        """An entry that was recorded, and last active, this many seconds ago."""
        entry = Entry(entry_id, JOBS)
        ledger.record(entry)
        age(valkey, entry_id, seconds_ago)
        recorded, _, text = (valkey.hget(keys.LEDGER_ENTRIES, entry_id) or b"").partition(b" ")
        valkey.hset(keys.LEDGER_ENTRIES, entry_id, b"%f %s" % (float(recorded) - seconds_ago, text))
        return entry

    def ids(self, ledger: Ledger) -> list[str]:
        return [found.entry.id for found in ledger.overtaken(queues.JOBS, 10, seconds=60)]

    def test_an_entry_is_overtaken_when_one_recorded_later_has_begun(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        self.record(ledger, valkey, "lost", 500)
        later = self.record(ledger, valkey, "later", 400)
        self.record(ledger, valkey, "waiting", 300)
        assert self.ids(ledger) == []

        ledger.leases.acquire(later, "w1")

        assert self.ids(ledger) == ["lost"]

    def test_what_was_noted_at_about_the_same_time_may_still_come(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        """Several consumers take entries at the same time, so their order can change."""
        self.record(ledger, valkey, "slow", 405)
        ledger.leases.acquire(self.record(ledger, valkey, "quick", 400), "w1")

        assert self.ids(ledger) == []

    def test_what_is_delivered_again_says_nothing_of_what_waits(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        """A redelivered entry was recorded early, but its last activity is recent."""
        early = self.record(ledger, valkey, "early", 500)
        self.record(ledger, valkey, "waiting", 300)
        ledger.leases.acquire(early, "w1")
        ledger.leases.acquire(early, "w1")

        assert self.ids(ledger) == []

    def test_an_entry_with_a_heartbeat_is_not_overtaken(self, ledger: Ledger, valkey: redis.Redis) -> None:
        self.record(ledger, valkey, "lost", 500)
        ledger.leases.acquire(self.record(ledger, valkey, "later", 400), "w1")

        ledger.leases.renew(queues.JOBS, ["lost"])

        assert self.ids(ledger) == []

    def test_each_queue_has_an_order_of_its_own(self, ledger: Ledger, valkey: redis.Redis) -> None:
        self.record(ledger, valkey, "waiting", 500)
        other = Entry("other", JOBS, queues.AUDITS)
        ledger.record(other)

        ledger.leases.acquire(other, "w1")

        assert self.ids(ledger) == []

    def test_beginning_what_is_not_in_the_ledger_changes_nothing(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        ledger.leases.acquire(BATCH, "w1")

        assert ledger.count() == 0
        assert WorkStatus(valkey).longest_idle() is None


class TestHolding:
    """Which worker works on an entry, and whether it still does."""

    def age_lease(self, valkey: redis.Redis, seconds: float) -> None:
        valkey.zincrby(keys.ledger_held(queues.JOBS), -seconds, "batch")

    def test_who_begins_holds_it_until_they_let_go(self, ledger: Ledger) -> None:
        ledger.record(BATCH)

        assert ledger.leases.acquire(BATCH, "w1") is None
        assert ledger.leases.holder("batch") == "w1"
        ledger.leases.release(BATCH, "w1")

        assert ledger.leases.holder("batch") is None
        assert ledger.leases.acquire(BATCH, "w2") is None

    def test_who_begins_after_a_lost_one_learns_of_it(self, ledger: Ledger) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")

        assert ledger.leases.acquire(BATCH, "w2", force=True) == Holder("w1", beats=False)

    def test_from_one_that_beats_it_must_be_taken(self, ledger: Ledger) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")

        assert ledger.leases.acquire(BATCH, "w2") == Holder("w1", beats=True)
        assert ledger.leases.holder("batch") == "w1"

    def test_a_late_one_does_not_let_go_of_what_another_holds(self, ledger: Ledger) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        ledger.leases.acquire(BATCH, "w2", force=True)

        ledger.leases.release(BATCH, "w1", postponed=10)

        assert ledger.leases.holder("batch") == "w2"
        assert ledger.count_postponed() == 0

    def test_an_expired_lease_is_reclaimed(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        self.age_lease(valkey, 20)
        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=30) == []

        self.age_lease(valkey, 20)

        assert [found.entry for found in ledger.leases.reclaim(queues.JOBS, 10, seconds=30)] == [BATCH]
        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=0) == []
        assert ledger.leases.acquire(BATCH, "w2") == Holder("w1", beats=False)

    def test_not_from_who_beats(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        self.age_lease(valkey, 40)

        ledger.leases.renew(queues.JOBS, ["batch"])

        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=30) == []

    def test_a_complete_entry_has_no_holder(self, ledger: Ledger) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")

        ledger.complete(BATCH)

        assert ledger.leases.holder("batch") is None
        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=0) == []


class TestPostponing:
    """An undecided entry is due later. Redis stores the delay, not a worker's memory."""

    def test_it_is_due_after_the_delay_and_not_before(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")

        ledger.leases.release(BATCH, "w1", postponed=20)

        assert ledger.pop_due(10) == []
        assert ledger.idle(queues.JOBS, 10) == []
        assert (ledger.count(), ledger.count_postponed()) == (1, 1)
        valkey.zincrby(keys.LEDGER_LATER, -20, "batch")
        assert ledger.pop_due(10) == [BATCH]
        assert [found.entry for found in ledger.idle(queues.JOBS, 10)] == [BATCH]
        assert ledger.pop_due(10) == []

    def test_what_is_begun_before_it_is_due_is_postponed_no_longer(self, ledger: Ledger) -> None:
        """The entry was submitted again."""
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        ledger.leases.release(BATCH, "w1", postponed=0)

        ledger.leases.acquire(BATCH, "w2")

        assert ledger.pop_due(10) == []

    @pytest.mark.parametrize("end", ["complete", "discard"])
    def test_a_complete_or_discarded_entry_is_never_due(self, ledger: Ledger, end: str) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        ledger.leases.release(BATCH, "w1", postponed=0)

        getattr(ledger, end)(BATCH)

        assert ledger.pop_due(10) == []
        assert ledger.count() == 0


class TestSplitting:
    """A job that might have killed a worker continues in its own entry."""

    def test_the_parts_are_sent_in_its_place_until_all_is_done(self, ledger: Ledger) -> None:
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        parts = [Entry(f"batch/{job.id}", (job,), part_of="batch") for job in JOBS]

        assert ledger.split(BATCH, parts) == parts

        assert [found.entry for found in ledger.idle(queues.JOBS, 10)] == parts
        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=0) == []
        assert ledger.get("batch") == BATCH
        assert ledger.count() == 3
        assert ledger.is_done_or_split("batch")
        assert not ledger.is_done("batch")

    def test_a_part_that_is_split_is_done(self, ledger: Ledger) -> None:
        others = Entry("batch/others", JOBS, part_of="batch")
        ledger.record(BATCH)
        ledger.split(BATCH, [others])

        ledger.split(others, [Entry("batch/job-1", JOBS[:1], part_of="batch")])

        assert ledger.is_done("batch/others")
        assert ledger.count() == 2

    def test_a_part_that_is_complete_leaves_its_jobs_marker_for_the_whole(self, ledger: Ledger) -> None:
        part = Entry("batch/job-1", JOBS[:1], part_of="batch")
        ledger.record(BATCH)
        ledger.split(BATCH, [part])
        ledger.mark_done("job-1")

        ledger.complete(part)

        assert ledger.jobs_done(BATCH) == {"job-1"}
        assert ledger.split(BATCH, [part]) == []


class TestTheClock:
    """The ledger's clock follows the server's clock, but neither goes back nor jumps."""

    def set_back(self, valkey: redis.Redis, seconds: float) -> None:
        """Simulate a server clock that was set back by this much since the last reading."""
        valkey.hincrbyfloat(keys.LEDGER_CLOCK, "server", seconds)

    def test_a_server_whose_clock_is_set_back_buries_nothing(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        ledger.record(Entry("early", JOBS))
        self.set_back(valkey, 3600)

        ledger.record(BATCH)

        found = ledger.idle(queues.JOBS, 10)
        assert {pending.entry.id for pending in found} == {"early", "batch"}
        assert (WorkStatus(valkey).longest_idle() or 0) < 60

    def test_a_server_whose_clock_is_set_forward_takes_nothing_back(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        """A server that was frozen for an hour has the same effect."""
        ledger.record(BATCH)
        ledger.leases.acquire(BATCH, "w1")
        self.set_back(valkey, -3600)

        assert ledger.leases.reclaim(queues.JOBS, 10, seconds=30) == []
        assert ledger.idle(queues.JOBS, 10, seconds=30) == []

    def test_a_sweep_is_due_by_the_ledger_s_clock(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """A server's clock that is set back does not delay a sweep. A key's expiry would delay it."""
        assert ledger.claim_sweep(6)
        assert not ledger.claim_sweep(6)
        self.set_back(valkey, 3600)
        assert not ledger.claim_sweep(6)

        self.set_back(valkey, -8)

        assert ledger.claim_sweep(6)
        assert valkey.ttl(keys.SWEEP) == -1
