"""Gauges that a process reads from Redis when it answers a request for its metrics.

Redis reads all gauges in one script, and so in one round trip. The reading takes place in a thread, and the
page waits for it for at most `WAIT_SECONDS`. So the page always answers soon, even if Redis, the broker or
the name server does not. The page then has `keyhole_store_up 0`, and no other gauge.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyhole.intake.dead_letters import LetterKind
from keyhole.jobs.message_age import age_in_redis
from keyhole.jobs.presence import PRESENT_SECONDS
from keyhole.jobs.queues import QUEUES
from keyhole.metrics import table
from keyhole.metrics.table import Metric
from keyhole.store import keys
from keyhole.store.round_trips import RoundTrips, Step

log = logging.getLogger(__name__)

#: A process reads the gauges at most once in this many seconds.
FRESH_SECONDS: Final = 5.0
#: The longest time, in seconds, for which a page waits for the gauges.
WAIT_SECONDS: Final = 2.0
#: The longest wait, in seconds, for one response of Redis.
ANSWER_SECONDS: Final = 1.0
#: The most dead letters whose kind is read. The kind of older letters is counted as `OTHER`.
MOST_LETTERS: Final = 5000
OTHER: Final = "other"
#: The most audits that are read, latest first, and the most buckets with a progress.
MOST_READ, MOST_AUDITS = 1000, 20

_READ: Final = """
-- KEYS[1]   ledger:later           KEYS[2]   workers      KEYS[3]  dead
-- KEYS[4]   audits                 KEYS[5]   ledger:clock
-- KEYS[6…]  for each queue: ledger:open, ledger:held, and the broker's list (if the broker is this server)
-- ARGV[1]   the number of queues   ARGV[2]   the prefix of keys of dead letters
-- ARGV[3]   the prefix of keys of audits
-- ARGV[4]   seconds until records of workers expire
-- ARGV[5]   the most dead letters, ARGV[6] the most audits to read
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local clock = redis.call('HMGET', KEYS[5], 'server', 'ledger')
local ledger_now = now
if clock[1] and clock[2] then
    ledger_now = clock[2] + math.max(0, now - clock[1])
end

local kinds = {}
local dead = redis.call('ZREVRANGE', KEYS[3], 0, ARGV[5] - 1)
for _, id in ipairs(dead) do
    local kind = redis.call('HGET', ARGV[2] .. id, 'kind') or ''
    kinds[kind] = (kinds[kind] or 0) + 1
end
local letters = {tostring(redis.call('ZCARD', KEYS[3]) - #dead)}
for kind, count in pairs(kinds) do
    letters[#letters + 1] = kind
    letters[#letters + 1] = tostring(count)
end

local running, audits = 0, {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[4], 0, ARGV[6] - 1)) do
    local found = redis.call('HMGET', ARGV[3] .. id, 'state', 'spec')
    if found[1] == 'running' then
        running = running + 1
        if #audits < 100 then
            local totals = redis.call('HMGET', ARGV[3] .. id .. ':totals', 'listed', 'left_out',
                'unchanged', 'archived', 'scanned')
            audits[#audits + 1] = {found[2] or '', totals}
        end
    end
end

local queues, width = {}, (#KEYS - 5) / ARGV[1]
for queue = 0, ARGV[1] - 1 do
    local first = 6 + queue * width
    local oldest = redis.call('ZRANGE', KEYS[first], 0, 0, 'WITHSCORES')
    local idle = oldest[2] and string.format('%.3f', math.max(0, ledger_now - oldest[2])) or false
    local messages, last = false, false
    if width == 3 then
        messages = redis.call('LLEN', KEYS[first + 2])
        last = redis.call('LINDEX', KEYS[first + 2], -1)
    end
    queues[#queues + 1] = {redis.call('ZCARD', KEYS[first + 1]), idle, messages, last}
end
return {
    redis.call('ZCARD', KEYS[1]),
    redis.call('ZCOUNT', KEYS[2], now - ARGV[4], '+inf'),
    letters,
    running,
    audits,
    queues,
}
"""

_LENGTHS: Final = """
-- KEYS  the broker's lists of the queues
-- returns for each list its length and its last item
local found = {}
for number, key in ipairs(KEYS) do
    found[number] = {redis.call('LLEN', key), redis.call('LINDEX', key, -1)}
end
return found
"""


@dataclass(slots=True)
class Reading:
    """The values of the gauges. `queues` contains only the queues whose messages could be counted."""

    undecided: int
    workers: int
    dead: Mapping[str, int]
    audits: int
    progress: Mapping[str, float]
    unacknowledged: Mapping[str, int]
    messages: dict[str, int] = field(default_factory=dict)
    oldest: dict[str, float] = field(default_factory=dict)


#: Reads the lengths of the queues, and the age of the oldest message of each queue if it is known.
Lengths = Callable[[], tuple[Mapping[str, int], Mapping[str, float]]]


class StoreReader:
    """Reads the gauges.

    Args:
        client: The Redis of the verdicts.
        prefix: The prefix of the broker's lists, if the broker is the same Redis; otherwise `None`.
        lengths: If the broker is another server, reads the lengths of the queues.
    """

    def __init__(self, client: redis.Redis, *, prefix: str | None, lengths: Lengths | None = None) -> None:
        self._round_trips = RoundTrips(client)
        self._prefix = prefix
        self._lengths = lengths

    def read(self) -> Reading:
        """Read all gauges.

        Raises:
            redis.RedisError: Redis failed.
        """
        of_queues = []
        for queue in QUEUES:
            of_queues += [keys.ledger_open(queue), keys.ledger_held(queue)]
            if self._prefix is not None:
                of_queues.append(self._prefix + queue)
        step = Step(
            _READ,
            [keys.LEDGER_LATER, keys.WORKERS, keys.DEAD, keys.AUDITS, keys.LEDGER_CLOCK, *of_queues],
            [
                *(len(QUEUES), keys.dead_letter(""), keys.AUDIT_PREFIX),
                *(PRESENT_SECONDS, MOST_LETTERS, MOST_READ),
            ],
        )
        (answers,) = self._round_trips.run([step])
        if isinstance(answers, BaseException):
            raise answers
        return self._parsed(answers[0])

    def _parsed(self, answer: Any) -> Reading:  # noqa: ANN401 - the script's answer has several types
        undecided, workers, letters, running, audits, queues = answer
        reading = Reading(
            undecided=undecided,
            workers=workers,
            dead=_kinds(letters),
            audits=running,
            progress=_progress(audits),
            unacknowledged={queue: found[0] for queue, found in zip(QUEUES, queues, strict=True)},
        )
        idle = {queue: float(found[1]) for queue, found in zip(QUEUES, queues, strict=True) if found[1]}
        now = time.time()
        if self._prefix is not None:
            for queue, (_, _, messages, last) in zip(QUEUES, queues, strict=True):
                reading.messages[queue] = messages
                reading.oldest[queue] = age_in_redis(last, now) or 0.0
        elif self._lengths is not None:
            messages, ages = self._lengths()
            reading.messages.update(messages)
            # RabbitMQ and SQS do not report the age of a message. The ledger states since when no worker has
            # worked on the entry that is idle longest.
            reading.oldest.update(
                {
                    queue: ages.get(queue, idle.get(queue, 0.0) if length else 0.0)
                    for queue, length in messages.items()
                }
            )
        return reading


def lengths_in_redis(client: redis.Redis, prefix: str) -> Lengths:
    """Return a function that reads the lengths of the queues from a Redis that is only the broker."""
    round_trips = RoundTrips(client)

    def lengths() -> tuple[Mapping[str, int], Mapping[str, float]]:
        (answers,) = round_trips.run([Step(_LENGTHS, [prefix + queue for queue in QUEUES], [])])
        if isinstance(answers, redis.RedisError):
            return {}, {}
        if isinstance(answers, BaseException):
            raise answers
        found = dict(zip(QUEUES, answers[0], strict=True))
        now = time.time()
        return (
            {queue: length for queue, (length, _) in found.items()},
            {queue: age_in_redis(last, now) or 0.0 for queue, (_, last) in found.items()},
        )

    return lengths


def _kinds(letters: Sequence[bytes]) -> dict[str, int]:
    older, *pairs = letters
    found = {
        kind.decode(errors="replace"): int(count) for kind, count in zip(pairs[::2], pairs[1::2], strict=True)
    }
    kinds = {kind.value: found.pop(kind.value, 0) for kind in LetterKind}
    return {**kinds, OTHER: int(older) + sum(found.values())}


def _progress(audits: Sequence[Any]) -> dict[str, float]:
    """Return the progress of each bucket, for at most `MOST_AUDITS` buckets."""
    listed: dict[str, int] = {}
    handled: dict[str, int] = {}
    for spec, totals in audits:
        try:
            bucket = str(json.loads(spec)["bucket"])
        except (ValueError, KeyError, TypeError):
            continue
        if bucket not in listed and len(listed) >= MOST_AUDITS:
            continue
        total, *parts = (int(count or 0) for count in totals)
        listed[bucket] = listed.get(bucket, 0) + total
        handled[bucket] = handled.get(bucket, 0) + sum(parts)
    return {bucket: min(1.0, handled[bucket] / total) if total else 0.0 for bucket, total in listed.items()}


class StoreGauges(Collector):
    """The gauges on the page.

    Args:
        read: Reads the gauges.
        guard: The thread that reads does so in a `with guard()` block.
    """

    def __init__(
        self, read: Callable[[], Reading], guard: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._read = read
        self._guard = guard
        self._lock = threading.Lock()
        self._running: threading.Event | None = None
        self._reading: Reading | None = None
        self._read_at = float("-inf")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        reading = self._latest()
        yield _gauge(table.STORE_UP, {(): float(reading is not None)})
        if reading is None:
            return
        yield _gauge(table.QUEUE_MESSAGES, _by_label(reading.messages))
        yield _gauge(table.QUEUE_UNACKNOWLEDGED, _by_label(reading.unacknowledged))
        yield _gauge(table.QUEUE_OLDEST, _by_label(reading.oldest))
        yield _gauge(table.UNDECIDED, {(): reading.undecided})
        yield _gauge(table.DEAD, _by_label(reading.dead))
        yield _gauge(table.WORKERS, {(): reading.workers})
        yield _gauge(table.AUDITS, {(): reading.audits})
        yield _gauge(table.AUDIT_PROGRESS, _by_label(reading.progress))

    def _latest(self) -> Reading | None:
        """Return a reading that is at most `FRESH_SECONDS` old; `None` if Redis failed or is too slow."""
        with self._lock:
            if time.monotonic() - self._read_at < FRESH_SECONDS:
                return self._reading
            if self._running is None:
                self._running = threading.Event()
                threading.Thread(target=self._run, args=(self._running,), name="gauges", daemon=True).start()
            done = self._running
        if not done.wait(WAIT_SECONDS):
            return None
        with self._lock:
            return self._reading

    def _run(self, done: threading.Event) -> None:
        reading: Reading | None = None
        try:
            with self._guard():
                reading = self._read()
        except redis.RedisError as error:
            log.debug("the gauges cannot be read: %s", error)
        except Exception:
            log.exception("the gauges cannot be read")
        finally:
            with self._lock:
                self._reading, self._read_at, self._running = reading, time.monotonic(), None
            done.set()


def _by_label(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(label,): value for label, value in values.items()}


def _gauge(metric: Metric, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
