"""Records the attempts to scan each job: the current worker, the number of lost workers, and the failures.

- A worker records the start of an attempt before it scans, because a scan that kills its worker leaves no
  other trace. The worker that starts the next attempt checks whether the end of the previous attempt is
  recorded. If the end is not recorded, and the previous worker is dead, the previous worker is counted as
  lost.
- An attempt that ends without a verdict is *released* or *undecided*; its worker is not counted as lost. The
  attempt is released if it was interrupted, for example by a time limit or by the shutdown of the worker. It
  is undecided if S3, the network or the scanner failed.

What it can't do: `start` first records the new worker, and then counts the lost worker. If the new worker is
killed between these two steps, the lost worker is never counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import redis

from keyhole.jobs import ledger_scripts
from keyhole.store import keys
from keyhole.store.round_trips import Step

#: Longer error messages are cut to this number of characters.
LONGEST_ERROR: Final = 2000


class Start(NamedTuple):
    """The start of an attempt at a job.

    `lost` is the number of workers that were lost so far while they scanned the job. `run` is the `run_id` of
    the Redis server, which changes whenever the server restarts. `Ledger.marking` compares `run` with the
    server's current `run_id`, and so detects a restart during the attempt.
    """

    lost: int
    run: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """The number of undecided attempts at a job.

    `times` counts all undecided attempts; `alike` counts the undecided attempts with the same reason as the
    last attempt. `seconds` is the time since the first undecided attempt.
    """

    times: int
    alike: int
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """A summary of all attempts at a job.

    `lost` is the number of lost workers, `undecided` the number of undecided attempts. `reasons` counts the
    undecided attempts by reason code. `error` is the last error message.
    """

    lost: int
    undecided: int
    reasons: dict[str, int]
    error: str

    def __str__(self) -> str:
        """The history in one line, for a dead letter."""
        told = [f"workers lost while they scanned it: {self.lost}"] if self.lost else []
        told += [
            f"attempts that failed with {reason}: {times}" for reason, times in sorted(self.reasons.items())
        ]
        attempts = "; ".join(told) or "no attempts are recorded"
        return f"{attempts}. The last error: {self.error}" if self.error else attempts


class Attempts:
    """The records of attempts in Redis.

    The record of a job's attempts expires `seconds` after the last attempt.
    """

    def __init__(self, client: redis.Redis, *, seconds: int) -> None:
        self._client = client
        self._seconds = seconds
        self._start = client.register_script(ledger_scripts.START)
        self._release = client.register_script(ledger_scripts.RELEASE)
        self._undecided = client.register_script(ledger_scripts.UNDECIDED)

    def start(self, job_id: str, worker: str, is_alive: Callable[[str], bool]) -> Start:
        """Record that a worker starts an attempt, and return how many workers this job has lost so far.

        `is_alive` takes the name of a worker and returns whether it is alive. If the worker of an unfinished
        attempt is alive, that worker was not lost: the broker delivered the job twice, and both workers scan
        the object.
        """
        step = self.starting(job_id, worker)
        return self.started(job_id, worker, is_alive, self._start(keys=step.keys, args=step.args))

    def starting(self, job_id: str, worker: str) -> Step:
        """Return a step (`store.round_trips`) that records the start of an attempt.

        Pass the answer of Redis to `started`.
        """
        return Step(ledger_scripts.START, [keys.attempts(job_id)], [worker, self._seconds])

    def started(
        self, job_id: str, worker: str, is_alive: Callable[[str], bool], answer: Sequence[Any]
    ) -> Start:
        """Return the same as `start`, from the answer of Redis to the step that `starting` returned."""
        before, lost, run = answer
        name = bytes(before).decode(errors="replace")
        if name not in {"", worker} and not is_alive(name):
            lost = self._client.hincrby(keys.attempts(job_id), "lost", 1)
        return Start(int(lost), bytes(run).decode())

    def release(self, job_ids: Sequence[str], worker: str) -> None:
        """Record that a worker's attempts at these jobs were interrupted.

        If another worker has already started the next attempt at a job, this method does not change that
        attempt.
        """
        if not job_ids:
            return
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                self._release(keys=[keys.attempts(job_id)], args=[worker], client=pipe)
            pipe.execute()

    def undecided(self, job_id: str, reason: str, error: str, *, bucket: str = "") -> Undecided:
        """Record an undecided attempt and its reason code.

        If `bucket` is not empty, also count a failure of that bucket for the current minute.
        """
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
        """Record an error message of an attempt that has not ended."""
        self._client.hset(
            keys.attempts(job_id), "error", error[:LONGEST_ERROR].encode(errors="backslashreplace")
        )

    def unfinished_among(self, job_ids: Sequence[str]) -> set[str]:
        """Return the ids of the jobs whose last attempt has no recorded end."""
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(keys.attempts(job_id), "started")
            return {job_id for job_id, lost in zip(job_ids, pipe.execute(), strict=True) if lost}

    def history(self, job_id: str) -> History:
        """Return a summary of the attempts at a job."""
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
