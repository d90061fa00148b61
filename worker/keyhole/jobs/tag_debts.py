"""Tag debts: the tags that objects are to have, recorded before the first write and kept until it succeeded.

    held: a writer writes the tags ──► settled: the tags were read back, on the object of the verdict
      ▲       │        │
      │       │        └──► lost: the writer sends no heartbeats ──┐
      │       ▼                                                    │
      └──── owed: due later, after a growing delay ◄───────────────┘

- One writer at a time holds an object's debt. Another writer waits, or records its own verdict in place of
  the first one, and that debt is owed.
- A writer that is killed between its write and its last check leaves a held debt. It is due when the writer
  counts as lost.
- A write that got no answer may take effect later. So tags that are correct are checked once more,
  `LATE_SECONDS` after the last such write, even if another verdict was recorded in the meantime.

What it can't do: like the ledger, it is as durable as its Redis. It does not notice a write that takes effect
later than `LATE_SECONDS`.
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

#: Seconds without a heartbeat after which a writer counts as lost, and between two heartbeats.
LOST_SECONDS, RENEW_SECONDS = 60.0, 10.0
#: Seconds to wait for another writer, which makes about five requests; and between two polls.
_WAIT_SECONDS, _POLL_SECONDS = 15.0, 0.05
#: Seconds after which a due debt is due again if no writer holds it by then.
_TAKEN_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A debt that a writer holds, the failed attempts to write its tags, and the seconds of failure so far.

    `token` is the writer's; `recorded_by` is the token of the process that recorded the debt.
    """

    debt: TagDebt
    token: str
    recorded_by: str
    times: int
    owed_for: float


@dataclass(frozen=True, slots=True)
class Owed:
    """The failed attempts to write an object's tags."""

    times: int
    since: datetime | None
    history: History


class TagDebts:
    """The debts in Redis, through a client of `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._hold = client.register_script(tag_debt_scripts.HOLD)
        self._renew = client.register_script(tag_debt_scripts.RENEW)
        self._record = client.register_script(tag_debt_scripts.RECORD)
        self._settle = client.register_script(tag_debt_scripts.SETTLE)
        self._postpone = client.register_script(tag_debt_scripts.POSTPONE)
        self._give_up = client.register_script(tag_debt_scripts.GIVE_UP)
        self._take_due = client.register_script(tag_debt_scripts.TAKE_DUE)
        self._count_due = client.register_script(tag_debt_scripts.COUNT_DUE)

    def hold(self, debt: TagDebt) -> Hold | None:
        """Record a debt in place of an older one of the object, and hold it.

        Returns:
            `None` if another writer holds the object's debt for too long. Then nothing is recorded.
        """
        until = time.monotonic() + _WAIT_SECONDS
        while (hold := self._held(_id(debt), _json(debt))) is None:
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_SECONDS)
        return hold

    def hold_recorded(self, object_id: str) -> Hold | None:
        """Hold the recorded debt of an object; `None` if there is none, or another writer holds it."""
        return self._held(object_id, b"")

    def renew(self, hold: Hold) -> None:
        """Send a heartbeat of the writer."""
        self._renew(keys=_keys(_id(hold.debt)), args=[_id(hold.debt), hold.token, LOST_SECONDS])

    def record(self, debt: TagDebt) -> None:
        """Record a debt that is owed from now on, in place of an older one of the object."""
        self._record(keys=_keys(_id(debt)), args=[_id(debt), uuid4().hex, _json(debt)])

    def settle(self, hold: Hold, *, unanswered: bool = False) -> None:
        """Settle a debt: the tags are correct.

        If a write without an answer may still take effect, the debt is kept, and is due once more after that.
        """
        self._settle(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=unanswered))

    def postpone(self, hold: Hold, reason: str, error: str, *, unanswered: bool = False) -> None:
        """Postpone a debt, with a delay that grows."""
        seconds = jittered(delay_after(hold.times + 1))
        text = error[:LONGEST_ERROR].encode(errors="backslashreplace")
        self._postpone(
            keys=_keys(_id(hold.debt)),
            args=[*_args(hold, unanswered=unanswered), f"{seconds:.3f}", reason, text],
        )

    def give_up(self, hold: Hold) -> None:
        """Remove a debt whose tags are not written."""
        self._give_up(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=False))

    def take_due(self, limit: int) -> list[str]:
        """Return the ids of up to `limit` objects whose debts are due. They are not due again for a while."""
        due = self._take_due(
            keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK],
            args=[limit, _TAKEN_SECONDS],
        )
        return [bytes(object_id).decode() for object_id in due]

    def count_due(self) -> int:
        """The number of debts that are due."""
        return int(self._count_due(keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK]))

    def count(self) -> int:
        """The number of debts that are owed: no writer holds them, and their tags are not correct yet."""
        return self._client.zcard(keys.TAGS_OWED)

    def count_late(self) -> int:
        """The number of debts with correct tags that are checked once more."""
        return self._client.zcard(keys.TAGS_LATE)

    def owed(self, bucket: str, key: str, version_id: str | None) -> Owed | None:
        """Return the failed attempts of an object's debt; `None` if it has no debt."""
        return self.owed_among([(bucket, key, version_id)])[0]

    def owed_among(self, objects: Sequence[tuple[str, str, str | None]]) -> list[Owed | None]:
        """Return what `owed` returns for each of the objects (bucket, key, version), in their order."""
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
        json, recorded_by, times, owed_for = cast("tuple[bytes, bytes, int, bytes]", found)
        return Hold(TAG_DEBT.validate_json(json), token, recorded_by.decode(), times, float(owed_for))


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
    """The arguments of every script by which a writer releases a debt."""
    return [_id(hold.debt), hold.token, hold.recorded_by, _json(hold.debt), int(unanswered)]


def _json(debt: TagDebt) -> bytes:
    return TAG_DEBT.dump_json(debt, exclude_defaults=True)


def _reasons(fields: dict[str, str]) -> dict[str, int]:
    return {
        name.partition(":")[2]: int(times) for name, times in fields.items() if name.startswith("reason:")
    }
