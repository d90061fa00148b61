"""Reads the gauges about all of Keyhole from Redis, with one script that takes one round trip.

`keyhole status` shows the same reading.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import redis

from keyhole.intake.audits.audit import AuditState
from keyhole.intake.dead_letters import LetterKind
from keyhole.jobs.message_age import age_in_redis
from keyhole.jobs.presence import PRESENT_SECONDS
from keyhole.jobs.queues import QUEUES
from keyhole.results.sinks.delivery import EVENT_SINKS
from keyhole.results.sinks.notifier import kind_of
from keyhole.store import keys
from keyhole.store.round_trips import RoundTrips, Step

#: The most dead letters whose kind is read. Older letters are counted as the kind `OTHER`.
MOST_LETTERS: Final = 5000
OTHER: Final = "other"
#: The most audits that are read, beginning with the latest audit, and the most buckets whose progress is
#: reported.
MOST_READ, MOST_AUDITS = 1000, 20
#: The most audits whose progress is read, and the most names of workers.
MOST_DETAILED, MOST_NAMES = 100, 100
#: The kinds of debts (`keyhole.jobs.debts`): tags and events that are still to be written or sent. The keys
#: are the names under which `keyhole status` shows them.
DEBTS: Final = {"tags": "tags", **{sink: kind_of(sink) for sink in EVENT_SINKS}}

_READ: Final = """
-- KEYS[1]   ledger:later           KEYS[2]   workers      KEYS[3]  dead
-- KEYS[4]   audits                 KEYS[5]   ledger:clock
-- KEYS[6…]  for each kind of debts: its set of owed debts
-- then      for each queue: ledger:open, ledger:held, and the broker's list (if the broker is this server)
-- ARGV[1]   the number of queues   ARGV[2]   the prefix of keys of dead letters
-- ARGV[3]   the prefix of keys of audits
-- ARGV[4]   seconds until records of workers expire
-- ARGV[5]   the most dead letters, ARGV[6] the most audits to read
-- ARGV[7]   the most audits whose progress is read, ARGV[8] the most names of workers
-- ARGV[9]   the number of kinds of debts
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
    local found = redis.call('HMGET', ARGV[3] .. id, 'state', 'spec', 'started', 'listed_all', 'reason')
    if found[1] == 'running' then running = running + 1 end
    if (found[1] == 'running' or found[1] == 'paused') and #audits < tonumber(ARGV[7]) then
        local totals = redis.call('HMGET', ARGV[3] .. id .. ':totals', 'listed', 'left_out',
            'unchanged', 'archived', 'scanned')
        audits[#audits + 1] = {id, found, totals}
    end
end

local owed = {}
for kind = 1, ARGV[9] do
    owed[kind] = redis.call('ZCARD', KEYS[5 + kind])
end

local queues, width = {}, (#KEYS - 5 - ARGV[9]) / ARGV[1]
for queue = 0, ARGV[1] - 1 do
    local first = 6 + ARGV[9] + queue * width
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
    redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[4], '+inf', 'LIMIT', 0, ARGV[8]),
    owed,
    string.format('%.3f', now),
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


class Backlog(NamedTuple):
    """The number of waiting messages of each queue, and the age in seconds of its oldest message.

    A queue is missing if its value is unknown.
    """

    messages: Mapping[str, int]
    oldest: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """The progress of an audit that is running or paused.

    `handled` counts the listed objects that are scanned or need no scan. If `listed_all` is true, `listed` is
    final. `seconds` is the time since the audit started. `reason` states why the audit is paused, or why it
    makes no progress.
    """

    id: str
    state: AuditState
    bucket: str
    prefix: str
    listed: int
    handled: int
    listed_all: bool
    seconds: float
    reason: str

    @property
    def ratio(self) -> float:
        """The share of the listed objects that is handled, from 0 to 1."""
        return min(1.0, self.handled / self.listed) if self.listed else 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of the gauges, and more details for `keyhole status`.

    `at` is the time in epoch seconds on the server's clock. `names` and `progresses` are limited
    (`MOST_NAMES`, `MOST_DETAILED`), but `workers` and `audits` count all workers and audits. `backlog` is
    `None` if the broker is not the Redis of the verdicts. `idle` contains, for each queue, the idle time in
    seconds of the ledger's entry that has been idle longest.
    """

    undecided: int
    workers: int
    dead: Mapping[str, int]
    audits: int
    progress: Mapping[str, float]
    unacknowledged: Mapping[str, int]
    idle: Mapping[str, float]
    backlog: Backlog | None = None
    at: float = 0.0
    names: Sequence[str] = ()
    progresses: Sequence[AuditProgress] = ()
    owed: Mapping[str, int] = field(default_factory=dict)


def oldest_seconds(backlog: Backlog, reading: Reading) -> dict[str, float]:
    """Return the age of the oldest message of each queue.

    RabbitMQ and SQS do not report the age of a message. Instead, use the idle time of the queue's entry that
    has been idle longest, which is the time since a worker last worked on the entry.
    """
    return {
        queue: backlog.oldest.get(queue, reading.idle.get(queue, 0.0) if length else 0.0)
        for queue, length in backlog.messages.items()
    }


class StoreReader:
    """Reads the gauges.

    Args:
        client: The Redis of the verdicts.
        prefix: The prefix of the broker's lists, if the broker is the same Redis; otherwise `None`.
    """

    def __init__(self, client: redis.Redis, *, prefix: str | None) -> None:
        self._round_trips = RoundTrips(client)
        self._prefix = prefix

    def read(self) -> Reading:
        """Read all gauges.

        Raises:
            redis.RedisError: Redis failed.
        """
        owing = [keys.debts(kind, "owed") for kind in DEBTS.values()]
        of_queues = []
        for queue in QUEUES:
            of_queues += [keys.ledger_open(queue), keys.ledger_held(queue)]
            if self._prefix is not None:
                of_queues.append(self._prefix + queue)
        step = Step(
            _READ,
            [keys.LEDGER_LATER, keys.WORKERS, keys.DEAD, keys.AUDITS, keys.LEDGER_CLOCK, *owing, *of_queues],
            [
                *(len(QUEUES), keys.dead_letter(""), keys.AUDIT_PREFIX),
                *(PRESENT_SECONDS, MOST_LETTERS, MOST_READ, MOST_DETAILED, MOST_NAMES, len(owing)),
            ],
        )
        answer = _answer(self._round_trips, step)
        undecided, workers, letters, running, audits, queues, names, owed, at = answer
        progresses = [
            progress
            for audit_id, fields, totals in audits
            if (progress := _audit_progress(audit_id, fields, totals, float(at))) is not None
        ]
        found = dict(zip(QUEUES, queues, strict=True))
        return Reading(
            undecided=undecided,
            workers=workers,
            dead=_kinds(letters),
            audits=running,
            progress=_progress(progresses),
            unacknowledged={queue: held for queue, (held, *_) in found.items()},
            idle={queue: float(idle or 0) for queue, (_, idle, *_) in found.items()},
            at=float(at),
            names=sorted(name.decode(errors="replace") for name in names),
            progresses=progresses,
            owed=dict(zip(DEBTS, owed, strict=True)),
            backlog=None if self._prefix is None else _backlog(length for _, _, *length in queues),
        )


class BrokerReader:
    """Reads the lengths of the queues from a Redis that is only the broker.

    Args:
        client: The Redis of the broker.
        prefix: The prefix of the broker's lists.
    """

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._round_trips = RoundTrips(client)
        self._prefix = prefix

    def read(self) -> Backlog:
        """Read the lengths and the oldest messages.

        Raises:
            redis.RedisError: Redis failed.
        """
        return _backlog(
            _answer(self._round_trips, Step(_LENGTHS, [self._prefix + queue for queue in QUEUES], []))
        )


def _answer(round_trips: RoundTrips, step: Step) -> Any:  # noqa: ANN401 - a script's answer has several types
    (answers,) = round_trips.run([step])
    if isinstance(answers, BaseException):
        raise answers
    return answers[0]


def _backlog(lists: Iterable[Sequence[Any]]) -> Backlog:
    """Return the backlog. `lists` contains the length and the last item of each queue's list."""
    now = time.time()
    found = dict(zip(QUEUES, lists, strict=True))
    return Backlog(
        {queue: length for queue, (length, _) in found.items()},
        {queue: age_in_redis(last, now) or 0.0 for queue, (_, last) in found.items()},
    )


def _kinds(letters: Sequence[bytes]) -> dict[str, int]:
    older, *pairs = letters
    found = {
        kind.decode(errors="replace"): int(count) for kind, count in zip(pairs[::2], pairs[1::2], strict=True)
    }
    kinds = {kind.value: found.pop(kind.value, 0) for kind in LetterKind}
    return {**kinds, OTHER: int(older) + sum(found.values())}


def _progress(audits: Sequence[AuditProgress]) -> dict[str, float]:
    """Return the progress of each bucket with running audits, for at most `MOST_AUDITS` buckets."""
    listed: dict[str, int] = {}
    handled: dict[str, int] = {}
    for audit in audits:
        bucket = audit.bucket
        if audit.state is not AuditState.RUNNING or (bucket not in listed and len(listed) >= MOST_AUDITS):
            continue
        listed[bucket] = listed.get(bucket, 0) + audit.listed
        handled[bucket] = handled.get(bucket, 0) + audit.handled
    return {bucket: min(1.0, handled[bucket] / total) if total else 0.0 for bucket, total in listed.items()}


def _audit_progress(
    audit_id: bytes, fields: Sequence[bytes | None], totals: Sequence[bytes | None], at: float
) -> AuditProgress | None:
    """Return the progress of an audit; `None` if this version cannot read its specification."""
    state, spec, started, listed_all, reason = ((value or b"").decode(errors="replace") for value in fields)
    try:
        parsed = json.loads(spec)
        bucket, prefix = str(parsed["bucket"]), str(parsed.get("prefix", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    listed, *handled = (int(count or 0) for count in totals)
    return AuditProgress(
        id=audit_id.decode(errors="replace"),
        state=AuditState(state),
        bucket=bucket,
        prefix=prefix,
        listed=listed,
        handled=sum(handled),
        listed_all=listed_all == "1",
        seconds=max(0.0, at - float(started or at)),
        reason=reason,
    )
