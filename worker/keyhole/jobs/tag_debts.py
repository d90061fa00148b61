"""Tag debts: for each object, the tags that Keyhole still has to write to it.

A debt is recorded before the first attempt to write the tags, and removed when the tags are on the object.

    held: a writer writes the tags ──► settled: the writer read the correct tags back from the object
      ▲       │        │
      │       │        └──► lost: the writer sends no heartbeats ──┐
      │       ▼                                                    │
      └──── owed: due later, after a growing delay ◄───────────────┘

- Only one writer at a time holds an object's debt. A second writer waits for up to `_WAIT_SECONDS`. If the
  first writer has not finished by then, the second writer records a debt with the tags of its own verdict,
  which replaces the first debt. The new debt is *owed*: a worker writes its tags later.
- If a writer is killed between its write and its last check, its debt stays held. The debt becomes due when
  the writer's heartbeats have been missing for `LOST_SECONDS`.
- A write to which S3 did not respond can still take effect later. So even tags that were read back correctly
  are checked once more, `LATE_SECONDS` after the last write without a response. The check also takes place if
  another verdict was recorded in the meantime.

What it can't do: like the ledger, a debt is only as durable as its Redis. If a write takes effect later than
`LATE_SECONDS`, Keyhole does not notice the wrong tags.
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

#: A writer without a heartbeat for LOST_SECONDS is lost. Writers send a heartbeat every RENEW_SECONDS.
LOST_SECONDS, RENEW_SECONDS = 60.0, 10.0
#: How long a writer waits for another writer of the same object, and how often it checks whether the other
#: writer has finished, in seconds. A writer sends about five requests to S3.
_WAIT_SECONDS, _POLL_SECONDS = 15.0, 0.05
#: `take_due` returns a debt again after this many seconds if no writer holds it by then.
_TAKEN_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A debt that a writer holds.

    `token` identifies the writer; `recorded_by` is the token of the process that recorded the debt. `times`
    counts the failed attempts to write the tags; `owed_for` is the time since the first failure, in seconds.
    """

    debt: TagDebt
    token: str
    recorded_by: str
    times: int
    owed_for: float


@dataclass(frozen=True, slots=True)
class Owed:
    """The failed attempts to write an object's tags; `since` is the time of the first failure."""

    times: int
    since: datetime | None
    history: History


class TagDebts:
    """The debts in Redis. The client comes from `keyhole.store.connection.connect`."""

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
        """Record a debt, which replaces an older debt of the same object, and hold it.

        Returns:
            The held debt. If another writer still holds the object's debt after 15 seconds, the method
            records nothing and returns `None`.
        """
        until = time.monotonic() + _WAIT_SECONDS
        while (hold := self._held(_id(debt), _json(debt))) is None:
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_SECONDS)
        return hold

    def hold_recorded(self, object_id: str) -> Hold | None:
        """Hold the recorded debt of an object; `None` if it has no debt, or another writer holds the debt."""
        return self._held(object_id, b"")

    def renew(self, hold: Hold) -> None:
        """Send a heartbeat for the writer of a held debt."""
        self._renew(keys=_keys(_id(hold.debt)), args=[_id(hold.debt), hold.token, LOST_SECONDS])

    def record(self, debt: TagDebt) -> None:
        """Record a debt without holding it, in place of an older debt of the object.

        The new debt is due at once.
        """
        self._record(keys=_keys(_id(debt)), args=[_id(debt), uuid4().hex, _json(debt)])

    def settle(self, hold: Hold, *, unanswered: bool = False) -> None:
        """Settle a debt whose tags are now correct.

        If an unanswered write can still take effect, keep the debt: its tags are checked once more later.
        """
        self._settle(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=unanswered))

    def postpone(self, hold: Hold, reason: str, error: str, *, unanswered: bool = False) -> None:
        """Postpone a debt after a failed attempt. The delay grows with each failure."""
        seconds = jittered(delay_after(hold.times + 1))
        text = error[:LONGEST_ERROR].encode(errors="backslashreplace")
        self._postpone(
            keys=_keys(_id(hold.debt)),
            args=[*_args(hold, unanswered=unanswered), f"{seconds:.3f}", reason, text],
        )

    def give_up(self, hold: Hold) -> None:
        """Remove a debt although its tags were not written."""
        self._give_up(keys=_keys(_id(hold.debt)), args=_args(hold, unanswered=False))

    def take_due(self, limit: int) -> list[str]:
        """Return the ids of up to `limit` objects whose debts are due.

        The debts are not due again for 120 seconds, so that other callers do not get the same ids.
        """
        due = self._take_due(
            keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK],
            args=[limit, _TAKEN_SECONDS],
        )
        return [bytes(object_id).decode() for object_id in due]

    def count_due(self) -> int:
        """The number of due debts."""
        return int(self._count_due(keys=[keys.TAGS_HELD, keys.TAGS_OWED, keys.TAGS_LATE, keys.LEDGER_CLOCK]))

    def count(self) -> int:
        """The number of owed debts, whose tags a worker still has to write."""
        return self._client.zcard(keys.TAGS_OWED)

    def count_late(self) -> int:
        """The number of debts whose tags are correct and will be checked once more."""
        return self._client.zcard(keys.TAGS_LATE)

    def owed(self, bucket: str, key: str, version_id: str | None) -> Owed | None:
        """Return the failed attempts to write an object's tags; `None` if the object has no debt."""
        return self.owed_among([(bucket, key, version_id)])[0]

    def owed_among(self, objects: Sequence[tuple[str, str, str | None]]) -> list[Owed | None]:
        """Return the result of `owed` for each of the objects (bucket, key, version), in the same order."""
        pipeline = self._client.pipeline(transaction=False)
        for bucket, key, version_id in objects:
            pipeline.hgetall(keys.tag_debt(keys.object_id(bucket, key, version_id)))
        return [_owed(cast("dict[bytes, bytes]", found)) for found in pipeline.execute()]

    def _held(self, object_id: str, debt: bytes) -> Hold | None:
        token = uuid4().hex
        found = self._hold(keys=_keys(object_id), args=[object_id, token, LOST_SECONDS, debt])
        if not found:
            return None
        # The four values that the script HOLD returns.
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
    """The arguments that every script for releasing a debt takes first."""
    return [_id(hold.debt), hold.token, hold.recorded_by, _json(hold.debt), int(unanswered)]


def _json(debt: TagDebt) -> bytes:
    return TAG_DEBT.dump_json(debt, exclude_defaults=True)


def _reasons(fields: dict[str, str]) -> dict[str, int]:
    return {
        name.partition(":")[2]: int(times) for name, times in fields.items() if name.startswith("reason:")
    }
