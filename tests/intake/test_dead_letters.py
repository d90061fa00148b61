"""Dead letters: unprocessable messages are stored unchanged, counted, found, and dropped on request."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.intake.dead_letters import (
    HEAD_OF_LONGER,
    LONGEST_BODY,
    LONGEST_REASON,
    Dead,
    DeadLetter,
    DeadLetters,
    LetterKind,
    with_new_ids,
)
from keyhole.intake.events.notifications import LONGEST_MESSAGE
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS, EVENTS
from keyhole.store import keys
from keyhole.store.durability import NotDurableError

SOURCE = "sqs://queue"
JOBS = tuple(ScanJob(id=key, bucket="images", key=key) for key in ("a", "b"))


@pytest.fixture
def dead(valkey: redis.Redis) -> DeadLetters:
    return DeadLetters(valkey)


def letter(dead: DeadLetters, dead_id: str) -> DeadLetter:
    found = dead.get(dead_id)
    assert found is not None
    return found


class TestAMessage:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(body=st.binary(max_size=200), reason=st.text(max_size=LONGEST_REASON))
    def test_is_kept_byte_by_byte_with_its_reason(self, dead: DeadLetters, body: bytes, reason: str) -> None:
        poison = Dead.message(body, SOURCE, reason)

        dead.add(poison)

        kept = letter(dead, poison.id)
        assert (kept.kind, kept.source, kept.body, kept.size) == (LetterKind.MESSAGE, SOURCE, body, len(body))
        assert kept.is_whole
        assert kept.reason == reason.encode(errors="backslashreplace").decode()

    def test_the_same_again_is_one_letter_whose_count_rises(self, dead: DeadLetters) -> None:
        first = Dead.message(b"?", SOURCE, "no JSON", times=3)
        dead.add(first)
        began = letter(dead, first.id)

        dead.add(Dead.message(b"?", SOURCE, "still no JSON"))

        assert dead.count() == 1
        again = letter(dead, first.id)
        assert (again.times, again.reason, again.first_at) == (4, "still no JSON", began.first_at)
        assert again.last_at > began.last_at

    def test_in_vain_once_more_it_keeps_what_it_is(self, dead: DeadLetters) -> None:
        """The number of bytes that were cut off is also kept."""
        poison = Dead.message(b"x" * (LONGEST_BODY + 1), SOURCE, "too long")
        dead.add(poison)

        dead.add_again(poison.id, "still too long")

        kept = letter(dead, poison.id)
        assert (kept.times, kept.reason, kept.size) == (2, "still too long", LONGEST_BODY + 1)

    def test_many_are_kept_at_once_and_each_is_counted(self, dead: DeadLetters) -> None:
        first, other = Dead.message(b"?", SOURCE, "no JSON", times=3), Dead.message(b"!", SOURCE, "no JSON")

        dead.add_durably([first, other, first])

        assert [letter(dead, each.id).times for each in (first, other)] == [6, 1]

    def test_it_is_not_kept_until_it_is_on_disk_where_that_is_asked_for(self, unsynced: redis.Redis) -> None:
        poison = Dead.message(b"?", SOURCE, "no JSON")
        dead = DeadLetters(unsynced)

        dead.add_durably([])
        dead.add(poison)
        with pytest.raises(NotDurableError):
            dead.add_durably([poison])

    def test_one_that_was_sent_again_stays_if_it_was_in_vain_again_meanwhile(self, dead: DeadLetters) -> None:
        """A message that was sent again can be refused before its earlier letter is dropped."""
        refused = Dead.message(b"garbage", SOURCE, "it is not JSON")
        dead.add(refused)
        sent = letter(dead, refused.id)
        dead.add(refused)

        assert not dead.drop_unchanged(sent)
        assert letter(dead, refused.id).times == 2
        assert dead.drop_unchanged(letter(dead, refused.id))
        assert dead.count() == 0

    def test_one_that_was_dropped_does_not_come_back(self, dead: DeadLetters) -> None:
        dead.add_again("dropped", "no JSON")

        assert dead.count() == 0
        assert dead.get("dropped") is None

    def test_it_knows_when_by_the_servers_clock(self, dead: DeadLetters) -> None:
        dead.add(Dead.message(b"?", SOURCE, "no JSON"))

        (kept,) = dead.letters()

        assert abs(kept.first_at - datetime.now(UTC)) < timedelta(minutes=1)

    def test_the_longest_that_is_read_is_kept_as_a_whole(self, dead: DeadLetters) -> None:
        """A user can then inspect it later."""
        assert LONGEST_BODY >= LONGEST_MESSAGE
        poison = Dead.message(b"\0" * LONGEST_BODY, SOURCE, "no JSON")

        dead.add(poison)

        assert letter(dead, poison.id).is_whole

    def test_a_longer_one_is_cut_and_says_so(self, dead: DeadLetters) -> None:
        poison = Dead.message(b"x" * (LONGEST_BODY + 1), SOURCE, "too long")

        dead.add(poison)

        kept = letter(dead, poison.id)
        assert (kept.body, kept.size) == (b"x" * HEAD_OF_LONGER, LONGEST_BODY + 1)
        assert not kept.is_whole

    def test_receives_are_counted_until_it_is_a_letter(self, dead: DeadLetters, valkey: redis.Redis) -> None:
        """Keyhole counts if the queue does not. After the letter, the count starts again."""
        poison = Dead.message(b"?", SOURCE, "no JSON")
        assert [dead.count_receive(poison), dead.count_receive(poison)] == [1, 2]
        assert dead.count_receive(Dead.message(b"!", SOURCE, "no JSON")) == 1
        assert 0 < valkey.ttl(keys.dead_receives(poison.id)) <= 86_400

        dead.add(poison)

        assert dead.count_receive(poison) == 1

    def test_in_json_its_body_is_what_base64_reads(self, dead: DeadLetters) -> None:
        body = bytes(range(256))
        poison = Dead.message(body, SOURCE, "no JSON")
        dead.add(poison)

        told = json.loads(letter(dead, poison.id).model_dump_json())

        assert b64decode(told["body"], validate=True) == body


class TestAnEntry:
    def test_is_kept_as_it_is_noted(self, dead: DeadLetters) -> None:
        entry = Entry("batch", JOBS, AUDITS, audit="a1")
        given_up = Dead.entry(entry, "worker lost")

        dead.add(given_up)

        kept = letter(dead, given_up.id)
        assert (kept.kind, kept.source, kept.reason) == (LetterKind.JOB, AUDITS, "worker lost")
        assert ENTRY.validate_json(kept.body or b"") == entry

    def test_the_same_objects_on_the_same_queue_are_one_letter(self, dead: DeadLetters) -> None:
        """The ids of the jobs make no difference, because a retry gives new ids."""
        renamed = tuple(job.model_copy(update={"id": f"{job.id}-again"}) for job in reversed(JOBS))
        for entry in Entry("1", JOBS), Entry("2", renamed), Entry("3", JOBS, EVENTS), Entry("4", JOBS[:1]):
            dead.add(Dead.entry(entry, "worker lost"))

        assert [kept.times for kept in dead.letters()] == [1, 1, 2]

    def test_anew_it_is_the_same_work_under_other_ids(self) -> None:
        """Records about the old ids do not affect it."""
        for entry in Entry("batch", JOBS, AUDITS, audit="a1"), Entry("a", JOBS[:1], EVENTS):
            again, other = with_new_ids(entry), with_new_ids(entry)

            assert [job.key for job in again.jobs] == [job.key for job in entry.jobs]
            assert (again.queue, again.audit) == (entry.queue, None)
            ids = [e.id for e in (entry, again, other)] + [
                j.id for e in (entry, again, other) for j in e.jobs
            ]
            assert len(set(ids)) == (len(ids) if len(entry.jobs) > 1 else len(ids) / 2)

    def test_a_long_one_is_not_cut(self, dead: DeadLetters) -> None:
        """The letter contains work, and a batch has a limited size."""
        jobs = tuple(ScanJob(bucket="b" * 2048, key="ü" * 1024, version_id="v" * 1024) for _ in range(1000))
        given_up = Dead.entry(Entry("batch", jobs), "worker lost")

        dead.add(given_up)

        assert letter(dead, given_up.id).is_whole


class TestFinding:
    def test_the_latest_come_first_and_a_kind_can_be_chosen(self, dead: DeadLetters) -> None:
        """There are more than fit into one command. Bodies are not loaded."""
        for number in range(250):
            body = str(number).encode()
            dead.add(
                Dead.message(body, SOURCE, str(number))
                if number % 2
                else Dead.entry(Entry(str(number), (ScanJob(bucket="b", key=str(number)),)), str(number))
            )

        assert [int(kept.reason) for kept in dead.letters()] == list(range(249, -1, -1))
        assert [int(kept.reason) for kept in dead.letters(LetterKind.JOB)] == list(range(248, -1, -2))
        assert {kept.body for kept in dead.letters()} == {None}
        assert dead.count() == 250

    def test_one_that_is_again_in_vain_is_the_latest(self, dead: DeadLetters) -> None:
        for body in (b"1", b"2", b"1"):
            dead.add(Dead.message(body, SOURCE, "no JSON"))

        assert [kept.times for kept in dead.letters()] == [2, 1]

    def test_by_the_beginning_of_its_id(self, dead: DeadLetters) -> None:
        letters = [Dead.message(body, SOURCE, "no JSON") for body in (b"1", b"2", b"3")]
        for each in letters:
            dead.add(each)

        assert dead.ids() == [each.id for each in reversed(letters)]
        assert dead.ids(letters[0].id[:12]) == [letters[0].id]
        assert dead.ids("no hexadecimal") == []

    def test_there_is_none(self, dead: DeadLetters) -> None:
        assert dead.get("nothing") is None
        assert list(dead.letters()) == []
        assert dead.count() == 0


class TestDropping:
    def test_it_leaves_nothing(self, dead: DeadLetters, valkey: redis.Redis) -> None:
        letters = [Dead.message(body, SOURCE, "no JSON") for body in (b"1", b"2", b"3")]
        for each in letters:
            dead.add(each)

        assert dead.drop([letters[0].id, letters[2].id, "nothing"]) == 2

        assert [kept.id for kept in dead.letters()] == [letters[1].id]
        assert dead.drop([letters[1].id]) == 1
        assert list(valkey.scan_iter()) == []

    def test_none_are_dropped_without_a_word_to_redis(self) -> None:
        assert DeadLetters(redis.Redis.from_url("redis://nowhere.invalid:1")).drop([]) == 0

    def test_one_that_is_dropped_while_a_list_is_read_is_passed_over(
        self, dead: DeadLetters, valkey: redis.Redis
    ) -> None:
        dead.add(Dead.message(b"1", SOURCE, "no JSON"))
        valkey.zadd(keys.DEAD, {"gone": 0})

        assert len(list(dead.letters())) == 1
