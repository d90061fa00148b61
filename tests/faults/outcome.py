"""The plan of a run, and its outcome."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.accounts import Trouble
from tests.faults.storms import Storm


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    `jobs` and `seconds` are for each storm. Without `seconds`, a storm lasts as long as its jobs.

    Args:
        drains: Wait after each storm until all jobs have ended; otherwise only after the last storm.
        agrees: Check after each storm whether objects, records and tags agree; otherwise only at the end.
        hours: Draw storms at random for this long. Without it, each storm comes once.
        logs: The folder for the workers' logs.
        settings: Settings of Keyhole that differ from the defaults.
        rabbitmq: Use RabbitMQ as the broker. It is killed and frozen together with Valkey.
    """

    seed: int
    storms: Sequence[Storm]
    jobs: int
    seconds: float | None = None
    drains: bool = True
    agrees: bool = False
    hours: float | None = None
    logs: Path | None = None
    workers: int = 2
    processes: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)
    rabbitmq: bool = False


@dataclass
class Told:
    """The outcome of a storm.

    The times are in seconds: the storm, until the last job ended, until the last tag.
    """

    storm: str
    jobs: int = 0
    accepted: int = 0
    uncertain: int = 0
    seconds: float = 0.0
    drained_seconds: float = 0.0
    tagged_seconds: float = 0.0
    rescanned: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    strikes: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """The outcome of a run. The run has passed if `trouble` is empty."""

    seed: int
    jobs_per_second: float
    told: list[Told]
    dead_letters: int
    worker_exits: Mapping[int, int]
    cut_bytes: int
    trouble: Trouble
    gauges: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether Keyhole kept every promise."""
        return not self.trouble.count

    def total(self, name: str) -> Counter[str]:
        """The sum over all storms of `faults`, `strikes` or `ends`."""
        return sum((Counter(getattr(one, name)) for one in self.told), Counter())

    def json(self) -> str:
        """The outcome as one JSON object."""
        return json.dumps({**asdict(self), "holds": self.holds})


def line(told: Told, trouble: Trouble) -> str:
    happened = {**told.faults, **told.strikes}
    bad = f"; TROUBLE {dict(trouble.count)}" if trouble.count else ""
    return (
        f"{told.storm}: {told.jobs} jobs in {told.seconds} s, drained in {told.drained_seconds} s, "
        f"tagged in {told.tagged_seconds} s, "
        f"{dict(told.ends)}, {told.uncertain} uncertain, {told.rescanned} again; {happened}{bad}"
    )


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)
