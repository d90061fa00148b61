"""How long the work on a message may take: derived from what a scan may take, so that all limits agree.

    |- begin -|----- the longest scan -----|- its tags -|-|- grace -|
    0                                                   soft      hard

- A batch begins with objects for `begin` seconds. What is left is sent again.
- At the soft limit the batch ends in order. Where scans hang, their places are noted, and the process ends
  itself.
- At the hard limit Celery ends the process.
- A message that was not acknowledged comes again after the visibility timeout. It runs from delivery, so it
  is longer than the hard limit and the shutdown of a worker together: otherwise two would work on a message.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from keyhole.jobs.entry import LEASE_SECONDS
from keyhole.scan.settings import ScanSettings

#: Seconds that a batch begins with objects, and must at least have for that.
BEGIN, LEAST_BEGIN = 90, 10
#: Seconds that the tags of an object may take, with the record of its verdict.
TAG_SECONDS: Final = 45.0
#: Seconds between the longest object of a batch and the soft limit.
SLACK: Final = 5
#: Seconds from the soft to the hard limit: those that hung scans are given to end, and those that noting them
#: takes while Redis is slow; and the least that the first of these take.
GRACE, LEAST_GRACE = 60, 15
#: Seconds for a worker to finish what it does when it is told to stop, and until it is ended if that hangs.
SHUTDOWN, LAST_SHUTDOWN = 30, 40
#: The visibility timeout in seconds, unless the hard limit asks for a longer one.
VISIBILITY: Final = 1800
#: Seconds after which RabbitMQ takes a message back, by default (`consumer_timeout`).
CONSUMER_TIMEOUT: Final = 1800
#: An attempt that uses more than so many times its CPU time, and some seconds, does not heed its budget.
CPU_FACTOR, CPU_SLACK = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the work on a message, in seconds.

    Args:
        scan: What the longest scan may take by its budget.
        cpu: What no attempt uses of CPU time that heeds its budget.
        begin: How long a batch begins with objects.
        soft: When a batch must have ended.
        hard: When its process is ended.
        visibility: When its message comes again.
    """

    scan: float
    cpu: float
    begin: float
    soft: int
    hard: int
    visibility: int

    @classmethod
    def of(cls, scan: ScanSettings, soft: int | None, hard: int | None, visibility: int | None) -> "Limits":
        """The limits that were set, and else those that follow from what a scan may take."""
        budgets = [scan.budget, *map(scan.container_budget_by, scan.policy.rules)]
        longest = max(budget.seconds for budget in budgets)
        cpu = max(budget.cpu_seconds for budget in budgets)
        last_object = longest + TAG_SECONDS + SLACK
        soft = soft or ceil(BEGIN + last_object)
        hard = hard or soft + GRACE
        visibility = visibility or max(VISIBILITY, hard + LAST_SHUTDOWN + GRACE)
        return cls(longest, CPU_FACTOR * cpu + CPU_SLACK, soft - last_object, soft, hard, visibility)

    def contradiction(self, *, done: int, undecided: int, resend: int, by_rabbitmq: bool) -> str | None:
        """What is wrong with a limit that another one contradicts, in one line; `None` if they all agree.

        Args:
            done: How long a finished job is remembered.
            undecided: How long an object may stay undecided, while the other jobs of its batch are finished.
            resend: How long an entry that nobody holds may be silent.
            by_rabbitmq: Whether the broker is RabbitMQ.
        """
        scan = f"KEYHOLE_BUDGET_SECONDS and KEYHOLE_POLICY allow a scan {self.scan:g} s"
        rest = LEAST_BEGIN + TAG_SECONDS + SLACK
        waits = f"a batch may wait KEYHOLE_UNDECIDED_SECONDS ({undecided}) for one of its objects"
        for name, value, least, why in (
            (
                "KEYHOLE_SOFT_SECONDS",
                self.soft,
                ceil(self.scan + rest),
                f"{scan}, and its tags and the beginning of others take {rest:g} s",
            ),
            (
                "KEYHOLE_HARD_SECONDS",
                self.hard,
                self.soft + LEAST_GRACE,
                f"at KEYHOLE_SOFT_SECONDS ({self.soft}) what hangs is given {LEAST_GRACE} s to end",
            ),
            (
                "KEYHOLE_VISIBILITY_SECONDS",
                self.visibility,
                self.hard + LAST_SHUTDOWN,
                f"work may take KEYHOLE_HARD_SECONDS ({self.hard}), and a worker {LAST_SHUTDOWN} s to stop",
            ),
            (
                "KEYHOLE_DONE_SECONDS",
                done,
                undecided + self.visibility + 1,
                f"{waits}, and its message comes again after KEYHOLE_VISIBILITY_SECONDS ({self.visibility})",
            ),
            (
                "KEYHOLE_RESEND_SECONDS",
                resend,
                ceil(LEASE_SECONDS),
                f"during a scan (KEYHOLE_BUDGET_SECONDS) a worker may be silent for {LEASE_SECONDS:g} s",
            ),
        ):
            if value < least:
                return f"{name} is {value}, but {why}: set it to {least} or more"
        if by_rabbitmq and self.hard >= CONSUMER_TIMEOUT:
            return (
                f"KEYHOLE_HARD_SECONDS is {self.hard}, but RabbitMQ (KEYHOLE_BROKER_URL) takes a message "
                f"back after {CONSUMER_TIMEOUT} s: set it to less"
            )
        return None
