"""What is known of a job that has no verdict yet: who works on it, who was lost with it, why it is undecided.

- A start is noted before the work, because a job that kills its worker cannot be noted after it. A start that
  finds another one, which never ended, and whose worker is dead, counts that worker as lost.
- An attempt that ends without a verdict is either *released* (nothing is known of the object: a time limit, a
  worker that was told to stop) or *undecided* (S3 or the network failed); neither counts as lost.

What it can't do: a worker that is killed between the start and the count of the one before it leaves that one
uncounted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import redis

from keyhole.jobs import ledger_scripts
from keyhole.store import keys

#: As much of an error as is kept, in characters.
LONGEST_ERROR: Final = 2000


class Start(NamedTuple):
    """The start of an attempt: how many workers were lost with the job, and the run of the Redis server."""

    lost: int
    run: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """How often a job's object stayed undecided: in all, for the last reason, and for how many seconds."""

    times: int
    alike: int
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """All attempts at a job; `reasons` counts those left undecided by reason, `error` is the last one's."""

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
    """The attempts of jobs in Redis. `seconds` is how long they are remembered after the last one."""

    def __init__(self, client: redis.Redis, *, seconds: int) -> None:
        self._client = client
        self._seconds = seconds
        self._start = client.register_script(ledger_scripts.START)
        self._release = client.register_script(ledger_scripts.RELEASE)
        self._undecided = client.register_script(ledger_scripts.UNDECIDED)

    def start(self, job_id: str, worker: str, is_alive: Callable[[str], bool]) -> Start:
        """Note that a worker starts a job; returns how many workers were lost with it.

        `is_alive` tells of a worker's name whether it lives. One that lives was not lost: the job was
        delivered twice, and both work on it.
        """
        before, lost, run = self._start(keys=[keys.attempts(job_id)], args=[worker, self._seconds])
        name = bytes(before).decode(errors="replace")
        if name not in {"", worker} and not is_alive(name):
            lost = self._client.hincrby(keys.attempts(job_id), "lost", 1)
        return Start(int(lost), bytes(run).decode())

    def release(self, job_ids: Sequence[str], worker: str) -> None:
        """Note that a worker's attempts at jobs ended, in order, without a verdict.

        A job that another worker has started since is left alone.
        """
        if not job_ids:
            return
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                self._release(keys=[keys.attempts(job_id)], args=[worker], client=pipe)
            pipe.execute()

    def undecided(self, job_id: str, reason: str, error: str, *, bucket: str = "") -> Undecided:
        """Note that an attempt left the object undecided, and why; `bucket`: count it among its failures."""
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
        """Note what is known of an attempt that does not end."""
        self._client.hset(
            keys.attempts(job_id), "error", error[:LONGEST_ERROR].encode(errors="backslashreplace")
        )

    def unfinished_among(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the jobs that somebody started and never ended."""
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(keys.attempts(job_id), "started")
            return {job_id for job_id, lost in zip(job_ids, pipe.execute(), strict=True) if lost}

    def history(self, job_id: str) -> History:
        """All that is known of the attempts at a job."""
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
