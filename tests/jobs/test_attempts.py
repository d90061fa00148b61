"""Attempts at a job: which workers were lost during it, why it is undecided, and for how long."""

import pytest
import redis

from keyhole.jobs.attempts import LONGEST_ERROR, Attempts
from keyhole.store import keys


def dead(_: str) -> bool:
    """Whether a worker lives. In these tests, none does."""
    return False


@pytest.fixture
def attempts(valkey: redis.Redis) -> Attempts:
    return Attempts(valkey, seconds=3600)


class TestLostWorkers:
    def test_a_start_that_never_ended_is_a_lost_worker(self, attempts: Attempts) -> None:
        assert [attempts.start("job", f"w{number}", dead).lost for number in range(4)] == [0, 1, 2, 3]
        assert attempts.start("other", "w1", dead).lost == 0

    def test_one_whose_worker_lives_is_none(self, attempts: Attempts) -> None:
        """The broker delivered the message twice, and the first worker still works."""
        attempts.start("job", "w1", dead)

        assert attempts.start("job", "w2", lambda name: name == "w1").lost == 0
        assert attempts.start("job", "w3", dead).lost == 1

    def test_nor_is_ones_own(self, attempts: Attempts) -> None:
        attempts.start("job", "w1", dead)

        assert attempts.start("job", "w1", dead).lost == 0

    def test_one_that_was_released_is_none(self, attempts: Attempts) -> None:
        """The first worker was told to stop, and released the job."""
        attempts.start("job", "w1", dead)

        attempts.release(["job", "unknown"], "w1")

        assert attempts.start("job", "w2", dead).lost == 0

    def test_nor_is_one_that_left_it_undecided(self, attempts: Attempts) -> None:
        attempts.start("job", "w1", dead)

        attempts.undecided("job", "network", "no route")

        assert attempts.start("job", "w2", dead).lost == 0

    def test_whose_start_never_ended_is_told(self, attempts: Attempts) -> None:
        attempts.start("1", "w1", dead)
        attempts.start("2", "w1", dead)
        attempts.release(["2"], "w1")

        assert attempts.unfinished_among(["1", "2", "3"]) == {"1"}
        assert attempts.unfinished_among([]) == set()

    def test_it_expires(self, attempts: Attempts, valkey: redis.Redis) -> None:
        attempts.start("job", "w1", dead)
        attempts.undecided("job", "network", "")

        assert 3500 < valkey.ttl(keys.attempts("job")) <= 3600


class TestUndecided:
    def test_it_is_counted_in_all_and_by_reason(self, attempts: Attempts, valkey: redis.Redis) -> None:
        attempts.undecided("job", "network", "no route")
        valkey.hincrbyfloat(keys.attempts("job"), "since", -100)

        assert attempts.undecided("job", "slow_down", "").alike == 1
        known = attempts.undecided("job", "network", "reset")

        assert (known.times, known.alike) == (3, 2)
        assert 100 <= known.seconds < 160

    def test_the_history_is_one_sentence(self, attempts: Attempts) -> None:
        attempts.start("job", "w1", dead)
        attempts.start("job", "w2", dead)
        attempts.undecided("job", "slow_down", "503")
        attempts.undecided("job", "network", "no route")

        assert str(attempts.history("job")) == (
            "workers lost while they scanned it: 1; attempts that failed with network: 1; "
            "attempts that failed with slow_down: 1. The last error: no route"
        )
        assert str(attempts.history("unknown")) == "no attempts are recorded"

    def test_an_error_of_any_length_and_text_is_kept_in_part(self, attempts: Attempts) -> None:
        attempts.undecided("job", "network", "\udcff" + "x" * 100_000)

        assert attempts.history("job").error.startswith("\\udcffx")
        assert len(attempts.history("job").error) < LONGEST_ERROR + 10

    def test_what_does_not_end_has_an_error_too(self, attempts: Attempts) -> None:
        attempts.start("job", "w1", dead)

        attempts.record_error("job", "in a loop")

        assert attempts.history("job").error == "in a loop"
        assert attempts.start("job", "w2", dead).lost == 1
