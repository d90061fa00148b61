"""Debts: the tags and events that Keyhole still has to write or send after it has reached a verdict.

A debt is recorded before the first attempt to pay it, and removed when it is paid. A *writer* is a thread
that pays a debt: it writes tags (`jobs.tag_debts`), or sends an event to a sink (`jobs.deliveries`). There is
one set of debts for the tags, and one for each sink.

    held: a writer pays the debt ──► settled: the writer knows that the debt is paid
      ▲       │        │
      │       │        └──► lost: the writer sends no heartbeats ──┐
      │       ▼                                                    │
      └──── owed: due later, after a growing delay ◄───────────────┘

- Only one writer at a time holds a debt.
- If a writer is killed while it holds a debt, the debt stays held at first. The debt becomes due when the
  writer has sent no heartbeat for `LOST_SECONDS`.

What it can't do: if Redis loses its data, the debts are lost, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar, cast
from uuid import uuid4

import redis

from keyhole.jobs import debt_scripts
from keyhole.jobs.attempts import LONGEST_ERROR, History
from keyhole.jobs.delays import delay_after, jittered
from keyhole.store import keys

#: A writer without a heartbeat for LOST_SECONDS is lost. Writers send a heartbeat every RENEW_SECONDS.
LOST_SECONDS, RENEW_SECONDS = 60.0, 10.0
#: After `take_due` has returned a debt, no other call returns this debt for this many seconds.
_TAKEN_SECONDS: Final = 120.0

DebtT = TypeVar("DebtT")


@dataclass(frozen=True, slots=True)
class Hold(Generic[DebtT]):
    """A debt that a writer holds.

    `token` identifies the writer; `recorded_by` is the token of the process that recorded the debt. `times`
    counts the failed attempts to pay the debt; `owed_for` is the time since the first failure, in seconds.
    """

    debt: DebtT
    token: str
    recorded_by: str
    times: int
    owed_for: float


@dataclass(frozen=True, slots=True)
class Owed:
    """The failed attempts to pay a debt; `since` is the time of the first failure."""

    times: int
    since: datetime | None
    history: History


@dataclass(frozen=True, slots=True)
class Kind(Generic[DebtT]):
    """The properties that all debts of one kind have in common.

    Args:
        name: The name of the kind, which is a part of its keys in Redis.
        id_of: Returns the id of a debt. A newer debt with the same id replaces an older one.
        to_json, from_json: Convert a debt to JSON and back.
        late_seconds: If a write has no response, or its writer is lost, Keyhole assumes that the write takes
            effect within this many seconds, or never. 0 if a late write does no harm.
        longest_delay: The longest delay between two attempts, in seconds.
    """

    name: str
    id_of: Callable[[DebtT], str]
    to_json: Callable[[DebtT], bytes]
    from_json: Callable[[bytes], DebtT]
    late_seconds: float
    longest_delay: float


class Debts(Generic[DebtT]):
    """The debts of one kind in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis, kind: Kind[DebtT]) -> None:
        self._client = client
        self._kind = kind
        self._sets = [keys.debts(kind.name, part) for part in ("held", "owed", "late")]
        self._hold = client.register_script(debt_scripts.HOLD)
        self._renew = client.register_script(debt_scripts.RENEW)
        self._record = client.register_script(debt_scripts.RECORD)
        self._settle = client.register_script(debt_scripts.SETTLE)
        self._postpone = client.register_script(debt_scripts.POSTPONE)
        self._put_back = client.register_script(debt_scripts.PUT_BACK)
        self._give_up = client.register_script(debt_scripts.GIVE_UP)
        self._take_due = client.register_script(debt_scripts.TAKE_DUE)
        self._count_due = client.register_script(debt_scripts.COUNT_DUE)

    def try_hold(self, debt: DebtT) -> Hold[DebtT] | None:
        """Record a debt and hold it. The debt replaces an older debt with the same id.

        Returns:
            The held debt; `None` if another writer holds the older debt. In this case, the method records
            nothing.
        """
        return self._held(self._kind.id_of(debt), self._kind.to_json(debt))

    def hold_recorded(self, debt_id: str) -> Hold[DebtT] | None:
        """Hold a recorded debt; `None` if there is no such debt, or another writer holds the debt."""
        return self._held(debt_id, b"")

    def renew(self, hold: Hold[DebtT]) -> None:
        """Send a heartbeat for the writer of a held debt."""
        debt_id = self._kind.id_of(hold.debt)
        self._renew(keys=self._keys(debt_id), args=[debt_id, hold.token, LOST_SECONDS])

    def record(self, debt: DebtT, pipeline: redis.client.Pipeline | None = None) -> None:
        """Record a debt without holding it, in place of an older debt with the same id.

        The new debt is due at once. With a pipeline, the debt is recorded when the caller executes it.
        """
        debt_id = self._kind.id_of(debt)
        args: list[str | bytes] = [debt_id, uuid4().hex, self._kind.to_json(debt)]
        self._record(keys=self._keys(debt_id), args=args, client=pipeline)

    def settle(self, hold: Hold[DebtT], *, unanswered: bool = False) -> None:
        """Settle a debt that is paid.

        A write that S3 has not answered can still take effect. If there is such a write, keep the debt, and
        make it due once more later.
        """
        self._settle(keys=self._keys_of(hold), args=self._args(hold, unanswered=unanswered))

    def postpone(
        self, hold: Hold[DebtT], reason: str, error: str, *, unanswered: bool = False, at_least: float = 0
    ) -> None:
        """Postpone a debt after a failed attempt.

        The delay grows with each failure, and is at least `at_least` seconds.
        """
        seconds = max(jittered(delay_after(hold.times + 1, self._kind.longest_delay)), at_least)
        text = error[:LONGEST_ERROR].encode(errors="backslashreplace")
        self._postpone(
            keys=self._keys_of(hold),
            args=[*self._args(hold, unanswered=unanswered), f"{seconds:.3f}", reason, text],
        )

    def put_back(self, hold: Hold[DebtT], seconds: float, *, unanswered: bool = False) -> None:
        """Postpone a debt by `seconds` although no attempt to pay it has failed."""
        args = [*self._args(hold, unanswered=unanswered), f"{seconds:.3f}"]
        self._put_back(keys=self._keys_of(hold), args=args)

    def give_up(self, hold: Hold[DebtT]) -> None:
        """Remove a debt although it was not paid."""
        self._give_up(keys=self._keys_of(hold), args=self._args(hold, unanswered=False))

    def take_due(self, limit: int) -> list[str]:
        """Return the ids of up to `limit` debts that are due.

        For 120 seconds, these debts are not due again, so that other callers do not get the same ids.
        """
        due = self._take_due(keys=[*self._sets, keys.LEDGER_CLOCK], args=[limit, _TAKEN_SECONDS])
        return [bytes(debt_id).decode() for debt_id in due]

    def count_due(self) -> int:
        """The number of due debts."""
        return int(self._count_due(keys=[*self._sets, keys.LEDGER_CLOCK]))

    def count(self) -> int:
        """The number of owed debts, which a worker still has to pay."""
        return self._client.zcard(keys.debts(self._kind.name, "owed"))

    def count_late(self) -> int:
        """The number of debts that are paid and will be checked once more."""
        return self._client.zcard(keys.debts(self._kind.name, "late"))

    def owed_by_id(self, debt_ids: Sequence[str]) -> list[Owed | None]:
        """Return the failed attempts to pay each of these debts; `None` if there is no such debt."""
        pipeline = self._client.pipeline(transaction=False)
        for debt_id in debt_ids:
            pipeline.hgetall(keys.debt(self._kind.name, debt_id))
        return [_owed(cast("dict[bytes, bytes]", found)) for found in pipeline.execute()]

    def _held(self, debt_id: str, debt: bytes) -> Hold[DebtT] | None:
        token = uuid4().hex
        found = self._hold(
            keys=self._keys(debt_id), args=[debt_id, token, LOST_SECONDS, debt, self._kind.late_seconds]
        )
        if not found:
            return None
        # The four values that the script HOLD returns.
        json, recorded_by, times, owed_for = cast("tuple[bytes, bytes, int, bytes]", found)
        return Hold(self._kind.from_json(json), token, recorded_by.decode(), times, float(owed_for))

    def _keys(self, debt_id: str) -> list[str]:
        return [keys.debt(self._kind.name, debt_id), *self._sets, keys.LEDGER_CLOCK]

    def _keys_of(self, hold: Hold[DebtT]) -> list[str]:
        return self._keys(self._kind.id_of(hold.debt))

    def _args(self, hold: Hold[DebtT], *, unanswered: bool) -> list[bytes | str | float]:
        """The first arguments of the scripts with which a writer stops working on a debt."""
        kind = self._kind
        return [
            kind.id_of(hold.debt),
            hold.token,
            hold.recorded_by,
            kind.to_json(hold.debt),
            int(unanswered),
            kind.late_seconds,
        ]


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


def _reasons(fields: dict[str, str]) -> dict[str, int]:
    return {
        name.partition(":")[2]: int(times) for name, times in fields.items() if name.startswith("reason:")
    }
