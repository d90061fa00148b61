"""A run: an undisturbed start, then one storm after the other, each followed by healing, rest and checks."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from random import Random
from threading import Event, Thread

import redis
from kombu.exceptions import OperationalError

from keyhole.fleet.entry_runner import MAX_LOST
from keyhole.fleet.services import services
from keyhole.jobs.job import ScanJob
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import EVENTS, JOBS
from keyhole.tasks import submit
from tests.e2e import commands
from tests.faults.accounts import Accounts
from tests.faults.fleet import Fleet
from tests.faults.gauges import Gauges
from tests.faults.objects import BUCKET, key_of, stocks
from tests.faults.outcome import Outcome, Plan, Told, line, say
from tests.faults.s3_answers import Stored
from tests.faults.s3_server import FaultyS3
from tests.faults.site import at_rest, drained, site, what_is_left
from tests.faults.storms import Storm, Strike, Striking
from tests.faults.valkey import Valkey

#: Jobs for each image in the undisturbed start, which measures the workers' rate.
CALM_ROUNDS = 8
#: Jobs are submitted in a storm at this share of the workers' undisturbed rate …
PACE = 0.5
#: … and all jobs of a storm need at most this many seconds of undisturbed work.
BACKLOG_SECONDS = 40.0
#: How many jobs are submitted at once, and how many jobs are in one message: few as for events, and many as
#: for bulks.
BULKS = ((1, 1), (4, 1), (20, 5), (50, 50))
#: Every job must end within this many seconds after healing. Then the run stops waiting.
DRAIN_SECONDS, LOST_SECONDS = 120.0, 900.0
#: The exit code of a worker that cannot reach S3 at its start.
S3_UNUSABLE = 3
#: Strikes that kill a scanning process.
KILLS = (Strike.KILL_CHILD, Strike.KILL_WORKER, Strike.STOP_WORKER)
#: The system is at rest after this many seconds without work.
REST_SECONDS = 1.0
POLL_SECONDS = 0.1


def schedule(plan: Plan, rate: float) -> tuple[float, int]:
    """Return the seconds and the jobs of a storm, given the undisturbed rate in jobs per second."""
    pace = rate * PACE
    most = min(plan.jobs, int(rate * BACKLOG_SECONDS))
    if plan.seconds is None:
        return plan.jobs / pace, most
    return plan.seconds, min(most, int(pace * plan.seconds))


class Run:
    """A run in progress."""

    def __init__(self, plan: Plan, s3: FaultyS3, valkey: Valkey, workers: Fleet) -> None:
        self._plan = plan
        self._s3 = s3
        self._valkey = valkey
        self._fleet = workers
        self._random = Random(plan.seed)  # noqa: S311 - a seeded choice of faults
        self._accounts = Accounts(services().store, services().dead_letters)
        # The numbers of the objects that still need checking, from `_first` to `_next` exclusive.
        self._first = self._next = 0
        self._decided: set[str] = set()
        self._rate = 0.0
        self._accepted: list[ScanJob] = []
        self._uncertain: list[ScanJob] = []
        self._killed = 0
        self.told: list[Told] = []
        self.gauges = Gauges(workers, valkey)

    def go(self) -> Outcome:
        """Run all storms, and return the outcome."""
        self._begin()
        self._first = self._next
        for storm, is_last in self._storms():
            told = self._rage(storm)
            self.told.append(told)
            if self._plan.drains or is_last:
                self._drain(told)
            if self._plan.agrees:
                self._agree(told)
            say(line(told, self._accounts.trouble))
        if not self._plan.agrees:
            self._agree(self.told[-1])
        for code, times in self._fleet.ended.items():
            if code != S3_UNUSABLE:
                words = "\n".join(self._fleet.last_words)
                self._accounts.trouble.note("worker ended", f"by itself, with {code}, {times} times: {words}")
        return Outcome(
            self._plan.seed,
            round(self._rate, 1),
            self.told,
            self._accounts.dead,
            dict(self._fleet.ended),
            self._valkey.cut_bytes,
            self._accounts.trouble,
            self.gauges.summary(),
        )

    def _storms(self) -> Iterator[tuple[Storm, bool]]:
        """Yield each storm, and whether it is the last one."""
        storms = self._plan.storms
        if self._plan.hours is None:
            yield from ((storm, number == len(storms)) for number, storm in enumerate(storms, 1))
            return
        until = time.monotonic() + self._plan.hours * 3600
        while time.monotonic() < until:
            yield self._random.choice(storms), False

    def _begin(self) -> None:
        """Scan each image without faults, and measure the rate."""
        jobs = self._upload(CALM_ROUNDS * len(stocks()))
        one_of_each, others = jobs[: len(stocks())], jobs[len(stocks()) :]
        submit(one_of_each, batch_size=len(stocks()))
        commands.until(at_rest)
        self._accounts.undisturbed()
        began = time.monotonic()
        submit(others, batch_size=20)
        commands.until(at_rest)
        self._rate = len(others) / (time.monotonic() - began)
        stored = self._s3.objects(0, len(jobs))
        self._accounts.settle(jobs, [], stored)
        self._accounts.agree(stored)
        say(f"undisturbed: {len(stocks())} images, {self._rate:.0f} jobs a second")

    def _rage(self, storm: Storm) -> Told:
        """Submit a storm's jobs while the storm lasts."""
        plan = self._plan
        told = Told(storm.name)
        seconds, count = schedule(plan, self._rate)
        began = time.monotonic()
        before = len(self._accepted), len(self._uncertain)
        self._s3.storm(f"{plan.seed}/{storm.name}", storm.rules)
        with self._striking(storm) as struck:
            self._submit(self._upload(count), began, seconds)
            while (left := began + seconds - time.monotonic()) > 0:
                time.sleep(left)
            self._last_until_all_struck(storm, struck)
        told.faults, told.strikes = dict(self._s3.heal()), dict(struck)
        self._killed += sum(struck[strike] for strike in KILLS)
        told.seconds = round(time.monotonic() - began, 1)
        told.accepted = len(self._accepted) - before[0]
        told.uncertain = len(self._uncertain) - before[1]
        told.jobs = told.accepted + told.uncertain
        return told

    def _last_until_all_struck(self, storm: Storm, struck: Mapping[str, int]) -> None:
        """Wait until each strike and each fault of a storm has happened, or no work is left for the faults.

        A slow machine makes few requests while the jobs are submitted, and a fast machine soon has no jobs
        left.
        """
        until = time.monotonic() + LOST_SECONDS
        while time.monotonic() < until:
            if all(striking.strike in struck for striking in storm.strikes):
                if not self._s3.missing():
                    return
                with suppress(redis.RedisError, OperationalError):  # Redis or the broker can be down
                    if at_rest():
                        return
            time.sleep(POLL_SECONDS)

    def _drain(self, told: Told) -> None:
        """Wait until all jobs have ended, and check their ends."""
        told.drained_seconds = self._rested(drained)
        if told.drained_seconds > DRAIN_SECONDS:
            self._accounts.trouble.note("late", f"{told.storm}: drained in {told.drained_seconds} seconds")
        ends = self._accounts.settle(self._accepted, self._uncertain, self._stored())
        if ends["poison"] and self._killed < MAX_LOST:
            self._accounts.trouble.note("false poison", f"{told.storm}: {self._killed} processes were killed")
        told.ends = dict(ends)
        self._decided |= {job.key for job in self._accepted}
        self._accepted, self._uncertain, self._killed = [], [], 0
        self.gauges.read()

    def _agree(self, told: Told) -> None:
        """Wait for all tags, and check that objects, records and tags agree.

        Objects for which S3 would send an event are scanned again first.
        """
        told.tagged_seconds = self._rested(at_rest)
        stored = self._stored()
        self._accounts.tags_are_true(stored)
        decided = self._decided - self._accounts.poisoned
        again = [
            _job(number)
            for number, one in stored.items()
            if one.swaps or one.denied or key_of(number) not in decided
        ]
        told.rescanned = len(again)
        submit(again, batch_size=50)
        self._rested(at_rest)
        stored = self._stored()
        self._accounts.settle(again, [], stored)
        self._accounts.agree(stored)
        self._s3.delete(self._first, self._next - self._first)
        self._first = self._next

    def _stored(self) -> dict[int, Stored]:
        """The current state of the objects that still need checking."""
        return self._s3.objects(self._first, self._next - self._first)

    def _rested(self, is_rest: Callable[[], bool]) -> float:
        """Wait until the system is at rest, and return the seconds until then."""
        ended = began = time.monotonic()
        while True:
            now = time.monotonic()
            if not is_rest():
                ended = now
            if now > ended + REST_SECONDS:
                return round(ended - began, 1)
            if now > began + LOST_SECONDS:
                self._accounts.trouble.note("no rest", what_is_left())
                return round(now - began, 1)
            time.sleep(POLL_SECONDS)

    def _upload(self, count: int) -> list[ScanJob]:
        """Upload new objects, and make a job for each."""
        first, self._next = self._next, self._next + count
        kinds = [index % len(stocks()) for index in range(count)]
        self._s3.upload(first, kinds, self._random.randrange(2**32))
        return [_job(number) for number in range(first, first + count)]

    def _submit(self, jobs: Sequence[ScanJob], began: float, seconds: float) -> None:
        """Submit jobs, spread over this many seconds, in bulks of all sizes."""
        done = 0
        while done < len(jobs):
            size, batch = self._random.choice(BULKS)
            bulk = jobs[done : done + size]
            due = began + seconds * done / len(jobs)
            while (early := due - time.monotonic()) > 0:
                time.sleep(early)
            self._submit_bulk(bulk, batch)
            done += len(bulk)

    def _submit_bulk(self, bulk: Sequence[ScanJob], batch: int) -> None:
        cuts = self._valkey.cuts
        try:
            submit(bulk, batch_size=batch, queue=self._random.choice((EVENTS, JOBS)))
        except DeliveryUncertainError:
            pass  # the ledger contains the jobs, so Keyhole accepted them
        except redis.RedisError:
            self._uncertain += bulk
            return
        if self._valkey.accepted() == cuts:
            self._accepted += bulk
        else:
            self._uncertain += bulk

    @contextmanager
    def _striking(self, storm: Storm) -> Iterator[Counter[str]]:
        """Strike and count the strikes while the block runs. Afterwards let all frozen processes continue."""
        over = Event()
        struck: Counter[str] = Counter()
        threads = [
            Thread(target=self._strike, args=(storm, striking, over, struck)) for striking in storm.strikes
        ]
        for thread in threads:
            thread.start()
        try:
            yield struck
        finally:
            # Also after an interruption, killed and frozen processes must run again, so that they can be
            # stopped.
            over.set()
            for thread in threads:
                thread.join()

    def _strike(self, storm: Storm, striking: Striking, over: Event, struck: Counter[str]) -> None:
        random = Random(f"{self._plan.seed}/{storm.name}/{striking.strike}")  # noqa: S311 - a seeded choice of faults
        # The first strike comes early, so that each kind of strike happens at least once.
        pause = striking.every * random.uniform(0.1, 0.5)
        while not over.wait(pause):
            struck[striking.strike.value] += 1
            self._fleet.strike(striking.strike, random, over)
            pause = striking.every * random.uniform(0.5, 1.5)


def run(plan: Plan) -> Outcome:
    """Start all servers and workers of a run, run it, and stop everything."""
    with site(plan) as (s3, valkey, workers):
        return Run(plan, s3, valkey, workers).go()


def _job(number: int) -> ScanJob:
    return ScanJob(bucket=BUCKET, key=key_of(number))
