"""The counters of events in Redis: their number is bounded."""

import redis

from keyhole.intake.events.counters import EventCounters
from keyhole.store import keys


def test_only_known_names_are_counted(valkey: redis.Redis) -> None:
    EventCounters(valkey).add({"received": 2, "dead": 0, "ignored:Odd": 1, "from:aws": 1})

    assert valkey.hgetall(keys.EVENT_COUNTS) == {b"received": b"2"}


def test_names_from_messages_that_an_earlier_version_counted_are_removed(valkey: redis.Redis) -> None:
    """An earlier version counted ignored events under the names in the messages."""
    valkey.hset(keys.EVENT_COUNTS, mapping={f"ignored:{number}": 1 for number in range(700)})
    valkey.hset(keys.EVENT_COUNTS, mapping={"received": 5, "ignored": 700})
    counts = EventCounters(valkey)

    counts.add({"received": 1, "published": 1})

    assert counts.read() == {"received": 6, "ignored": 700, "published": 1}
    assert valkey.hlen(keys.EVENT_COUNTS) == 3


def test_a_few_such_names_are_not_read(valkey: redis.Redis) -> None:
    valkey.hset(keys.EVENT_COUNTS, mapping={"ignored:Odd": 1, "received": 5})

    assert EventCounters(valkey).read() == {"received": 5}


def test_a_hash_without_a_known_name_becomes_empty(valkey: redis.Redis) -> None:
    valkey.hset(keys.EVENT_COUNTS, mapping={f"ignored:{number}": 1 for number in range(700)})
    counts = EventCounters(valkey)

    counts.add({"dead": 0})

    assert counts.read() == {}
    assert valkey.exists(keys.EVENT_COUNTS) == 0
