"""Debts of tags: which objects are to have which tags, noted before the first write and kept until they do.

    held: a writer is at it ──► settled: the tags were read back on the object that the verdict is about
      ▲       │        │
      │       │        └──► lost: the writer fell silent ──┐
      │       ▼                                            │
      └──── owed: due later, after a growing delay ◄───────┘

- One writer at a time holds an object's debt. Another one waits, or notes its own verdict in place of the
  first, and finds it owed.
- A writer that is killed between its write and its last look leaves a held debt behind. It is due when the
  writer is taken for lost.
- A write that got no answer may still have its effect later. So right tags are looked at once more,
  `LATE_SECONDS` after the last such write, even if another verdict was noted meanwhile.

What it can't do: as the ledger, it is as durable as its Redis. An effect that comes later than `LATE_SECONDS`
is not noticed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast
from uuid import uuid4

import redis

from keyhole.jobs import tag_debt_scripts
from keyhole.jobs.attempts import LONGEST_ERROR, History
from keyhole.jobs.delays import delay_after, jittered
from keyhole.results.tags import TAG_DEBT, TagDebt
from keyhole.store import keys

#: Seconds after which a writer is taken for lost, and between two of its signs of life.
LOST_SECONDS, RENEW_SECONDS = 60.0, 10.0
#: Seconds to wait for another writer, which makes some five requests; and from one look to the next.
_WAIT_SECONDS, _POLL_SECONDS = 15.0, 0.05
#: Seconds after which a debt is due again that somebody took and did not come to hold.
_TAKEN_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A debt that a writer holds, and how often and for how many seconds it was tried in vain."""

    debt: TagDebt
    token: str
    noted: str
    times: int
    owed_for: float


@dataclass(frozen=True, slots=True)
class Owed:
    """What is known of tags that could not be written yet."""

    times: int
    since: datetime | None
    history: History


class TagDebts:
    """The debts in Redis, through a client as `keyhole.store.connection.connect` makes it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._hold = client.register_script(tag_debt_scripts.HOLD)
        self._renew = client.register_script(tag_debt_scripts.RENEW)
        self._note = client.register_script(tag_debt_scripts.NOTE)
        self._settle = client.register_script(tag_debt_scripts.SETTLE)
        self._postpone = client.register_script(tag_debt_scripts.POSTPONE)
        self._give_up = client.register_script(tag_debt_scripts.GIVE_UP)
        self._take_due = client.register_script(tag_debt_scripts.TAKE_DUE)
        self._count_due = client.register_script(tag_debt_scripts.COUNT_DUE)

    def hold(self, debt: TagDebt) -> Hold | None:
        """Note a debt and hold it, in place of an older one on the object.

        Returns:
            `None` if another writer holds the object's debt and does not let go in time. Then nothing is
            noted.
        """
        until = time.monotonic() + _WAIT_SECONDS
        while (hold := self._held(_id(debt), _json(debt))) is None:
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_SECONDS)
        return hold

    def hold_recorded(self, object_id: str) -> Hold | None:
        """Hold the debt that is noted on an object; `None` if there is none, or another writer holds it."""
        return self._held(object_id, b"")

    def renew(self, hold: Hold) -> None:
        """Give a sign of life: the writer is still at it."""
        self._renew(keys=_keys(_id(hold.debt)), args=[_id(hold.debt), hold.token, LOST_SECONDS])

    def record(self, debt: TagDebt) -> None:
        """Note a debt that is owed from now on, in place of an older one on the object."""
        self._note(keys=_keys(_id(debt)), args=[_id(debt), uuid4().hex, _json(debt)])

    def settle(self, hold: Hold, *, unanswered: bool = False) -> None:
        """Strike a debt: the tags are right.

        While a write that got no answer may have its effect, it is kept, and due once more then.
        """
        self._settle(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=unanswered))

    def postpone(self, hold: Hold, reason: str, error: str, *, unanswered: bool = False) -> None:
        """Owe a debt for now, with a delay that grows."""
        seconds = jittered(delay_after(hold.times + 1))
        text = error[:LONGEST_ERROR].encode(errors="backslashreplace")
        self._postpone(
            keys=_keys(_id(hold.debt)),
            args=[*_args(hold, unanswered=unanswered), f"{seconds:.3f}", reason, text],
        )

    def give_up(self, hold: Hold) -> None:
        """Strike a debt that nobody is to pay any more."""
        self._give_up(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=False))

    def take_due(self, limit: int) -> list[str]:
        """The ids of up to `limit` objects whose debts are due. Nobody else is told of them for a while."""
        due = self._take_due(
            keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK],
            args=[limit, _TAKEN_SECONDS],
        )
        return [bytes(object_id).decode() for object_id in due]

    def count_due(self) -> int:
        """How many debts are due."""
        return int(self._count_due(keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK]))

    def count(self) -> int:
        """How many debts are owed: no writer is at them, and their tags were not right yet."""
        return self._client.zcard(keys.TAGS_OWED)

    def count_late(self) -> int:
        """How many debts have right tags that are looked at once more."""
        return self._client.zcard(keys.TAGS_LATE)

    def owed(self, bucket: str, key: str, version_id: str | None) -> Owed | None:
        """What is known of an object's debt; `None` if it owes nothing."""
        return self.owed_among([(bucket, key, version_id)])[0]

    def owed_among(self, objects: Sequence[tuple[str, str, str | None]]) -> list[Owed | None]:
        """What is known of the debts of objects (bucket, key, version), in their order."""
        pipeline = self._client.pipeline(transaction=False)
        for bucket, key, version_id in objects:
            pipeline.hgetall(keys.tag_debt(keys.object_id(bucket, key, version_id)))
        return [_owed(cast("dict[bytes, bytes]", found)) for found in pipeline.execute()]

    def _held(self, object_id: str, debt: bytes) -> Hold | None:
        token = uuid4().hex
        found = self._hold(keys=_keys(object_id), args=[object_id, token, LOST_SECONDS, debt])
        if not found:
            return None
        # As HOLD returns it.
        json, noted, times, owed_for = cast("tuple[bytes, bytes, int, bytes]", found)
        return Hold(TAG_DEBT.validate_json(json), token, noted.decode(), times, float(owed_for))


def _owed(found: dict[bytes, bytes]) -> Owed | None:
    if not found:
        return None
    fields = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
    since = fields.get("since")
    times = int(fields.get("times", 0))
    return Owed(
        times=times,
        since=None if since is None else datetime.fromtimestamp(float(since), UTC),
        history=History(0, times, _reasons(fields), fields.get("error", "")),
    )


def _id(debt: TagDebt) -> str:
    return keys.object_id(debt.bucket, debt.key, debt.version_id)


def _keys(object_id: str) -> list[str]:
    return [keys.tag_debt(object_id), keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK]


def _args(hold: Hold, *, unanswered: bool) -> list[bytes | str | float]:
    """What every script takes by which a writer lets go."""
    return [_id(hold.debt), hold.token, hold.noted, _json(hold.debt), int(unanswered)]


def _json(debt: TagDebt) -> bytes:
    return TAG_DEBT.dump_json(debt, exclude_defaults=True)


def _reasons(fields: dict[str, str]) -> dict[str, int]:
    return {
        name.partition(":")[2]: int(times) for name, times in fields.items() if name.startswith("reason:")
    }
