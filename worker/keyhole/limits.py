"""The time limits for the work on a message, derived from the longest time that one scan may take.

A batch consists of the objects of one message:

    |- begin -|----- the longest scan -----|- its tags -|-|- grace -|
    0                                                   soft      hard

- A batch starts new scans only during the first `begin` seconds. The objects that it has not started by then
  are sent again in a new message.
- At the soft limit, the task begins no more scans, waits a few seconds for the running scans, and ends. If a
  scan hangs, the process records which code the scan is running, and then ends itself.
- At the hard limit, Celery kills the process.
- If a message has not been acknowledged at the end of the visibility timeout, the broker delivers it again.
  This timeout begins when the message is delivered. The timeout is longer than the hard limit plus the time
  that a worker takes to shut down. Otherwise two workers could work on the same message.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.scan.settings import ScanSettings

#: Seconds during which a batch starts scans: the default, and the minimum that the settings must allow.
BEGIN, LEAST_BEGIN = 90, 10
#: Seconds allowed for recording an object's verdict and writing its tags.
TAG_SECONDS: Final = 45.0
#: Seconds between the end of the longest scan of a batch and the soft limit.
SLACK: Final = 5
#: Seconds from the soft to the hard limit. In this time, the process waits for the running scans, and then
#: records the hung scans in Redis. Redis can be slow. `LEAST_GRACE` is the minimum that the settings must
#: allow.
GRACE, LEAST_GRACE = 60, 15
#: After the signal to stop, a worker has `SHUTDOWN` seconds to finish its current work. If the worker still
#: runs `LAST_SHUTDOWN` seconds after the signal, the worker is killed.
SHUTDOWN, LAST_SHUTDOWN = 30, 40
#: The visibility timeout in seconds, unless the hard limit requires a longer timeout.
VISIBILITY: Final = 1800
#: Seconds after which RabbitMQ, by default, returns an unacknowledged message to its queue
#: (`consumer_timeout`).
CONSUMER_TIMEOUT: Final = 1800
#: The largest value of a setting that is a time in seconds: about 31 years. Redis and Python's locks refuse
#: times that are much longer.
MOST_SECONDS: Final = 10**9
#: The lowest and the highest rate limit, in requests per second.
SLOWEST_RATE, FASTEST_RATE = 0.001, 1e6
#: A scan does not obey its CPU budget if it uses more CPU time than `CPU_FACTOR` times the budget plus
#: `CPU_SLACK` seconds. Such a scan is treated as hanging.
CPU_FACTOR, CPU_SLACK = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits for the work on a message, in seconds.

    Args:
        scan: The largest time budget of a scan.
        cpu: The CPU time after which a scan is treated as hanging. It is longer than the CPU budget of every
            scan.
        begin: How long a batch starts new scans.
        soft: The soft limit: the time at which the batch ends.
        hard: The hard limit: the time at which Celery kills the process.
        visibility: The time after which the broker delivers the message again.
    """

    scan: float
    cpu: float
    begin: float
    soft: int
    hard: int
    visibility: int

    @classmethod
    def of(cls, scan: ScanSettings, soft: int | None, hard: int | None, visibility: int | None) -> "Limits":
        """Return the limits. Derive the limits that the user did not set from the budgets of a scan."""
        budgets = [scan.budget, *map(scan.container_budget_by, scan.policy.rules)]
        longest = max(budget.seconds for budget in budgets)
        cpu = max(budget.cpu_seconds for budget in budgets)
        last_object = longest + TAG_SECONDS + SLACK
        soft = soft or ceil(BEGIN + last_object)
        hard = hard or soft + GRACE
        visibility = visibility or max(VISIBILITY, hard + LAST_SHUTDOWN + GRACE)
        return cls(longest, CPU_FACTOR * cpu + CPU_SLACK, soft - last_object, soft, hard, visibility)

    def contradiction(self, *, done: int, undecided: int, resend: int, by_rabbitmq: bool) -> str | None:
        """Return one line about a limit that contradicts another limit; `None` if there is none.

        Args:
            done: How long Keyhole remembers a finished job, in seconds.
            undecided: How long Keyhole retries an undecided object, in seconds. The object's batch stays open
                during this time.
            resend: Seconds without activity after which the sweep checks whether an entry was lost.
            by_rabbitmq: Whether the broker is RabbitMQ.
        """
        scan = f"KEYHOLE_BUDGET_SECONDS and KEYHOLE_POLICY allow a scan to take {self.scan:g} s"
        rest = LEAST_BEGIN + TAG_SECONDS + SLACK
        waits = f"a batch may wait KEYHOLE_UNDECIDED_SECONDS ({undecided}) for one of its objects"
        for name, value, least, why in (
            (
                "KEYHOLE_SOFT_SECONDS",
                self.soft,
                ceil(self.scan + rest),
                f"{scan}, and its tags and the start of other scans take {rest:g} s",
            ),
            (
                "KEYHOLE_HARD_SECONDS",
                self.hard,
                self.soft + LEAST_GRACE,
                f"a hung scan needs {LEAST_GRACE} s to end after KEYHOLE_SOFT_SECONDS ({self.soft})",
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
                f"{waits}, and its message is repeated after KEYHOLE_VISIBILITY_SECONDS ({self.visibility})",
            ),
            (
                "KEYHOLE_RESEND_SECONDS",
                resend,
                ceil(LEASE_SECONDS),
                f"during a scan (KEYHOLE_BUDGET_SECONDS) a worker can be silent for {LEASE_SECONDS:g} s",
            ),
        ):
            if value < least:
                return f"{name} is {value}, but {why}: set it to {least} or more"
        if by_rabbitmq and self.hard >= CONSUMER_TIMEOUT:
            return (
                f"KEYHOLE_HARD_SECONDS is {self.hard}, but RabbitMQ (KEYHOLE_BROKER_URL) takes a message "
                f"back after {CONSUMER_TIMEOUT} s: set it to a smaller value"
            )
        return None
