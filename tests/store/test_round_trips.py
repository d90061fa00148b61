"""Round trips: threads share them, a failed step stops only its chain, and no answer is lost."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis

from keyhole.store.round_trips import RoundTrips, Step
from tests.e2e import commands

SET = "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]"
ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1]) + #KEYS + #ARGV"
FAIL = "return redis.call('INCR', KEYS[1])"
NOTHING = "redis.call('PING')"


def put(key: str, value: str) -> Step:
    return Step(SET, [key], [value])


@pytest.fixture
def trips(valkey: redis.Redis) -> RoundTrips:
    return RoundTrips(valkey)


class Gate:
    """A client whose first pipeline waits until the test opens the gate."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.reached, self.open = threading.Event(), threading.Event()
        self.pipelines = 0

    def pipeline(self, **options: Any) -> Any:  # redis-py's options
        self.pipelines += 1
        self.reached.set()
        assert self.open.wait(commands.PATIENCE)
        return self._client.pipeline(**options)


class TestChains:
    def test_each_step_has_its_own_keys_and_arguments(self, trips: RoundTrips) -> None:
        """The second step adds the number of its keys and of its arguments to its result."""
        chain = [put("a", "1"), Step(ADD, ["n", "unused"], [10]), Step(NOTHING, [], []), put("b", "2")]

        assert trips.run(chain) == [[b"1", 13, None, b"2"]]

    def test_a_failed_step_stops_its_chain_only(self, trips: RoundTrips, valkey: redis.Redis) -> None:
        """What comes after a step proves that the step succeeded."""
        broken = [put("text", "x"), Step(FAIL, ["text"], []), put("after", "x")]

        failed, other = trips.run(broken, [put("other", "y")])

        assert isinstance(failed, redis.ResponseError)
        assert other == [b"y"]
        assert valkey.mget(["text", "after", "other"]) == [b"x", None, b"y"]

    def test_binary_arguments_arrive_unchanged(self, trips: RoundTrips, valkey: redis.Redis) -> None:
        value = bytes(range(256))

        trips.run([Step(SET, ["a"], [value])])

        assert valkey.get("a") == value

    def test_without_chains_there_is_nothing_to_answer(self, trips: RoundTrips) -> None:
        assert trips.run() == []


class TestThreads:
    def test_chains_that_wait_share_a_round_trip(self, valkey: redis.Redis) -> None:
        """While the first round trip runs, fifteen other threads ask for one."""
        gate = Gate(valkey)
        trips = RoundTrips(cast("redis.Redis", gate))
        with ThreadPoolExecutor(16) as threads:
            first = threads.submit(trips.run, [put("0", "0")])
            assert gate.reached.wait(commands.PATIENCE)
            others = [threads.submit(trips.run, [put(str(number), str(number))]) for number in range(1, 16)]
            commands.until(lambda: len(trips._waiting) == len(others))
            gate.open.set()
            answers = [each.result(commands.PATIENCE) for each in (first, *others)]

        assert answers == [[[str(number).encode()]] for number in range(16)]
        assert gate.pipelines == 2

    def test_no_answer_is_lost_or_mixed_up(self, trips: RoundTrips) -> None:
        def many(thread: int) -> list[bool]:
            values = [f"{thread}-{number}" for number in range(50)]
            return [
                trips.run([put(value, value)], [put(value, "x"), put(value, value)])
                == [[value.encode()], [b"x", value.encode()]]
                for value in values
            ]

        with ThreadPoolExecutor(8) as threads:
            assert all(all(found) for found in threads.map(many, range(8)))

    def test_an_error_of_the_sender_reaches_all(self) -> None:
        """Memory can run out in the thread that sends the chains of the others."""

        class Short:
            def pipeline(self, **_: object) -> None:
                raise MemoryError

        (first, second) = RoundTrips(cast("redis.Redis", Short())).run([put("a", "1")], [put("b", "2")])

        assert isinstance(first, MemoryError)
        assert first is second


class TestScripts:
    def test_a_script_is_sent_once(self, trips: RoundTrips, valkey: redis.Redis) -> None:
        trips.run([put("a", "1")])
        valkey.config_resetstat()

        trips.run([put("a", "2")], [put("b", "3")])

        calls = cast("dict[str, dict[str, int]]", valkey.info("commandstats"))
        assert {name: calls[name]["calls"] for name in calls if "script" in name or "eval" in name} == {
            "cmdstat_evalsha": 2
        }

    def test_a_server_that_forgot_them_gets_them_again(self, trips: RoundTrips, valkey: redis.Redis) -> None:
        """The server was restarted. A chain whose script it knows runs only once."""
        trips.run([put("a", "1")], [Step(ADD, ["n"], [1])])
        valkey.script_flush()
        RoundTrips(valkey).run([Step(ADD, ["n"], [1])])

        assert trips.run([put("a", "2")], [Step(ADD, ["n"], [1])]) == [[b"2"], [5]]
        assert valkey.get("n") == b"3"
