"""The status of a fleet at one time, and the rates of its audits, for `keyhole status` and the dashboard."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from keyhole.intake.audits.audit import AuditState
from keyhole.jobs.work_now import ProcessNow
from keyhole.metrics.store_reader import AuditProgress, Backlog, Reading

#: The rate of an audit is the average over this many seconds. An audit counts the objects of a batch when the
#: whole batch is done, so a shorter time would show large jumps.
RATE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The status at one time.

    Args:
        reading: The reading from Redis that the metrics also use.
        backlog: The waiting messages; empty if they are unknown.
        work: The work of each busy process.
        rulesets: The ruleset of each worker that takes work; `None` if the worker does not state it.
    """

    reading: Reading
    backlog: Backlog
    work: tuple[ProcessNow, ...]
    rulesets: Mapping[str, str | None] = field(default_factory=dict)


class Rates:
    """Computes how many objects per second each audit handles.

    After the first reading, the rate is the average since the audit's start. Later, the rate is the average
    over the last `RATE_SECONDS`.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}
        self._rates: dict[str, float] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Update the rates."""
        at = snapshot.reading.at
        for audit in snapshot.reading.progresses:
            # If this is the first reading, compute the rate from the start of the audit, when 0 objects were
            # handled.
            seen = self._seen.setdefault(audit.id, deque([(at - audit.seconds, 0)]))
            seen.append((at, audit.handled))
            while len(seen) > 2 and seen[1][0] <= at - RATE_SECONDS:
                seen.popleft()
            since, handled = seen[0]
            self._rates[audit.id] = max(0.0, (audit.handled - handled) / (at - since)) if at > since else 0.0

    def of(self, audit: AuditProgress) -> float:
        """Return the rate of an audit in objects per second; 0 while the audit is paused."""
        return self._rates.get(audit.id, 0.0) if audit.state is AuditState.RUNNING else 0.0
