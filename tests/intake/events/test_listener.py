"""The listener acknowledges only messages that Keyhole has taken over; it reconnects, and can be stopped."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import redis

from keyhole.intake.events import listener as listening
from keyhole.intake.events.counters import EventCounters
from keyhole.intake.events.listener import BATCH, Listener, Poll
from keyhole.intake.events.redis_list import RedisListSource
from keyhole.intake.events.source import Message, SourceUnavailableError
from keyhole.jobs.entry import Entry
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.store.connection import connect
from tests.intake.events.aws_messages import POISON, message, record
from tests.intake.events.outbox import Intake

LIST = "events"


class Listening:
    """A listener to a list in a real Redis, in this thread."""

    def __init__(self, valkey: redis.Redis, url: str) -> None:
        self.redis = valkey
        self.intake = Intake(valkey)
        self.counts = EventCounters(valkey)
        self.source = RedisListSource(connect(url), LIST, name="redis://list", listener_id="test")
        self.listener = Listener(self.source, self.intake.handler, self.counts)
        self.stop = threading.Event()
        self.turns: list[Poll] = []

    def push(self, *bodies: bytes) -> None:
        """Put messages into the list."""
        self.redis.rpush(LIST, *bodies)

    def until(self, enough: Callable[[Poll], bool]) -> None:
        """Listen until a turn fulfils a condition."""

        def look(turn: Poll) -> None:
            self.turns.append(turn)
            if enough(turn):
                self.stop.set()

        self.listener.run(self.stop, look)

    def until_empty(self) -> Counter[str]:
        """Listen until the list is empty, and return the counts."""
        self.listener.run(self.stop, self.turns.append, until_empty=True)
        total = Counter[str]()
        for turn in self.turns:
            total.update(turn.counts)
        return total

    @property
    def left(self) -> list[bytes]:
        """The content of the list."""
        found = self.redis.lrange(LIST, 0, -1)
        assert isinstance(found, list)
        return found


@pytest.fixture
def here(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Listening:
    monkeypatch.setattr(listening, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(listening, "LAST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.01)
    return Listening(valkey, valkey_url)


def times(count: int, error: Exception, then: Callable[..., object]) -> Callable[..., object]:
    """A function that fails this many times, and then works."""
    left = [count]

    def fails(*args: object, **kwargs: object) -> object:
        if left[0]:
            left[0] -= 1
            raise error
        return then(*args, **kwargs)

    return fails


class TestMessages:
    def test_are_acknowledged_once_their_jobs_are_published(
        self, here: Listening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.push(*(message(record(str(number))) for number in range(BATCH)))
        publish, held = here.intake.outbox.publish, []

        def look_first(entries: Sequence[Entry]) -> None:
            held.append(here.source._out.total())
            publish(entries)

        monkeypatch.setattr(here.intake.outbox, "publish", look_first)

        here.until_empty()

        assert held == [BATCH]
        assert here.intake.outbox.keys == [str(number) for number in range(BATCH)]
        assert here.left == []

    def test_of_many_batches_are_counted_here_and_for_all(self, here: Listening) -> None:
        here.push(*(message(record(str(number)), record("same")) for number in range(95)))

        counts = here.until_empty()

        assert (counts["received"], counts["published"], counts["duplicates"]) == (95, 96, 94)
        assert here.counts.read() == +counts

    def test_that_nobody_understands_leave_the_queue_for_the_dead_letters(self, here: Listening) -> None:
        here.push(POISON, message(record("a")), POISON + b" ")

        counts = here.until_empty()

        assert (counts["dead"], counts["not_understood"], counts["published"]) == (2, 6, 1)
        assert {letter.times for letter in here.intake.dead.letters()} == {3}
        assert here.left == []

    def test_a_turn_is_told_of_though_none_came(self, here: Listening) -> None:
        """The report is a sign of life."""
        here.until(lambda turn: not turn.counts)

        assert here.turns == [Poll()]


class TestSomethingIsAway:
    def test_nothing_is_acknowledged_until_the_broker_is_back(
        self, here: Listening, caplog: pytest.LogCaptureFixture
    ) -> None:
        here.push(message(record("a")), message(record("b")))
        here.intake.outbox.is_away = True
        left: list[int] = []

        def look(turn: Poll) -> bool:
            if turn.trouble:
                left.append(len(here.left))
            here.intake.outbox.is_away = len(left) < 5
            return bool(turn.counts)

        here.until(look)

        assert left == [2] * 5
        assert here.intake.outbox.keys == ["a", "b"]
        assert here.left == []
        assert here.counts.read()["received"] == 2
        said = [entry for entry in caplog.records if entry.name == listening.__name__]
        assert [entry.message.split(":")[0] for entry in said] == [
            "the listener handles no messages at present, and keeps trying",
            "the listener handles messages again",
        ]

    def test_the_queue(self, here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        here.push(message(record("a")))
        away = SourceUnavailableError("the queue is away\nand more")
        monkeypatch.setattr(here.source, "receive", times(3, away, here.source.receive))

        here.until(lambda turn: bool(turn.counts))

        assert [turn.trouble for turn in here.turns] == ["the queue is away"] * 3 + [None]
        assert here.intake.outbox.keys == ["a"]

    def test_the_queue_when_it_should_hear_that_a_message_is_ours(
        self, here: Listening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message comes again, and is recognised."""
        here.push(message(record("a")))
        acknowledge = here.source.acknowledge

        def lose(messages: Sequence[Message]) -> None:
            monkeypatch.setattr(here.source, "acknowledge", acknowledge)
            here.source.give_back(messages)
            raise SourceUnavailableError("the connection is lost")

        monkeypatch.setattr(here.source, "acknowledge", lose)

        here.until(lambda turn: bool(turn.counts))

        assert here.intake.outbox.keys == ["a"]
        assert here.left == []
        counts = here.counts.read()
        assert (counts["received"], counts["published"], counts["duplicates"]) == (2, 1, 1)

    def test_counts_that_cannot_be_written_are_kept_and_nothing_is_received_before(
        self, here: Listening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.push(message(record("a")))
        away = redis.ConnectionError("away")
        monkeypatch.setattr(here.counts, "add", times(3, away, here.counts.add))
        received: list[int] = []
        receive = here.source.receive

        def note(limit: int, wait_seconds: float) -> Sequence[Message]:
            received.append(len(here.turns))
            return receive(limit, wait_seconds)

        monkeypatch.setattr(here.source, "receive", note)

        here.until(lambda turn: turn.trouble is None)

        assert received == [0, 3]
        assert {turn.trouble for turn in here.turns[:3]} == {"Redis does not respond (away)"}
        assert here.counts.read()["published"] == 1

    def test_the_pauses_grow_and_have_an_end(self, here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        away = SourceUnavailableError("away")
        monkeypatch.setattr(listening, "FIRST_PAUSE", 0.5)
        monkeypatch.setattr(here.source, "receive", times(2000, away, here.source.receive))
        monkeypatch.setattr(here.stop, "wait", pauses.append)

        here.until(lambda turn: turn.trouble is None)

        assert 0.25 <= pauses[0] <= 0.5
        assert 1 <= pauses[2] <= 2
        assert all(15 <= pause <= 30 for pause in pauses[7:])

    def test_who_listens_until_there_is_nothing_is_told(self, here: Listening) -> None:
        here.push(message(record("a")))
        here.intake.outbox.is_away = True

        with pytest.raises(DeliveryUncertainError):
            here.until_empty()

        assert len(here.left) == 1


class TestItIsToldToStop:
    def test_it_finishes_its_batch(self, here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        here.push(*(message(record(str(number))) for number in range(2 * BATCH)))
        publish = here.intake.outbox.publish

        def stop_first(entries: Sequence[Entry]) -> None:
            here.stop.set()
            publish(entries)

        monkeypatch.setattr(here.intake.outbox, "publish", stop_first)

        here.until(lambda _: False)

        assert len(here.intake.outbox.entries) == len(here.left) == BATCH
        assert here.counts.read()["received"] == BATCH

    def test_what_it_received_too_late_is_given_back(
        self, here: Listening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.push(message(record("a")))
        receive = here.source.receive

        def stop_meanwhile(limit: int, wait_seconds: float) -> Sequence[Message]:
            here.stop.set()
            return receive(limit, wait_seconds)

        monkeypatch.setattr(here.source, "receive", stop_meanwhile)

        here.until(lambda _: False)

        assert here.intake.outbox.entries == []
        assert here.left == [message(record("a"))]

    def test_while_something_is_away(self, here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listening, "FIRST_PAUSE", 3600)
        monkeypatch.setattr(listening, "LONGEST_PAUSE", 3600)
        here.push(message(record("a")))
        here.intake.outbox.is_away = True

        here.until(lambda turn: bool(turn.trouble))

        assert len(here.left) == 1


def test_a_bug_ends_it_and_loses_nothing(here: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    here.push(message(record("a")))

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(here.intake.handler, "handle", fail)

    with pytest.raises(RuntimeError, match="a bug"):
        here.until(lambda _: False)

    assert here.left == [message(record("a"))]
