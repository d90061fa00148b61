"""The ledger: what was accepted stays findable until its verdicts stand."""

from datetime import UTC, datetime, timedelta

import pytest
import redis

from worker.jobs import queues
from worker.jobs.job import ScanJob
from worker.jobs.ledger import Entry, Ledger
from worker.results import keys

JOBS = (
    ScanJob(id="job-1", bucket="images", key="a.qcow2"),
    ScanJob(id="job-2", bucket="images", key="ü b.vmdk", version_id="v1", sequencer="0A"),
)
BATCH = Entry("batch", JOBS)


@pytest.fixture
def ledger(valkey: redis.Redis) -> Ledger:
    """A ledger that keeps markers for an hour."""
    return Ledger(valkey, done_seconds=3600)


def silence(valkey: redis.Redis, entry_id: str, seconds: float) -> None:
    """Make an entry's last sign of life older."""
    valkey.zincrby(keys.ledger_open(queues.JOBS), -seconds, entry_id)


class TestNoting:
    def test_a_noted_entry_is_pending_with_its_jobs(self, ledger: Ledger) -> None:
        """All that is needed to send it again."""
        assert ledger.note(BATCH)

        (pending,) = ledger.silent(queues.JOBS, 10)

        assert pending.entry == BATCH
        assert abs(pending.alive_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert ledger.count() == 1

    def test_noting_again_changes_nothing(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """Neither the jobs, nor how long the entry has waited."""
        ledger.note(BATCH)
        silence(valkey, "batch", 100)

        assert ledger.note(Entry("batch", JOBS[:1]))

        (pending,) = ledger.silent(queues.JOBS, 10)
        assert pending.entry.jobs == JOBS
        assert (ledger.oldest_age() or 0) >= 100

    def test_noting_after_striking_does_not_revive_it(self, ledger: Ledger) -> None:
        """An event that came twice, the second time after its verdict."""
        ledger.note(BATCH)
        ledger.strike(BATCH)

        assert not ledger.note(BATCH)

        assert ledger.count() == 0
        assert ledger.silent(queues.JOBS, 10) == []

    def test_many_are_noted_at_once_but_for_those_done(self, ledger: Ledger) -> None:
        """What comes back is what is worth sending."""
        entries = [Entry(str(number), JOBS) for number in range(5)]
        ledger.note(Entry("3", JOBS))
        ledger.strike(Entry("3", JOBS))

        assert ledger.note_many(entries) == [entries[0], entries[1], entries[2], entries[4]]
        assert ledger.count() == 4

    def test_none_are_noted_without_a_word_to_redis(self) -> None:
        """An empty pipeline would still ask for a connection."""
        unreachable = redis.Redis.from_url("redis://nowhere.invalid:1")

        assert Ledger(unreachable, done_seconds=1).note_many([]) == []


class TestStriking:
    def test_a_struck_entry_is_done(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """For as long as its message may be delivered again; then it leaves nothing."""
        ledger.note(BATCH)
        assert not ledger.is_done("batch")

        ledger.strike(BATCH)
        ledger.strike(BATCH)

        assert ledger.is_done("batch")
        assert ledger.count() == 0
        assert [key.decode() for key in valkey.scan_iter()] == [keys.entry_done("batch")]
        assert 3500 < valkey.ttl(keys.entry_done("batch")) <= 3600

    def test_an_entry_that_was_never_noted_can_be_struck(self, ledger: Ledger) -> None:
        """The ledger was emptied while its message was on the way."""
        ledger.strike(BATCH)

        assert ledger.is_done("batch")

    def test_those_done_are_told_from_many(self, ledger: Ledger) -> None:
        """More than one command takes."""
        for number in range(0, 2500, 500):
            ledger.strike(Entry(str(number), JOBS))

        done = ledger.done_among([str(number) for number in range(2400)])

        assert done == {"0", "500", "1000", "1500", "2000"}

    def test_an_entry_that_cannot_be_read_can_be_struck(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """Its jobs are unknown, so what was counted for them expires by itself."""
        ledger.note(BATCH)
        valkey.hset(keys.LEDGER_ENTRIES, "batch", "hello")

        ledger.strike(BATCH)

        assert ledger.count() == 0


class TestJobs:
    def test_starts_are_counted(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """A job that kills its worker is known by its count."""
        assert [ledger.attempt(BATCH, "job-1") for _ in range(3)] == [1, 2, 3]
        assert ledger.attempt(BATCH, "job-2") == 1
        assert 3500 < valkey.ttl(keys.attempts("job-1")) <= 3600

    def test_striking_forgets_the_counts(self, ledger: Ledger) -> None:
        """Of all jobs of the entry."""
        ledger.note(BATCH)
        for job in JOBS:
            ledger.attempt(BATCH, job.id)

        ledger.strike(BATCH)

        assert [ledger.attempt(BATCH, job.id) for job in JOBS] == [1, 1]

    def test_a_job_of_an_open_batch_can_be_done(self, ledger: Ledger) -> None:
        """A batch that is delivered again goes on where it stopped."""
        ledger.note(BATCH)

        ledger.mark_done("job-1")

        assert ledger.job_done("job-1")
        assert not ledger.job_done("job-2")
        assert ledger.jobs_done(BATCH) == {"job-1"}
        assert not ledger.is_done("batch")

    def test_a_job_may_have_the_id_of_its_entry(self, ledger: Ledger) -> None:
        """One job in a message: its mark is not the entry's, or nobody would strike it."""
        ledger.note(Entry("job-1", JOBS[:1]))

        ledger.mark_done("job-1")

        assert not ledger.is_done("job-1")
        assert ledger.count() == 1


class TestSendingAgain:
    def test_it_is_counted_and_is_a_sign_of_life(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.note(BATCH)
        silence(valkey, "batch", 100)

        assert [ledger.sent_again(BATCH), ledger.sent_again(BATCH)] == [1, 2]
        assert ledger.silent(queues.JOBS, 10, seconds=60) == []

    def test_the_start_of_a_job_is_a_sign_of_life(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.note(BATCH)
        silence(valkey, "batch", 100)

        ledger.attempt(BATCH, "job-1")

        assert ledger.silent(queues.JOBS, 10, seconds=60) == []

    def test_a_buried_entry_is_open_no_longer_and_not_done(self, ledger: Ledger) -> None:
        """It can be noted again, when somebody says so."""
        ledger.note(BATCH)
        ledger.sent_again(BATCH)

        ledger.bury(BATCH)

        assert ledger.count() == 0
        assert not ledger.is_done("batch")
        assert ledger.note(BATCH)
        assert ledger.sent_again(BATCH) == 1

    def test_what_was_published_is_remembered_for_a_while(self, ledger: Ledger, valkey: redis.Redis) -> None:
        ledger.mark_published(["1", "3"], 60)

        assert ledger.published_among(["1", "2", "3"]) == {"1", "3"}
        assert 50 < valkey.ttl(keys.entry_published("1")) <= 60

    def test_an_entry_keeps_its_queue_and_its_audit(self, ledger: Ledger) -> None:
        entry = Entry("batch", JOBS, queues.AUDITS, audit="a1")
        ledger.note(entry)

        assert [pending.entry for pending in ledger.silent(queues.AUDITS, 10)] == [entry]


class TestSilence:
    def test_the_longest_silent_comes_first(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """A sweep takes so many at a time, and only those silent for so long."""
        for entry_id, seconds in ("new", 0), ("older", 100), ("oldest", 200), ("old", 50):
            ledger.note(Entry(entry_id, JOBS))
            silence(valkey, entry_id, seconds)

        def ids(limit: int, seconds: float) -> list[str]:
            return [pending.entry.id for pending in ledger.silent(queues.JOBS, limit, seconds=seconds)]

        assert ids(10, 60) == ["oldest", "older"]
        assert ids(1, 60) == ["oldest"]
        assert ids(10, 0) == ["oldest", "older", "old", "new"]
        assert 200 <= (ledger.oldest_age() or 0) < 260

    def test_a_sign_of_life_makes_it_the_youngest(self, ledger: Ledger, valkey: redis.Redis) -> None:
        """What was sent again is not sent again by the next sweep."""
        ledger.note(BATCH)
        silence(valkey, "batch", 100)

        ledger.renew(BATCH)

        assert ledger.silent(queues.JOBS, 10, seconds=60) == []
        assert ledger.count() == 1

    def test_a_sign_of_life_does_not_revive_what_is_struck(self, ledger: Ledger) -> None:
        """A heartbeat that came late."""
        ledger.strike(BATCH)

        ledger.renew(BATCH)

        assert ledger.count() == 0

    def test_an_empty_ledger_has_no_oldest(self, ledger: Ledger) -> None:
        assert ledger.oldest_age() is None
        assert ledger.silent(queues.JOBS, 10) == []

    @pytest.mark.parametrize("text", [b"hello", b"\xff", b"[1]", b'{"id": "1", "jobs": [], "new": 1}'])
    def test_an_entry_that_cannot_be_read_hides_no_other(
        self, ledger: Ledger, valkey: redis.Redis, caplog: pytest.LogCaptureFixture, text: bytes
    ) -> None:
        """A later version wrote it: it is left to that version, and logged."""
        ledger.note(Entry("foreign", JOBS))
        valkey.hset(keys.LEDGER_ENTRIES, "foreign", text)
        ledger.note(BATCH)

        assert [pending.entry.id for pending in ledger.silent(queues.JOBS, 10)] == ["batch"]
        assert ledger.count() == 2
        assert "foreign" in caplog.text


class TestPassedOver:
    """What a broker lost, told by what was noted later and has begun."""

    def note(self, ledger: Ledger, valkey: redis.Redis, entry_id: str, seconds_ago: float) -> Entry:
        """An entry that was noted, and last heard of, so long ago."""
        entry = Entry(entry_id, JOBS)
        ledger.note(entry)
        silence(valkey, entry_id, seconds_ago)
        noted, _, text = (valkey.hget(keys.LEDGER_ENTRIES, entry_id) or b"").partition(b" ")
        valkey.hset(keys.LEDGER_ENTRIES, entry_id, b"%f %s" % (float(noted) - seconds_ago, text))
        return entry

    def ids(self, ledger: Ledger) -> list[str]:
        return [found.entry.id for found in ledger.passed_over(queues.JOBS, 10, seconds=60)]

    def test_an_entry_is_passed_over_when_one_noted_later_has_begun(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        self.note(ledger, valkey, "lost", 500)
        later = self.note(ledger, valkey, "later", 400)
        self.note(ledger, valkey, "waiting", 300)
        assert self.ids(ledger) == []

        ledger.begin(later)

        assert self.ids(ledger) == ["lost"]

    def test_what_was_noted_at_about_the_same_time_may_still_come(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        """Several consumers take them at once."""
        self.note(ledger, valkey, "slow", 405)
        ledger.begin(self.note(ledger, valkey, "quick", 400))

        assert self.ids(ledger) == []

    def test_what_is_delivered_again_says_nothing_of_what_waits(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        """Its last sign of life is late; it was noted early."""
        early = self.note(ledger, valkey, "early", 500)
        self.note(ledger, valkey, "waiting", 300)
        ledger.begin(early)
        ledger.attempt(early, "job-1")

        ledger.begin(early)

        assert self.ids(ledger) == []

    def test_what_has_given_a_sign_of_life_is_not_passed_over(
        self, ledger: Ledger, valkey: redis.Redis
    ) -> None:
        lost = self.note(ledger, valkey, "lost", 500)
        ledger.begin(self.note(ledger, valkey, "later", 400))

        ledger.renew(lost)

        assert self.ids(ledger) == []

    def test_each_queue_has_an_order_of_its_own(self, ledger: Ledger, valkey: redis.Redis) -> None:
        self.note(ledger, valkey, "waiting", 500)
        other = Entry("other", JOBS, queues.AUDITS)
        ledger.note(other)

        ledger.begin(other)

        assert self.ids(ledger) == []

    def test_beginning_what_is_not_in_the_ledger_changes_nothing(self, ledger: Ledger) -> None:
        ledger.begin(BATCH)

        assert ledger.count() == 0
        assert ledger.oldest_age() is None
