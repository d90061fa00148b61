"""The Redis transport: no message is lost or doubled, even if Redis does not accept it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.util import _finalizer_registry  # type: ignore[attr-defined] # kombu registers there
from typing import Any

import pytest
import redis
from kombu import Exchange, Queue

from keyhole.fleet import services as serving
from keyhole.fleet.redis_transport import LAST_SECONDS, Backlog, Channel
from keyhole.fleet.services import Services
from keyhole.intake.dead_letters import DeadLetters
from keyhole.intake.refused import Refused
from keyhole.settings import Settings
from tests.e2e.commands import PATIENCE, until
from tests.fleet.desk import PREFIX, QUEUE, UNACKED, UNACKED_SINCE, Desk
from tests.in_time import ended_by


@pytest.fixture
def desk(valkey: redis.Redis, valkey_url: str) -> Iterator[Desk]:
    desk = Desk(valkey_url)
    yield desk
    valkey.config_set("maxmemory", 0)
    desk.connection.close()


def test_what_is_acknowledged_is_forgotten_soon(desk: Desk, valkey: redis.Redis) -> None:
    desk.publish()
    message = desk.take()
    until(lambda: valkey.hlen(UNACKED) == valkey.zcard(UNACKED_SINCE) == 1)
    assert valkey.llen(QUEUE) == 0

    message.ack()

    until(lambda: valkey.hlen(UNACKED) == valkey.zcard(UNACKED_SINCE) == 0)
    desk.connection.close()
    assert valkey.llen(QUEUE) == 0


def test_what_is_put_back_comes_again(desk: Desk, valkey: redis.Redis) -> None:
    desk.publish()
    message = desk.take()

    message.requeue()

    assert desk.take().delivery_tag == message.delivery_tag
    until(lambda: valkey.hlen(UNACKED) == 1)


def test_a_channel_that_closes_puts_back_what_is_not_acknowledged(desk: Desk, valkey: redis.Redis) -> None:
    desk.publish()
    desk.publish()
    desk.take().ack()
    desk.take()

    desk.connection.close()

    assert (valkey.llen(QUEUE), valkey.hlen(UNACKED), valkey.zcard(UNACKED_SINCE)) == (1, 0, 0)


def test_a_message_that_a_full_redis_does_not_note_is_worked_on(
    desk: Desk, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyhole.fleet.redis_transport.REST_SECONDS", 0.5)
    desk.publish()
    desk.publish()
    valkey.config_set("maxmemory", 1)

    message = desk.take()

    until(lambda: not desk.channel.qos.can_consume())
    assert valkey.hlen(UNACKED) == 0
    valkey.config_set("maxmemory", 0)
    until(lambda: valkey.hlen(UNACKED) == 1)
    message.ack()
    until(lambda: valkey.hlen(UNACKED) == 0)
    desk.take()


def test_the_event_loop_restores_nothing_and_the_sweep_what_is_overdue(
    desk: Desk, valkey: redis.Redis
) -> None:
    desk.publish()
    tag = desk.take().delivery_tag
    until(lambda: valkey.hlen(UNACKED) == 1)
    valkey.zincrby(UNACKED_SINCE, -61, tag)
    assert isinstance(desk.channel, Channel)

    desk.channel.qos.restore_visible()
    assert valkey.llen(QUEUE) == 0

    desk.channel.qos.restore_overdue()
    assert (valkey.llen(QUEUE), valkey.hlen(UNACKED)) == (1, 0)


def test_an_item_that_is_no_message_is_kept_once_a_full_redis_has_room(
    desk: Desk, valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyhole.fleet.redis_transport.RETRY_SECONDS", 0.05)
    services = Services(Settings(redis_url=valkey_url), os.getpid())
    monkeypatch.setattr(serving, "_services", services)
    item = b"garbage " * 1000
    valkey.lpush(QUEUE, item)
    valkey.config_set("maxmemory", 1)

    def taken() -> bool:
        with suppress(TimeoutError):
            desk.connection.drain_events(timeout=0.2)
        return valkey.llen(QUEUE) == 0

    until(taken)
    assert not list(DeadLetters(valkey).letters())
    assert not desk.channel.qos.can_consume()

    valkey.config_set("maxmemory", 0)
    until(desk.channel.qos.can_consume)
    (letter,) = DeadLetters(valkey).letters()
    whole = DeadLetters(valkey).get(letter.id)
    assert whole is not None
    assert Refused.of(whole.body or b"").body == item
    services.redis.close()


def test_a_frozen_redis_does_not_stop_who_takes_a_message(desk: Desk, valkey: redis.Redis) -> None:
    desk.publish()
    message = desk.take()
    until(lambda: valkey.hlen(UNACKED) == 1)
    pid = int(valkey.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        # A call that waited for Redis would raise an error after its timeout.
        desk.channel.qos.append(message, "another")
        desk.channel.maybe_refresh_binding_expiry()
        message.ack()
    finally:
        os.kill(pid, signal.SIGCONT)

    until(lambda: valkey.hkeys(UNACKED) == [b"another"])


@pytest.mark.slow
def test_closing_does_not_wait_long_for_a_frozen_redis(desk: Desk, valkey: redis.Redis) -> None:
    """The same is true for a channel with its own queue, which kombu deletes, as for remote commands."""
    channel: Any = desk.connection.channel()
    own = Queue("own", Exchange("commands", type="fanout"), auto_delete=True)(channel)
    own.declare()
    assert valkey.smembers(PREFIX + "_kombu.binding.commands")
    pid = int(valkey.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with ended_by(LAST_SECONDS):
            channel.close()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_channel_that_closes_deletes_its_own_queues(desk: Desk, valkey: redis.Redis) -> None:
    channel: Any = desk.connection.channel()
    Queue("own", Exchange("commands", type="fanout"), auto_delete=True)(channel).declare()

    channel.close()

    assert not valkey.exists(PREFIX + "_kombu.binding.commands")


def test_a_backlog_that_two_threads_close_does_later_what_it_is_told() -> None:
    """Two connections of a process can close at the same time, in different threads."""
    backlog = Backlog()
    may_end, closing = threading.Event(), threading.Barrier(3)
    backlog.add(may_end.wait)

    def close() -> None:
        closing.wait()
        backlog.close()

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    closing.wait()
    may_end.set()
    for thread in threads:
        thread.join()

    done = threading.Event()
    backlog.add(done.set)
    assert done.wait(PATIENCE)
    until(lambda: not backlog.is_behind)
    backlog.close()


def test_what_cannot_be_made_is_not_called_when_the_process_ends(desk: Desk) -> None:
    """kombu would put messages back then. This test asks for the messages of a closed connection."""
    channel: Any = desk.connection.channel()
    desk.connection.collect()

    before = dict(_finalizer_registry)
    with pytest.raises(AttributeError):
        channel.qos  # noqa: B018 - the first access makes it
    assert dict(_finalizer_registry) == before
