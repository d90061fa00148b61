"""From messages to jobs: a job is published once, and before its message is taken over."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
import redis

from keyhole.intake.dead_letters import Dead
from keyhole.intake.events import counters, handling
from keyhole.intake.events.notifications import NotUnderstoodError
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import EVENTS
from keyhole.store import keys
from keyhole.store.durability import NotDurableError
from keyhole.tracing.tracer import Traced, Tracer, use_tracer
from tests.intake.events.aws_messages import POISON, message, record
from tests.intake.events.outbox import SOURCE, WINDOW, Intake


@pytest.fixture
def intake(valkey: redis.Redis) -> Intake:
    return Intake(valkey)


@pytest.fixture
def spans() -> Iterator[list[str]]:
    """The ids of the jobs whose first spans were made."""

    class Noting(Tracer):
        def published(self, jobs: Iterable[Traced], *_: object, **__: object) -> None:
            made.extend(job.id for job in jobs)

    made: list[str] = []
    use_tracer(Noting())
    yield made
    use_tracer(Tracer())


class TestAnObjectIsNew:
    def test_its_job_is_noted_and_on_the_queue_of_events(self, intake: Intake) -> None:
        handled = intake.handle(message(record("a b.qcow2", versionId="v1")))

        (entry,) = intake.outbox.entries
        (job,) = entry.jobs
        assert (entry.id, entry.queue, entry.audit) == (job.id, EVENTS, None)
        assert (job.bucket, job.key, job.version_id) == ("images", "a b.qcow2", "v1")
        assert job.sequencer is not None
        assert intake.ledger.is_open(entry.id)
        assert (len(handled.taken), len(handled.back)) == (1, 0)

    def test_all_records_of_all_messages_are_published_in_one_trip(self, intake: Intake) -> None:
        names = [f"{number}.img" for number in range(20)]

        intake.handle(*(message(record(name), record(f"x{name}")) for name in names))

        assert intake.outbox.keys == [key for name in names for key in (name, f"x{name}")]
        assert intake.outbox.trips == 1

    def test_a_thousand_records_are_published_by_the_thousand(
        self, intake: Intake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handling, "CHUNK", 10)

        counts = intake.counts(message(*(record(str(number)) for number in range(95))))

        assert counts == {"received": 1, "created": 95, "published": 95}
        assert intake.outbox.trips == 10
        assert sorted(map(int, intake.outbox.keys)) == list(range(95))

    def test_a_restored_object_is_another_job_than_the_new_one(self, intake: Intake) -> None:
        counts = intake.counts(message(record()), message(record(name="ObjectRestore:Completed")))

        assert counts == {"received": 2, "created": 1, "restored": 1, "published": 2}

    def test_a_message_without_records_is_counted_and_done(self, intake: Intake) -> None:
        handled = intake.handle(b'{"Records": []}', receives=9)
        assert (len(handled.taken), len(handled.back)) == (1, 0)
        assert handled.counts == {"received": 1, "empty": 1}


class TestItIsKnown:
    def test_within_one_batch(self, intake: Intake) -> None:
        counts = intake.counts(message(record(), record()), message(record()))

        assert counts == {"received": 2, "created": 3, "published": 1, "duplicates": 2}

    def test_while_it_may_be_on_its_way(self, intake: Intake) -> None:
        intake.handle(message(record()))

        handled = intake.handle(message(record()))

        assert (handled.counts["published"], handled.counts["duplicates"]) == (0, 1)
        assert len(handled.taken) == 1
        assert len(intake.outbox.entries) == 1

    def test_when_it_is_done(self, intake: Intake, valkey: redis.Redis) -> None:
        intake.handle(message(record()))
        (entry,) = intake.outbox.entries
        intake.ledger.complete(entry)
        valkey.delete(keys.entry_published(entry.id))

        assert intake.counts(message(record()))["duplicates"] == 1

    def test_after_the_window_what_is_not_done_is_sent_once_more(
        self, intake: Intake, valkey: redis.Redis
    ) -> None:
        """The process that took it over could have died before the message reached the broker."""
        intake.handle(message(record()))
        marker = keys.entry_published(intake.outbox.entries[0].id)
        assert 0 < valkey.ttl(marker) <= WINDOW
        valkey.delete(marker)

        assert intake.counts(message(record()))["published"] == 1
        assert intake.ledger.count() == 1

    def test_another_change_of_the_same_object_is_not(self, intake: Intake) -> None:
        """The content can be the same, but the tags are gone."""
        intake.handle(message(record(sequencer="0A")))

        assert intake.counts(message(record(sequencer="0B")))["published"] == 1


class TestItsTrace:
    def test_has_one_first_span_although_the_event_arrives_again(
        self, intake: Intake, valkey: redis.Redis, spans: list[str]
    ) -> None:
        intake.handle(message(record()), message(record()))
        intake.handle(message(record()))
        (entry,) = intake.outbox.entries
        intake.ledger.complete(entry)
        valkey.delete(keys.entry_published(entry.id))
        intake.handle(message(record()))

        assert spans == [entry.id]


class TestOnlyWhatIsChosen:
    @pytest.mark.parametrize(
        ("selection", "chosen"),
        [
            ({"buckets": ("im*",)}, True),
            ({"buckets": ("other",)}, False),
            ({"include": ("a*",)}, True),
            ({"exclude": ("a*",)}, False),
            ({"suffixes": (".QCOW2",)}, True),
            ({"suffixes": (".vmdk",)}, False),
            ({"min_size": 1024, "max_size": 1024}, True),
            ({"min_size": 1025}, False),
        ],
    )
    def test_by_bucket_glob_suffix_and_size(
        self, valkey: redis.Redis, selection: dict[str, object], chosen: bool
    ) -> None:
        intake = Intake(valkey, **selection)

        handled = intake.handle(message(record()))

        assert len(handled.taken) == 1
        assert len(intake.outbox.entries) == chosen
        assert handled.counts["not_selected"] == (not chosen)

    def test_under_either_reading_of_its_key(self, valkey: redis.Redis) -> None:
        """The event's key `a b` can mean the key `a+b`."""
        intake = Intake(valkey, include=("a+b",))

        assert intake.counts(message(record("a b")))["published"] == 1

    def test_an_unknown_size_passes(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, min_size=10)

        assert intake.counts(message(record(size=None)))["published"] == 1


class TestNothingToScan:
    def test_what_asks_for_nothing_is_counted(self, intake: Intake) -> None:
        counts = intake.counts(message(record(name="ObjectTagging:Put"), record(name="ObjectAcl:Put")))

        assert counts == {"received": 1, "ignored": 2}

    def test_names_in_messages_make_no_counters(self, intake: Intake) -> None:
        """Who can write to the queue could otherwise fill Redis and Prometheus with names."""
        bridged = {"source": "aws.s3", "detail-type": "Object Painted"}

        handled = intake.handle(
            message(*(record(name=f"Odd:{number}") for number in range(700))),
            *(json.dumps(bridged | {"detail-type": f"Object {number}"}).encode() for number in range(9)),
        )

        one = intake.handle(message(record(name="Odd:0")))
        assert {name for name, count in handled.counts.items() if count} == {"received", "ignored"}
        assert set(handled.counts) == set(one.counts) <= set(counters.NAMES)

    def test_a_delete_is_taken_over(self, intake: Intake) -> None:
        handled = intake.handle(message(record(name="ObjectRemoved:Delete")))

        assert len(handled.taken) == 1
        assert handled.counts["removed"] == 1
        assert intake.outbox.entries == []


class TestItIsNotUnderstood:
    def test_it_is_given_back_until_it_was_received_so_many_times(self, intake: Intake) -> None:
        """The source does not count, but Keyhole does. Then the message becomes a dead letter."""
        for _ in range(2):
            handled = intake.handle(POISON)
            assert [each.body for each in handled.back] == [POISON]
            assert intake.dead.count() == 0

        handled = intake.handle(POISON)

        assert [each.body for each in handled.taken] == [POISON]
        (letter,) = intake.dead.letters()
        assert (letter.source, letter.times) == (SOURCE, 3)
        assert handled.counts & Counter({"dead": 9, "not_understood": 9}) == {"dead": 1, "not_understood": 1}

    def test_the_queues_own_count_counts(self, intake: Intake) -> None:
        handled = intake.handle(POISON, receives=3)

        assert len(handled.taken) == 1
        assert intake.dead.count() == 1

    def test_it_hides_no_other_message(self, intake: Intake) -> None:
        handled = intake.handle(message(record("a")), POISON, message(record("b")))

        assert intake.outbox.keys == ["a", "b"]
        assert [each.body for each in handled.back] == [POISON]

    def test_one_bad_record_keeps_its_message_as_a_whole(self, valkey: redis.Redis) -> None:
        """A retry then does everything that the message requests."""
        intake = Intake(valkey, dead_after=1)
        body = message(record("good"), {"eventName": "?"}, record("good too"))

        handled = intake.handle(body)

        assert intake.outbox.entries == []
        (letter,) = intake.dead.letters()
        assert "record 2 of 3" in letter.reason
        kept = intake.dead.get(letter.id)
        assert kept is not None
        assert kept.body == body
        assert len(handled.taken) == 1

    def test_a_bug_of_ours_is_not_the_end(self, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: bytes) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(handling, "parse", fail)

        handled = intake.handle(message(record()), receives=3)

        assert len(handled.taken) == 1
        (letter,) = intake.dead.letters()
        assert "a bug" in letter.reason


class TestSomethingIsAway:
    def test_the_broker_and_then_it_is_not(self, intake: Intake) -> None:
        """The ledger contains the job, and the message comes again."""
        intake.outbox.is_away = True
        with pytest.raises(DeliveryUncertainError):
            intake.handle(message(record()), POISON)
        assert intake.ledger.count() == 1

        intake.outbox.is_away = False
        handled = intake.handle(message(record()))

        assert handled.counts["published"] == 1
        assert intake.outbox.keys == ["a.qcow2"]
        assert intake.ledger.count() == 1

    def test_redis_disk(self, unsynced: redis.Redis) -> None:
        """If a crash could lose the dead letter, the message stays in the queue."""
        intake = Intake(unsynced, allowed=("images",))

        for body in POISON, message(record(bucket="payroll")):
            with pytest.raises(NotDurableError):
                intake.handle(body, receives=3)

    def test_redis(self) -> None:
        away = redis.Redis.from_url("redis://127.0.0.1:1", retry=None)
        intake = Intake(away)

        for body in message(record()), POISON:
            with pytest.raises(redis.ConnectionError):
                intake.handle(body)

        assert intake.outbox.entries == []


class TestALetterIsRetried:
    def test_what_is_understood_now_is_worked_on(self, intake: Intake) -> None:
        assert intake.handler.take_over(message(record("a"), record("b")))["published"] == 2

        assert intake.outbox.keys == ["a", "b"]

    def test_what_is_not_is_no_letter_of_its_own_accord(self, intake: Intake) -> None:
        """The message does not become a dead letter by itself. The code that retries it counts."""
        with pytest.raises(NotUnderstoodError):
            intake.handler.take_over(POISON)

        assert intake.dead.count() == 0
        assert intake.dead.count_receive(Dead.message(POISON, SOURCE, "")) == 1


class TestABucketThatKeyholeMayNotTouch:
    def test_its_message_is_a_dead_letter_at_once(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, allowed=("images-*",))

        handled = intake.handle(message(record(bucket="payroll")))

        assert (len(handled.taken), len(handled.back)) == (1, 0)
        assert (handled.counts["not_allowed"], handled.counts["dead"]) == (1, 1)
        (letter,) = intake.dead.letters()
        assert letter.reason == "KEYHOLE_BUCKETS does not allow the bucket 'payroll'"
        assert intake.outbox.entries == []

    def test_the_other_events_of_the_message_are_worked_on(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, allowed=("images",))

        intake.handle(message(record("a"), record("b", bucket="payroll"), record("c")))

        assert intake.outbox.keys == ["a", "c"]
        assert intake.dead.count() == 1

    def test_a_message_that_is_retried_stays(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, allowed=("images",))

        with pytest.raises(NotUnderstoodError, match="does not allow the bucket 'payroll'"):
            intake.handler.take_over(message(record(bucket="payroll")))

    def test_a_delete_there_drops_no_verdict(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, allowed=("images",))

        counts = intake.counts(message(record(bucket="payroll", name="ObjectRemoved:Delete")))

        assert counts == {"received": 1, "removed": 1, "not_allowed": 1, "dead": 1}

    def test_what_the_selection_leaves_out_is_no_dead_letter(self, valkey: redis.Redis) -> None:
        intake = Intake(valkey, allowed=("images",), buckets=("images",))

        counts = intake.counts(message(record(bucket="payroll")))

        assert counts == {"received": 1, "created": 1, "not_allowed": 1}
