"""A discrete-event simulation of the workers of an audit. It reads no bytes and needs no server.

It follows every request of every object. A thread waits for a slot of the rate limit, for S3's limit on the
prefix, for the slowest answer of a round, for the processor of its process, and after the last round for
Redis. Latencies vary, and so do the numbers of GETs and of rounds. The pages and the batches follow
`keyhole.intake.audits.store`: an audit lists its next page when fewer batches than allowed are outstanding
and all of them are sent.

The simulation uses the constants of `keyhole.intake.audits.speed`, but none of its formulas. S3 delays
requests above its limit. (Real S3 refuses them with 503, and Keyhole tries them again.)
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any

from keyhole.intake.audits import speed
from keyhole.intake.audits.workload import Fleet, Work

#: The steps of a thread: a positive number is a round of so many GETs. The other steps read or write tags.
READ, WRITE = 0, -1
#: The steps that write the tags of an object: read, look, write, read, look.
TAGGING = (READ, READ, WRITE, READ, READ)
#: The steps of an object that are not done.
Steps = Sequence[int]


@dataclass
class Queue:
    """A server that serves requests one after the other, at a fixed time for each.

    After an idle time, it serves up to `burst` seconds' requests at once.
    """

    seconds: float
    burst: float = 0.0
    free_at: float = 0.0

    def serve(self, now: float, seconds: float | None = None) -> float:
        """Return the time at which a request that arrives now is served."""
        self.free_at = max(self.free_at, now - self.burst) + (self.seconds if seconds is None else seconds)
        return max(now, self.free_at)


@dataclass
class Audit:
    """The audit of one prefix."""

    left: int
    reads: Queue
    writes: Queue
    in_progress: int = 0
    unsent: int = 0
    listing: bool = False

    @property
    def outstanding(self) -> int:
        """The batches that are sent or not yet sent."""
        return self.in_progress + self.unsent


@dataclass
class Process:
    """A worker process, and the batch that it works on."""

    audit: Audit
    cpu: float = 0.0
    to_begin: int = 0
    running: int = 0


def simulate(work: Work, fleet: Fleet, seed: int = 1) -> float:
    """Return the seconds that the audit takes."""
    return Simulation(work, fleet, seed).run()


class Simulation:
    """One run of an audit. Events are the ends of requests, of pages, and of pauses between two batches."""

    def __init__(self, work: Work, fleet: Fleet, seed: int) -> None:
        self.work, self.fleet = work, fleet
        self.random = Random(seed)  # noqa: S311 - the same numbers in each run are wanted
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[Any, Steps], None], Any, Steps]] = []
        self.number = 0
        self.rate = Queue(1 / fleet.rate, burst=1.0) if fleet.rate else None
        self.redis = Queue(speed.REDIS_SECONDS + speed.REDIS_SECONDS_OF_TAGS * work.tags)
        share, rest = divmod(work.objects, fleet.prefixes)
        self.audits = [
            Audit(
                share + (number < rest),
                Queue(1 / speed.S3_READS, burst=1.0),
                Queue(1 / speed.S3_WRITES, burst=1.0),
            )
            for number in range(fleet.prefixes)
        ]
        self.sent: deque[Audit] = deque()
        self.idle = [Process(self.audits[0]) for _ in range(fleet.processes)]
        self.batch = fleet.batch
        self.page_batches = -(-1000 // self.batch)
        self.tagging = TAGGING if work.tags else ()
        self.cpu_seconds = work.cpu_seconds / (work.rounds + len(self.tagging))
        self.transfer = work.bytes / work.gets / speed.CONNECTION_BYTES

    def run(self) -> float:
        """Run until all objects are scanned; return the time."""
        for audit in self.audits:
            self.advance(audit)
        events = self.events
        while events:
            self.now, _, what, subject, steps = heappop(events)
            what(subject, steps)
        assert not any(audit.left or audit.outstanding for audit in self.audits)
        return self.now

    def at(self, when: float, what: Callable[[Any, Steps], None], subject: object, steps: Steps = ()) -> None:
        """Schedule an event: a call of a method with the process or the audit, and the steps left."""
        self.number += 1
        heappush(self.events, (when, self.number, what, subject, steps))

    # The audit

    def advance(self, audit: Audit) -> None:
        """Send as many batches as the audit may, and begin to list the next page if that is due."""
        send = min(audit.unsent, self.fleet.outstanding - audit.in_progress)
        audit.unsent -= send
        audit.in_progress += send
        self.sent.extend([audit] * send)
        if (
            audit.left
            and not audit.listing
            and not audit.unsent
            and audit.outstanding < self.fleet.outstanding
        ):
            audit.listing = True
            begins = self.now if self.rate is None else self.rate.serve(self.now)
            answer = self.vary(speed.PAGE_TTFBS * self.work.ttfb_seconds)
            self.at(begins + answer + speed.PAGE_SECONDS, self.listed, audit)
        self.assign()

    def listed(self, audit: Audit, _: Steps) -> None:
        """Commit a page. All batches are whole, so the number of objects must be a multiple of a batch."""
        batches = min(self.page_batches, -(-audit.left // self.batch))
        audit.left = max(0, audit.left - batches * self.batch)
        audit.unsent += batches
        audit.listing = False
        self.advance(audit)

    def assign(self) -> None:
        """Give sent batches to idle processes."""
        while self.sent and self.idle:
            process, audit = self.idle.pop(), self.sent.popleft()
            process.audit, process.to_begin = audit, self.batch
            for _ in range(min(self.fleet.threads, self.batch)):
                self.begin(process)

    # The threads

    def begin(self, process: Process) -> None:
        """Begin with the next object of the batch."""
        process.to_begin -= 1
        process.running += 1
        more = self.random.random()
        gets, rounds = (int(mean) + (more < mean % 1) for mean in (self.work.gets, self.work.rounds))
        each, rest = divmod(gets - 1, max(1, rounds - 1))
        later = (each + (number < rest) for number in range(rounds - 1))
        self.request(process, (1, *later, *self.tagging))

    def request(self, process: Process, steps: Steps) -> None:
        """Send the GETs of a round at the same time, or one request for tags."""
        step, answered = steps[0], 0.0
        for _ in range(max(1, step)):
            begins = self.now
            if self.rate is not None:
                self.redis.serve(begins, speed.REDIS_SECONDS_OF_RATE)
                begins = self.rate.serve(begins)
            begins = (process.audit.writes if step == WRITE else process.audit.reads).serve(begins)
            answered = max(answered, begins + self.vary(self.work.ttfb_seconds))
        self.at(answered + self.transfer * (step > 0), self.answered, process, steps)

    def answered(self, process: Process, steps: Steps) -> None:
        """Wait for the processor, and use it."""
        waits = process.cpu > self.now
        process.cpu = max(process.cpu, self.now) + self.cpu_seconds
        if waits:
            self.at(process.cpu, self.computed, process, steps)
        else:
            # No event, because that takes half of the simulation's time. Other requests that arrive within
            # these milliseconds are served after this one.
            self.now = process.cpu
            self.computed(process, steps)

    def computed(self, process: Process, steps: Steps) -> None:
        """Begin the next step, or record the verdict."""
        if len(steps) > 1:
            self.request(process, steps[1:])
        else:
            waits = self.redis.free_at > self.now
            at = self.redis.serve(self.now)
            if waits:
                self.at(at, self.recorded, process)
            else:
                self.now = at
                self.recorded(process, ())

    def recorded(self, process: Process, _: Steps) -> None:
        """Begin with the next object, or finish the batch."""
        process.running -= 1
        if process.to_begin:
            self.begin(process)
        elif not process.running:
            process.audit.in_progress -= 1
            self.at(self.now + speed.BATCH_SECONDS, self.rested, process)
            self.advance(process.audit)

    def rested(self, process: Process, _: Steps) -> None:
        """Take the next batch."""
        self.idle.append(process)
        self.assign()

    def vary(self, seconds: float) -> float:
        """Return a latency around an average."""
        return seconds * (1 + speed.SPREAD * (2 * self.random.random() - 1))
