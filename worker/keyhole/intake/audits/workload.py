"""The work and the fleet of a planned audit, and the averages that a plan uses for unknown numbers."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from keyhole.intake.audits.batches import jobs_in_batch
from keyhole.intake.audits.costs import TagRequests, usual_tags

#: The numbers of GETs and bytes of an average scan. These are the averages of the table in `keyhole docs
#: cost`.
MEAN_GETS: Final = 2.6
MEAN_BYTES: Final = 726 * 1024
#: The number of rounds of an average scan, also from this table.
MEAN_ROUNDS: Final = 2
#: The maximum number of GETs that a scan sends at the same time (`keyhole.sources.s3`).
GETS_AT_ONCE: Final = 4
#: The CPU time of a worker process for one object, in seconds. `python -m tests.bench throughput` measured
#: about 3 ms for reading and inspecting the mix of images in `tests/bench/mix.py`, from a server on the same
#: machine. It takes about 1 ms more to record the verdict and to count it for the audit. The machine had two
#: cores and other work, so the time on a quiet or faster machine is probably shorter. Measure it there, and
#: pass it to `keyhole plan --cpu`.
MEAN_CPU_SECONDS: Final = 0.004


class Frozen(BaseModel):
    """A model whose values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Work(Frozen):
    """The objects of the audit, and the average numbers of requests, bytes and seconds that a scan needs."""

    objects: int
    gets: float = MEAN_GETS
    bytes: int = MEAN_BYTES
    cpu_seconds: float = MEAN_CPU_SECONDS
    #: Seconds from a request to the first byte of the answer.
    ttfb_seconds: float
    storage_class: str = "STANDARD"
    #: Whether workers also write the verdict as tags.
    tags: bool = False
    #: Whether the audit finds the owners of objects.
    owners: bool = False

    @property
    def tagging(self) -> TagRequests:
        """The requests for the tags of one object."""
        return usual_tags(tags=self.tags, owner=self.owners)

    @property
    def rounds(self) -> float:
        """The average number of rounds of a scan."""
        return max(min(self.gets, MEAN_ROUNDS), self.gets / GETS_AT_ONCE)


class Fleet(Frozen):
    """The workers, and the limits of the audit.

    `prefixes` is the number of prefixes that are audited at the same time, each by its own audit. `rate` is
    in requests per second; 0 means no limit.
    """

    processes: int
    threads: int
    prefixes: int = 1
    rate: float
    #: The maximum number of batches of one audit that are queued or in progress, and the maximum number of
    #: objects of one batch.
    outstanding: int
    batch_size: int

    @property
    def busy(self) -> int:
        """The number of processes that have work at the same time.

        Each of these processes needs its own batch.
        """
        return min(self.processes, self.outstanding * self.prefixes)

    @property
    def batch(self) -> int:
        """The number of objects in a batch."""
        return jobs_in_batch(self.batch_size, rate=self.rate, outstanding=self.outstanding)
