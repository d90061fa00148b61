"""Attempts: which worker scans a job, how many workers were lost with it, and why it is still undecided.

- The start of an attempt is recorded before the work, because a job that kills its worker leaves no other
  trace. If the next start finds an attempt that never ended, and its worker is dead, that worker counts as
  lost.
- An attempt without a verdict is *released* or *undecided*, and does not count as lost. It is released if it
  was interrupted, for example by a time limit or because the worker was told to stop. It is undecided if S3
  or the network failed.

What it can't do: `start` records the new worker before it counts a lost one. If the new worker is killed in
between, the lost one is not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import redis

from keyhole.jobs import ledger_scripts
from keyhole.store import keys

#: The longest error that is kept, in characters.
LONGEST_ERROR: Final = 2000


class Start(NamedTuple):
    """The start of an attempt: how many workers were lost with the job, and the run of the Redis server.

    Each start of a Redis server has an id of its own, its `run_id`.
    """

    lost: int
    run: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """The undecided attempts at a job: all, those for the last reason, and seconds since the first."""

    times: int
    alike: int
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """All attempts at a job. `reasons` counts the undecided ones by reason; `error` is the last error."""

    lost: int
    undecided: int
    reasons: dict[str, int]
    error: str

    def __str__(self) -> str:
        """The history in one sentence, for a dead letter."""
        told = [f"{self.lost} workers were lost with it"] if self.lost else []
        told += [f"{times} times {reason}" for reason, times in sorted(self.reasons.items())]
        attempts = "; ".join(told) or "no attempt is known"
        return f"{attempts}. The last error: {self.error}" if self.error else attempts


class Attempts:
    """The attempts at jobs in Redis, which are kept for `seconds` after the last one."""

    def __init__(self, client: redis.Redis, *, seconds: int) -> None:
        self._client = client
        self._seconds = seconds
        self._start = client.register_script(ledger_scripts.START)
        self._release = client.register_script(ledger_scripts.RELEASE)
        self._undecided = client.register_script(ledger_scripts.UNDECIDED)

    def start(self, job_id: str, worker: str, is_alive: Callable[[str], bool]) -> Start:
        """Record that a worker starts an attempt, and return how many workers were lost with the job.

        `is_alive` returns whether the worker of a name is alive. A worker that is alive was not lost: the job
        was delivered twice, and both workers scan it.
        """
        before, lost, run = self._start(keys=[keys.attempts(job_id)], args=[worker, self._seconds])
        name = bytes(before).decode(errors="replace")
        if name not in {"", worker} and not is_alive(name):
            lost = self._client.hincrby(keys.attempts(job_id), "lost", 1)
        return Start(int(lost), bytes(run).decode())

    def release(self, job_ids: Sequence[str], worker: str) -> None:
        """Record that a worker's attempts at jobs were interrupted.

        If another worker has started a job since, its attempt is not changed.
        """
        if not job_ids:
            return
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                self._release(keys=[keys.attempts(job_id)], args=[worker], client=pipe)
            pipe.execute()

    def undecided(self, job_id: str, reason: str, error: str, *, bucket: str = "") -> Undecided:
        """Record that an attempt was undecided, and why; `bucket` counts it as a failure of that bucket."""
        times, alike, seconds = self._undecided(
            keys=[keys.attempts(job_id), keys.LEDGER_CLOCK],
            args=[
                reason,
                error[:LONGEST_ERROR].encode(errors="backslashreplace"),
                self._seconds,
                bucket,
                keys.FAILURES_PREFIX,
            ],
        )
        return Undecided(int(times), int(alike), float(seconds))

    def record_error(self, job_id: str, error: str) -> None:
        """Record the error of an attempt that does not end."""
        self._client.hset(
            keys.attempts(job_id), "error", error[:LONGEST_ERROR].encode(errors="backslashreplace")
        )

    def unfinished_among(self, job_ids: Sequence[str]) -> set[str]:
        """Return those of the jobs that have an attempt that never ended."""
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(keys.attempts(job_id), "started")
            return {job_id for job_id, lost in zip(job_ids, pipe.execute(), strict=True) if lost}

    def history(self, job_id: str) -> History:
        """Return all that is known of the attempts at a job."""
        found = cast("dict[bytes, bytes]", self._client.hgetall(keys.attempts(job_id)))
        fields = {name.decode(): value for name, value in found.items()}
        reasons = {
            name.partition(":")[2]: int(times) for name, times in fields.items() if name.startswith("reason:")
        }
        return History(
            lost=int(fields.get("lost", 0)),
            undecided=int(fields.get("undecided", 0)),
            reasons=reasons,
            error=fields.get("error", b"").decode(errors="replace"),
        )
