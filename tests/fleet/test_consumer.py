"""The consumer: a message that it refuses becomes a dead letter, even if Redis fails at first."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.asynchronous.timer import Timer

from keyhole.fleet import services as serving
from keyhole.fleet.consumer import Consumer
from keyhole.fleet.services import Services
from keyhole.intake.dead_letters import DeadLetters
from keyhole.settings import Settings
from tests.e2e.commands import until
from tests.fleet.desk import UNACKED, Desk


@pytest.fixture
def desk(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    services = Services(Settings(redis_url=valkey_url), os.getpid())
    monkeypatch.setattr(serving, "_services", services)
    monkeypatch.setattr("keyhole.fleet.consumer.KEEP_PAUSE", 0.05)
    desk = Desk(valkey_url)
    yield desk
    valkey.config_set("maxmemory", 0)
    desk.connection.close()
    services.redis.close()


class Loop:
    """A consumer and the timer of its event loop, which runs only when the test says so."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.consumer: Any = object.__new__(Consumer)
        self.consumer.timer = self.timer

    def turn(self) -> None:
        """Run the timers that are due."""
        _, entry = next(iter(self.timer))
        if entry is not None:
            entry()


def test_what_a_full_redis_does_not_keep_is_kept_once_it_has_room(desk: Desk, valkey: redis.Redis) -> None:
    loop = Loop()
    desk.publish()
    message = desk.take()
    valkey.config_set("maxmemory", 1)

    loop.consumer.refuse(message, "it is garbage")

    assert not message.acknowledged
    assert len(loop.timer) == 1
    valkey.config_set("maxmemory", 0)

    def kept() -> bool:
        loop.turn()
        return bool(message.acknowledged)

    until(kept)
    (letter,) = DeadLetters(valkey).letters()
    assert letter.reason == "it is garbage"
    until(lambda: valkey.hlen(UNACKED) == 0)
    assert len(loop.timer) == 0


def test_while_redis_is_full_a_refused_message_is_tried_again_after_a_pause(
    desk: Desk, valkey: redis.Redis
) -> None:
    loop = Loop()
    desk.publish()
    message = desk.take()
    valkey.config_set("maxmemory", 1)
    loop.consumer.refuse(message, "it is garbage")
    first = loop.timer.queue[0]

    def tried_again() -> bool:
        loop.turn()
        return loop.timer.queue[0] is not first

    until(tried_again)

    assert not message.acknowledged
    assert len(loop.timer) == 1


@pytest.mark.usefixtures("desk")
def test_a_message_of_which_redis_cannot_say_whether_it_is_a_copy_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop()
    handled: list[object] = []
    answers: list[Exception | None] = [redis.ConnectionError("away"), None]

    def not_signed(_message: object) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr("keyhole.fleet.consumer._not_signed", not_signed)
    monkeypatch.setattr("celery.worker.consumer.Consumer.create_task_handler", lambda _self: handled.append)
    loop.consumer.strategies = {"keyhole.scan": None}
    message = SimpleNamespace(headers={"task": "keyhole.scan"}, body=b"[[], {}, {}]")
    on_message = loop.consumer.create_task_handler()

    on_message(message)
    assert handled == []

    def looked_at() -> bool:
        loop.turn()
        return handled == [message]

    until(looked_at)


def test_the_loop_is_known_while_and_after_it_connects_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a task whose process was lost would be sent on the event loop.

    The loop would then wait for the broker.
    """
    hub = Hub()
    known: list[object] = []
    consumer: Any = object.__new__(Consumer)
    consumer.hub = hub
    monkeypatch.setattr("keyhole.fleet.consumer.HEARTBEAT.beat", lambda: None)
    monkeypatch.setattr(
        "celery.worker.consumer.Consumer.on_close", lambda _self: known.append(get_event_loop())
    )
    set_event_loop(hub)
    hub.reset()
    assert get_event_loop() is None
    try:
        consumer.on_close()
        assert known == [hub]
        assert get_event_loop() is hub
    finally:
        hub.close()
