"""An audit that is interrupted at each of its steps still ends with the same result.

A process in these tests is a set of services whose Redis and broker stop it before a step. It then does
nothing more, as after SIGKILL. Its messages are lost or delivered again, its heartbeats become old, and
another process sweeps and continues the work. In other tests several processes take turns, step by step, in a
random order, and every message is delivered twice.

The tasks are the real ones, and so are Valkey and the S3 that they list and read. The broker is a list.
"""

import logging
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Condition, local
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.client import Pipeline

from keyhole import tasks
from keyhole.fleet import auditing, ledger_task, wiring
from keyhole.fleet.auditing import MAX_STARTS
from keyhole.fleet.entry_runner import MAX_LOST
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState
from keyhole.intake.audits.page import Auditor
from keyhole.intake.audits.records import Claim
from keyhole.intake.audits.store import AuditStore
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.liveness import Liveness
from keyhole.reasons import Reason, Status
from keyhole.results.redis_store import STREAM_START
from keyhole.results.tag_check import TagFinding
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.store import keys
from tests.e2e.audit_site import all_keys
from tests.jobs.clock import pass_seconds
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.synthetic_s3 import SyntheticS3, synthetic_s3
from tests.slow import slow

BUCKET, AUDIT = "images", "audit"
#: Two pages. The first page has two batches, which must not be sent at once.
OBJECTS, PAGE_KEYS = 4, 3
SPEC = AuditSpec(bucket=BUCKET, batch_size=2, outstanding=1)
FIX_TAGS = SPEC.model_copy(update={"fix_tags": True})
#: If an audit has not ended after this many lives, it will never end.
MOST_LIVES = 10


#: The number of random orders in which several processes take turns.
ORDERS = 30
#: If a step takes this many seconds, the process whose turn it is hangs.
LONGEST_TURN = 60.0


class KilledError(BaseException):
    """Raised when the process is killed. No code handles this error, because it is not an `Exception`."""


class Fuse:
    """Stops a process before the step with this number. `None`: never."""

    def __init__(self, step: int | None = None) -> None:
        self._step = step
        self._steps = 0

    def before(self) -> None:
        """Raise `KilledError` if the process must stop before the next step."""
        if self._steps == self._step:
            raise KilledError

    def done(self) -> None:
        """Count a step that has happened."""
        self._steps += 1

    def blow(self) -> None:
        """Stop the process now."""
        self._step = self._steps
        raise KilledError


class Baton:
    """Lets one process after the other do a step, in a random order."""

    def __init__(self, choice: random.Random, runners: int) -> None:
        self._choice = choice
        self._runners = list(range(runners))
        self._turn = 0
        self._passed = Condition()

    def take(self, runner: int) -> None:
        """Wait for the turn."""
        with self._passed:
            assert self._passed.wait_for(lambda: self._turn == runner, LONGEST_TURN)

    def pass_on(self) -> None:
        """Choose at random whose turn is next."""
        with self._passed:
            self._turn = self._choice.choice(self._runners) if self._runners else -1
            self._passed.notify_all()

    def leave(self, runner: int) -> None:
        """Take part no longer."""
        self.take(runner)
        self._runners.remove(runner)
        self.pass_on()


class Runner(Fuse):
    """A process that waits for its turn before every step."""

    def __init__(self, baton: Baton, number: int) -> None:
        super().__init__()
        self._baton, self._number = baton, number

    def before(self) -> None:
        self._baton.take(self._number)

    def done(self) -> None:
        self._baton.pass_on()


class MortalRedis(redis.Redis):
    """A client in which each command is a step.

    Each command in a pipeline without a transaction is a step too.
    """

    fuse: Fuse

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.fuse.before()
        answer = super().execute_command(*args, **options)
        self.fuse.done()
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "MortalPipeline":
        pipe = MortalPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.fuse = self.fuse
        return pipe


class MortalPipeline(Pipeline):
    """The pipeline of such a client."""

    fuse: Fuse

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        parts = [self.command_stack] if self.transaction else [[command] for command in self.command_stack]
        answers: list[Any] = []
        for part in parts:
            self.command_stack = part
            self.fuse.before()
            answers += super().execute(raise_on_error)
            self.fuse.done()
        return answers


class OneLife(Liveness):
    """The name of this test's process, and a check whether others live: their names are numbers."""

    def __init__(self, client: redis.Redis, number: int, living: set[str]) -> None:
        super().__init__(client)
        self.__dict__["name"] = f"{number}"
        self._living = living
        living.add(self.name)

    def is_alive(self, name: str) -> bool:
        return name in self._living

    def end(self) -> None:
        self._living.discard(self.name)


class World:
    """A Valkey, a broker, an S3 with some objects, and processes that live one after the other."""

    def __init__(self, valkey: redis.Redis, url: str, s3: SyntheticS3) -> None:
        self.valkey = valkey
        self.messages: deque[Claim | dict[str, Any]] = deque()
        self.times_delivered = 1
        self.pages_published = 0
        self._lives, self._living = count(), set[str]()
        self._process = local()
        self._settings = Settings(redis_url=url, s3_endpoint_url=s3.url, scan_threads=1)
        self.services = Services(self._settings, os.getpid())

    # Replacements for Celery's tasks

    def publish(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._deliver(ENTRY.dump_python(entry, mode="json", exclude_none=True))

    def publish_page(self, claim: Claim) -> None:
        self.pages_published += 1
        self._deliver(claim)

    def _deliver(self, message: Claim | dict[str, Any]) -> None:
        fuse: Fuse = self._process.services.redis.fuse
        fuse.before()
        self.messages += [message] * self.times_delivered
        fuse.done()

    def process_services(self) -> Services:
        services: Services = self._process.services
        return services

    def waiting(self, _: str) -> int:
        return sum(not isinstance(message, Claim) for message in self.messages)

    # Events

    def live(self, fuse: Fuse, *, spec: AuditSpec | None = SPEC, delivered_again: bool = False) -> bool:
        """Let a process begin the audit, sweep, and work until nothing is left; false if it is killed."""
        client = MortalRedis(connection_pool=self.valkey.connection_pool)
        client.fuse = fuse
        self._process.services = Services(self._settings, os.getpid())
        self._process.services.__dict__["redis"] = client
        life = OneLife(client, next(self._lives), self._living)
        self._process.services.__dict__["liveness"] = life
        in_hand: Claim | dict[str, Any] | None = None
        try:
            if spec is not None:
                tasks.audit_work().begin(spec, AUDIT)
            tasks.sweep()
            while self.messages:
                in_hand = self.messages.popleft()
                if isinstance(in_hand, Claim):
                    tasks.audit_page(*in_hand)
                else:
                    tasks.scan_batch(in_hand)
        except KilledError:
            if in_hand is not None and delivered_again:
                self.messages.append(in_hand)
            return False
        finally:
            life.end()
        return True

    def live_at_once(self, choice: random.Random, *, processes: int) -> None:
        """Let several processes live at the same time, with their steps interleaved."""
        baton = Baton(choice, processes)

        def live(number: int) -> None:
            try:
                self.live(Runner(baton, number))
            finally:
                baton.leave(number)

        with ThreadPoolExecutor(processes) as pool:
            for done in [pool.submit(live, number) for number in range(processes)]:
                done.result()

    def grow_old(self) -> None:
        """Let so much time pass that a living process would have sent a heartbeat."""
        self.valkey.delete(keys.audit(AUDIT, "page"))
        pass_seconds(self.valkey, 1000)

    def end(self, spec: AuditSpec = SPEC) -> None:
        """Let processes that are not killed finish the audit."""
        for _ in range(MOST_LIVES):
            self.grow_old()
            self.live(Fuse(), spec=spec)
            if self.services.audits.state(AUDIT) is not AuditState.RUNNING:
                return
        pytest.fail(f"{self.services.audits.get(AUDIT)!r} is at rest")

    def write_tags(self, *, on: bool) -> None:
        """Set whether later processes also write tags."""
        sinks = ("redis", "tags") if on else ("redis",)
        self._settings = self._settings.model_copy(update={"sinks": sinks})

    def start_over(self) -> None:
        """Restore the initial state."""
        self.messages.clear()
        self.times_delivered = 1
        self.valkey.flushall()

    def audit(self) -> Audit:
        audit = self.services.audits.get(AUDIT)
        assert audit is not None
        return audit

    def assert_all_is_unchanged(self) -> None:
        audit = self.audit()
        totals = audit.totals
        assert (audit.state, audit.outstanding) == (AuditState.DONE, 0)
        assert totals.listed == totals.unchanged == sum(totals.statuses.values()) == OBJECTS
        assert totals.lists == totals.requests == totals.pages == OBJECTS
        ids = [keys.object_id(BUCKET, key, None) for key in all_keys(OBJECTS)]
        assert Counter(row.object_id for row in self.services.audits.rows(AUDIT)) == dict.fromkeys(ids, 1)

    def assert_all_is_counted_once(self, *, statuses: set[Status]) -> None:
        audit = self.services.audits.get(AUDIT)
        assert audit is not None
        totals = audit.totals
        assert (audit.state, audit.outstanding) == (AuditState.DONE, 0)
        assert totals.listed == totals.queued == totals.scanned == sum(totals.statuses.values()) == OBJECTS
        assert set(totals.statuses) <= statuses
        assert totals.lists == totals.pages
        if statuses == {Status.SAFE}:
            assert totals.requests == totals.lists + OBJECTS
        ids = [keys.object_id(BUCKET, key, None) for key in all_keys(OBJECTS)]
        assert Counter(row.object_id for row in self.services.audits.rows(AUDIT)) == dict.fromkeys(ids, 1)
        announced = self.services.store.read_stream(STREAM_START).verdicts
        assert Counter(verdict.report.key for verdict in announced) == dict.fromkeys(all_keys(OBJECTS), 1)
        kept = {name.decode() for name in self.valkey.scan_iter(count=1000)}
        of_audit = {name for name in kept if name.startswith(keys.audit(AUDIT))}
        assert of_audit == {keys.audit(AUDIT, part) for part in ("", "totals", "objects")}
        of_ledger = {name for name in kept if "ledger" in name and self.valkey.ttl(name) < 0}
        assert of_ledger == {keys.LEDGER_BEGUN, keys.LEDGER_CLOCK}


@pytest.fixture(scope="module")
def s3() -> Iterator[SyntheticS3]:
    """A synthetic S3 with a few objects, and credentials for it."""
    with synthetic_s3() as server, pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, **CREDENTIALS, AWS_DEFAULT_REGION="us-east-1")
        server.fill(BUCKET, OBJECTS)
        yield server


@pytest.fixture
def world(valkey: redis.Redis, valkey_url: str, s3: SyntheticS3, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(valkey, valkey_url, s3)
    s3.list_at_most(PAGE_KEYS)
    monkeypatch.setattr(tasks, "services", world.process_services)
    monkeypatch.setattr(ledger_task, "services", world.process_services)
    monkeypatch.setattr(wiring, "services", world.process_services)
    monkeypatch.setattr(wiring, "CeleryPublisher", lambda _: world)
    monkeypatch.setattr(wiring, "publish_page", lambda _, claim: world.publish_page(claim))
    monkeypatch.setattr(wiring, "queue_length", lambda _, queue: world.waiting(queue))
    monkeypatch.setattr(wiring, "restore_overdue", lambda _: None)
    logging.getLogger("keyhole").setLevel(logging.CRITICAL)
    return world


def test_nobody_is_killed(world: World) -> None:
    assert world.live(Fuse())

    world.assert_all_is_counted_once(statuses={Status.SAFE})


def test_an_audit_that_cannot_be_read_holds_up_no_other(world: World, valkey: redis.Redis) -> None:
    for audit_id in ("a0", "z9"):
        world.services.audits.create(audit_id, SPEC, ruleset="", scanner="")
        valkey.hset(keys.audit(audit_id), "spec", '{"written_by": "a later version"}')

    world.live(Fuse(), spec=None)
    assert not world.messages
    world.services.audits.create(AUDIT, SPEC, ruleset="", scanner="")
    world.live(Fuse(), spec=None)

    world.assert_all_is_counted_once(statuses={Status.SAFE})


def test_an_audit_that_failed_goes_on_at_once_when_it_is_told_to(
    world: World, s3: SyntheticS3, failures: Counter[Reason]
) -> None:
    world.live(Fuse(), spec=SPEC.model_copy(update={"bucket": "later"}))
    assert failures == {Reason.NOT_FOUND: 1}  # the request that listed the bucket
    failed = world.services.audits.get(AUDIT)
    assert failed is not None
    assert failed.state is AuditState.FAILED
    assert "bucket" in str(failed.reason)

    s3.fill("later", OBJECTS)
    world.services.audits.set_state(AUDIT, AuditState.RUNNING)
    world.live(Fuse(), spec=None)

    assert world.services.audits.state(AUDIT) is AuditState.DONE


class TestPagesWithoutBatches:
    """An audit of unchanged objects, one object on each page."""

    @pytest.fixture
    def world(self, world: World, s3: SyntheticS3) -> World:
        begin_again(world, s3)
        return world

    def test_one_task_lists_them_all(self, world: World) -> None:
        assert world.live(Fuse())

        world.assert_all_is_unchanged()
        assert world.pages_published == 1

    def test_a_task_ends_after_some_seconds(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(auditing, "TASK_SECONDS", 0)
        assert world.live(Fuse())

        world.assert_all_is_unchanged()
        assert world.pages_published == OBJECTS

    def test_an_audit_that_is_paused_lists_no_further_page(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def committed(store: AuditStore, *page: Any) -> bool:
            store.set_state(AUDIT, AuditState.PAUSED)
            return commit(store, *page)

        commit = AuditStore.commit
        with monkeypatch.context() as patched:
            patched.setattr(AuditStore, "commit", committed)
            assert world.live(Fuse())
        assert world.audit().totals.pages == 1

        world.services.audits.set_state(AUDIT, AuditState.RUNNING)
        assert world.live(Fuse(), spec=None)
        world.assert_all_is_unchanged()

    def test_the_limit_of_requests_holds_on_every_page(self, world: World) -> None:
        assert world.live(Fuse(), spec=SPEC.model_copy(update={"max_requests": 2}))

        audit = world.audit()
        assert (audit.state, audit.totals.requests, audit.totals.pages) == (AuditState.STOPPED, 2, 3)

    def test_a_changed_object_ends_the_task_until_it_is_scanned(self, world: World, s3: SyntheticS3) -> None:
        changed = all_keys(OBJECTS)[1]
        s3.put(BUCKET, changed)
        assert world.live(Fuse())
        s3.fill(BUCKET, OBJECTS)

        totals = world.audit().totals
        assert (totals.scanned, totals.unchanged) == (1, OBJECTS - 1)
        assert world.pages_published == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("delivered_again", [False, True])
    def test_a_process_is_killed_before_any_step(
        self, world: World, s3: SyntheticS3, delivered_again: bool
    ) -> None:
        step = 0
        while not world.live(Fuse(step), delivered_again=delivered_again):
            world.end()
            world.assert_all_is_unchanged()
            begin_again(world, s3)
            step += 1
        assert step > 30

    @pytest.mark.slow
    def test_no_wrong_tags_are_forgotten_if_a_process_is_killed_before_any_step(
        self, world: World, s3: SyntheticS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def all_are_wrong(*_: object, **__: object) -> Callable[[Sequence[Report]], list[TagFinding]]:
            return lambda reports: [TagFinding("there is no tag", 1) for _ in reports]

        monkeypatch.setattr(auditing, "TagCheck", all_are_wrong)
        monkeypatch.setattr(tasks.owed_tags, "apply_async", lambda **_: None)
        world.write_tags(on=True)
        step = 0
        while not world.live(Fuse(step), spec=FIX_TAGS):
            world.end(FIX_TAGS)
            totals = world.audit().totals
            assert (totals.unchanged, totals.tag_mismatches, totals.tag_fixes) == (OBJECTS,) * 3
            found = [finding.key for finding in world.services.audits.findings(AUDIT)]
            assert found == all_keys(OBJECTS)
            debts = [world.services.tag_debts.owed(BUCKET, key, None) for key in found]
            assert None not in debts
            world.write_tags(on=False)
            begin_again(world, s3)
            world.write_tags(on=True)
            step += 1
        assert step > 30

    def test_workers_that_write_no_tags_cannot_correct_any(self, world: World) -> None:
        world.live(Fuse(), spec=FIX_TAGS)

        failed = world.audit()
        assert (failed.state, failed.totals.pages) == (AuditState.FAILED, 0)
        assert "KEYHOLE_SINKS of the workers does not include tags" in str(failed.reason)

    @pytest.mark.slow
    def test_several_processes_do_the_same_at_once(self, world: World, s3: SyntheticS3) -> None:
        for seed in range(ORDERS):
            begin_again(world, s3)
            world.times_delivered = 2

            world.live_at_once(random.Random(seed), processes=2)  # noqa: S311 - to choose whose turn it is

            world.end()
            world.assert_all_is_unchanged()


def begin_again(world: World, s3: SyntheticS3) -> None:
    """Restore a state in which all objects have a verdict, and no audit exists."""
    world.start_over()
    s3.list_at_most(OBJECTS)
    world.live(Fuse(), spec=SPEC.model_copy(update={"outstanding": 8}))
    world.assert_all_is_counted_once(statuses={Status.SAFE})
    for name in world.valkey.scan_iter(match=f"{keys.audit(AUDIT)}*", count=1000):
        world.valkey.delete(name)
    world.valkey.delete(keys.AUDITS)
    s3.list_at_most(1)
    world.pages_published = 0


@pytest.mark.slow
@pytest.mark.parametrize("delivered_again", [False, True])
def test_a_process_is_killed_before_any_step(world: World, delivered_again: bool) -> None:
    step = 0
    while not world.live(Fuse(step), delivered_again=delivered_again):
        world.end()
        world.assert_all_is_counted_once(statuses={Status.SAFE})
        world.start_over()
        step += 1
    assert step > 30


@pytest.mark.slow
def test_objects_that_kill_whoever_scans_them_are_given_up_one_by_one(
    world: World, s3: SyntheticS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such object costs three workers.

    The processes that continue the work can also be killed at any step.
    """
    spec = SPEC.model_copy(update={"batch_size": OBJECTS})
    monkeypatch.setattr(ScanWork, "scan", lambda work, *_: work._services.redis.fuse.blow())
    s3.list_at_most(OBJECTS)
    for step in range(0, 90, 3):
        world.start_over()
        deaths = 0
        # Even a process that is not killed can leave entries, which the next sweep sends again.
        for _ in range(MAX_LOST * OBJECTS + MOST_LIVES):
            deaths += not world.live(Fuse(step) if deaths == 1 else Fuse(), spec=spec)
            if world.services.audits.state(AUDIT) is not AuditState.RUNNING:
                break
            world.grow_old()

        assert MAX_LOST * OBJECTS <= deaths <= MAX_LOST * OBJECTS + 1
        world.assert_all_is_counted_once(statuses={Status.FAILED})
        reports = [verdict.report for verdict in world.services.store.read_stream(STREAM_START).verdicts]
        assert {report.reasons for report in reports} == {("poison",)}


def test_a_page_that_kills_whoever_lists_it_fails_the_audit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would kill workers forever. The audit continues from that page if a user resumes it."""
    with monkeypatch.context() as patched:
        patched.setattr(Auditor, "process", lambda *_: world.process_services().redis.fuse.blow())
        deaths = 0
        while not world.live(Fuse()):
            deaths += 1
            world.grow_old()
    failed = world.services.audits.get(AUDIT)
    assert failed is not None
    assert (deaths, failed.state) == (MAX_STARTS, AuditState.FAILED)
    assert "page 0" in str(failed.reason)

    world.services.audits.set_state(AUDIT, AuditState.RUNNING)
    world.live(Fuse())

    world.assert_all_is_counted_once(statuses={Status.SAFE})


DEATHS = st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEATHS)
@pytest.mark.slow
def test_one_process_after_the_other_is_killed(world: World, deaths: list[tuple[int, bool]]) -> None:
    world.start_over()
    for step, delivered_again in deaths:
        world.live(Fuse(step), delivered_again=delivered_again)
        world.grow_old()
    world.end()

    world.assert_all_is_counted_once(statuses={Status.SAFE, Status.FAILED})


@pytest.mark.parametrize("processes", [2, slow(3)])
@pytest.mark.slow
def test_several_processes_do_the_same_at_once(world: World, processes: int) -> None:
    for seed in range(ORDERS):
        world.start_over()
        world.times_delivered = 2

        world.live_at_once(random.Random(seed), processes=processes)  # noqa: S311 - to choose whose turn it is

        world.end()
        world.assert_all_is_counted_once(statuses={Status.SAFE})
