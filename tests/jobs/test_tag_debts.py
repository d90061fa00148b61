"""Tag debts: one writer at a time, and a debt is recorded until the tags are right."""

import pytest
import redis

from keyhole.jobs.delays import FIRST_DELAY, LONGEST_DELAY
from keyhole.jobs.tag_debts import LATE_SECONDS, LOST_SECONDS, Hold, TagDebts
from keyhole.results.tags import TagDebt
from keyhole.store import keys
from tests.jobs.clock import pass_seconds

DEBT = TagDebt("images", "a.qcow2", None, "abc", {"keyhole-status": "safe"})
NEWER = TagDebt("images", "a.qcow2", None, "def", {"keyhole-status": "unsafe"})
ID = keys.object_id("images", "a.qcow2", None)


@pytest.fixture
def debts(valkey: redis.Redis) -> TagDebts:
    return TagDebts(valkey)


def held(debts: TagDebts, debt: TagDebt = DEBT) -> Hold[TagDebt]:
    """Hold a debt as its first writer."""
    hold = debts.hold(debt)
    assert hold is not None
    return hold


def held_again(debts: TagDebts) -> Hold[TagDebt]:
    """Hold the recorded debt."""
    hold = debts.hold_recorded(ID)
    assert hold is not None
    return hold


class TestPaid:
    def test_a_debt_that_is_settled_leaves_nothing(self, debts: TagDebts, valkey: redis.Redis) -> None:
        debts.settle(held(debts))

        assert {key.decode() for key in valkey.scan_iter()} == {keys.LEDGER_CLOCK}

    def test_a_debt_that_a_writer_holds_is_not_owed_yet(self, debts: TagDebts) -> None:
        """Otherwise every scan would look like a problem."""
        held(debts)

        assert debts.count() == 0
        assert debts.take_due(10) == []


class TestOwed:
    def test_it_is_due_after_a_delay_that_grows(self, debts: TagDebts, valkey: redis.Redis) -> None:
        hold = held(debts)
        delays = []
        for _ in range(6):
            debts.postpone(hold, "slow_down", "the server asks to slow down")
            _, due = valkey.zrange(keys.debts("tags", "owed"), 0, -1, withscores=True)[0]
            delays.append(due - float(valkey.hget(keys.LEDGER_CLOCK, "ledger") or 0))
            hold = held_again(debts)

        assert delays[0] == pytest.approx(FIRST_DELAY, rel=0.26)
        assert delays[0] < delays[2] < delays[5] <= LONGEST_DELAY * 1.25

    def test_it_is_found_when_it_is_due(self, debts: TagDebts, valkey: redis.Redis) -> None:
        debts.postpone(held(debts), "slow_down", "no")
        assert debts.count() == 1
        assert debts.take_due(10) == []

        pass_seconds(valkey, 2 * FIRST_DELAY)

        assert debts.count_due() == 1
        assert debts.take_due(10) == [ID]
        assert held_again(debts).debt == DEBT

    def test_one_that_is_taken_is_not_taken_again_at_once(self, debts: TagDebts) -> None:
        debts.record(DEBT)

        assert debts.take_due(10) == [ID]
        assert debts.take_due(10) == []

    def test_one_that_is_taken_by_a_lost_worker_is_due_again(
        self, debts: TagDebts, valkey: redis.Redis
    ) -> None:
        debts.record(DEBT)
        debts.take_due(10)

        pass_seconds(valkey, 130)

        assert debts.take_due(10) == [ID]

    def test_what_is_known_of_it_is_told(self, debts: TagDebts) -> None:
        debts.postpone(held(debts), "slow_down", "the server asks to slow down")
        debts.postpone(held_again(debts), "network", "the connection failed")

        owed = debts.owed("images", "a.qcow2", None)

        assert owed is not None
        assert owed.times == 2
        assert owed.since is not None
        assert (
            str(owed.history)
            == "attempts that failed with network: 1; attempts that failed with slow_down: 1. "
            "The last error: the connection failed"
        )

    def test_nothing_is_known_of_an_object_that_owes_nothing(self, debts: TagDebts) -> None:
        assert debts.owed("images", "a.qcow2", None) is None

    def test_how_long_it_is_owed_is_known(self, debts: TagDebts, valkey: redis.Redis) -> None:
        debts.postpone(held(debts), "slow_down", "no")
        pass_seconds(valkey, 100)
        debts.postpone(held_again(debts), "slow_down", "no")
        pass_seconds(valkey, 100)

        hold = held_again(debts)

        assert hold.times == 2
        assert hold.owed_for == pytest.approx(200, abs=10)

    def test_a_newer_verdict_takes_its_place(self, debts: TagDebts) -> None:
        debts.postpone(held(debts), "slow_down", "no")

        hold = held(debts, NEWER)

        assert hold.debt == NEWER
        assert (hold.times, hold.owed_for) == (0, 0)
        assert debts.count() == 0


class TestTwoWriters:
    def test_the_second_one_waits(self, debts: TagDebts, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("keyhole.jobs.tag_debts._WAIT_SECONDS", 0)
        hold = held(debts)

        assert debts.hold(NEWER) is None
        assert debts.hold_recorded(ID) is None

        debts.settle(hold)
        assert debts.hold(NEWER) is not None

    def test_a_debt_recorded_meanwhile_is_owed_though_the_first_one_is_settled(self, debts: TagDebts) -> None:
        hold = held(debts)
        debts.record(NEWER)

        debts.settle(hold)

        assert debts.take_due(10) == [ID]
        assert held_again(debts).debt == NEWER

    def test_it_is_owed_at_once_though_the_first_one_is_postponed(self, debts: TagDebts) -> None:
        hold = held(debts)
        debts.record(NEWER)

        debts.postpone(hold, "slow_down", "no")

        assert debts.take_due(10) == [ID]
        assert held_again(debts).times == 0

    def test_nobody_holds_what_was_noted_while_it_is_held(
        self, debts: TagDebts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keyhole.jobs.tag_debts._WAIT_SECONDS", 0)
        held(debts)
        debts.record(NEWER)

        assert debts.hold(NEWER) is None
        assert debts.hold_recorded(ID) is None


class TestLostWriters:
    def test_the_debt_of_one_is_due(self, debts: TagDebts, valkey: redis.Redis) -> None:
        """The writer was killed between its write and its last check."""
        held(debts)

        pass_seconds(valkey, LOST_SECONDS + 1)

        assert debts.count_due() == 1
        assert debts.take_due(10) == [ID]
        assert debts.count() == 1

    def test_its_last_write_may_be_late(self, debts: TagDebts, valkey: redis.Redis) -> None:
        held(debts)
        pass_seconds(valkey, LOST_SECONDS + 1)

        debts.settle(held_again(debts))

        assert debts.count_late() == 1

    def test_one_that_gives_signs_of_life_is_not_lost(self, debts: TagDebts, valkey: redis.Redis) -> None:
        hold = held(debts)

        for _ in range(3):
            pass_seconds(valkey, LOST_SECONDS - 10)
            debts.renew(hold)

        assert debts.take_due(10) == []
        assert debts.hold_recorded(ID) is None

    @pytest.mark.parametrize("ends", ["settle", "give_up", "postpone"])
    def test_one_that_comes_back_has_its_work_looked_at(
        self, debts: TagDebts, valkey: redis.Redis, ends: str
    ) -> None:
        """The last write of the first writer might have undone the second writer's tags."""
        late = held(debts)
        pass_seconds(valkey, LOST_SECONDS + 1)
        debts.settle(held(debts, NEWER))
        assert debts.take_due(10) == []

        getattr(debts, ends)(late, *(("slow_down", "no") if ends == "postpone" else ()))

        assert debts.take_due(10) == [ID]

    def test_so_it_is_while_the_other_one_is_still_at_it(self, debts: TagDebts, valkey: redis.Redis) -> None:
        late = held(debts)
        pass_seconds(valkey, LOST_SECONDS + 1)
        hold = held(debts, NEWER)

        debts.settle(late)
        debts.settle(hold)

        assert debts.take_due(10) == [ID]
        assert held_again(debts).debt == NEWER


class TestWritesWithoutAnAnswer:
    """A write without an answer can take effect later, on the object that exists then."""

    @pytest.fixture(autouse=True)
    def _unanswered(self, debts: TagDebts) -> None:
        debts.settle(held(debts), unanswered=True)

    def test_right_tags_are_looked_at_again(self, debts: TagDebts, valkey: redis.Redis) -> None:
        assert debts.take_due(10) == []

        pass_seconds(valkey, LATE_SECONDS + 1)

        assert debts.take_due(10) == [ID]
        debts.settle(held_again(debts))
        assert debts.owed("images", "a.qcow2", None) is None

    def test_they_are_looked_at_again_no_earlier(self, debts: TagDebts) -> None:
        """Until then they are not owed, because the tags are right."""
        debts.settle(held_again(debts))

        assert (debts.count(), debts.count_late()) == (0, 1)

    def test_they_are_owed_again_if_they_turn_out_to_be_wrong(self, debts: TagDebts) -> None:
        debts.postpone(held_again(debts), "network", "the connection failed")

        assert (debts.count(), debts.count_late()) == (1, 0)

    @pytest.mark.parametrize("comes", ["hold", "record"])
    def test_that_holds_though_another_verdict_takes_the_place(
        self, debts: TagDebts, valkey: redis.Redis, comes: str
    ) -> None:
        if comes == "record":
            debts.record(NEWER)
        debts.settle(held(debts, NEWER) if comes == "hold" else held_again(debts))

        pass_seconds(valkey, LATE_SECONDS + 1)

        assert debts.take_due(10) == [ID]
        assert held_again(debts).debt == NEWER

    def test_that_holds_though_another_verdict_was_noted_before_it_was_known(
        self, debts: TagDebts, valkey: redis.Redis
    ) -> None:
        pass_seconds(valkey, LATE_SECONDS + 1)
        hold = held_again(debts)
        debts.record(NEWER)
        debts.settle(hold, unanswered=True)
        debts.settle(held_again(debts))

        pass_seconds(valkey, LATE_SECONDS + 1)

        assert debts.take_due(10) == [ID]

    def test_what_is_given_up_is_not_looked_at_again(self, debts: TagDebts) -> None:
        debts.give_up(held_again(debts))

        assert debts.owed("images", "a.qcow2", None) is None
