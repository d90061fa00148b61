"""A worker forks only while none of its threads holds a lock. Otherwise its child would wait forever."""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport import redis as kombu_redis

from keyhole.fleet import forking, s3_watch, sweeping
from keyhole.fleet.forking import GATE
from keyhole.fleet.redis_transport import Backlog, Channel
from keyhole.fleet.s3_watch import S3WatchStep
from keyhole.fleet.sweeping import SweepStep
from keyhole.fleet.worker_lost import Request
from tests.e2e import commands

Action = Callable[[], object]
#: How long a thread of these tests holds its lock, in seconds.
HELD = 0.2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let forks wait for threads for longer than a fork takes on a busy machine; return the seconds."""
    monkeypatch.setattr(forking, "PATIENCE", 60.0)
    return 60.0


def in_a_fork(succeeds: Callable[[], bool]) -> bool:
    """Whether a function succeeds in a forked process."""
    child = os.fork()
    if not child:
        os._exit(0 if succeeds() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Work:
    """A thread that takes a lock, holds it for a moment, and ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, *_: object, **__: object) -> None:
        with self.lock:
            self.begun.set()
            self.may_end.wait(HELD)

    def is_free(self) -> bool:
        """Whether the lock can be taken."""
        return self.lock.acquire(blocking=False)


def send_a_lost_task_again(work: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = SimpleNamespace(call_soon=lambda _: None)
    monkeypatch.setattr("keyhole.fleet.worker_lost.get_event_loop", lambda: loop)
    signature = SimpleNamespace(apply_async=work)

    class Lost(Request):
        name, id = "keyhole.scan", "an-id"
        task = SimpleNamespace(default_retry_delay=0, signature_from_request=lambda *_, **__: signature)
        _context = SimpleNamespace(retries=0)

        def __init__(self) -> None:
            pass

    Lost()._retry_worker_lost(OSError("lost"), None)


def tell_redis_of_messages(work: Action, _: pytest.MonkeyPatch) -> None:
    Backlog().add(work)


def refresh_bindings(work: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kombu_redis.Channel, "maybe_refresh_binding_expiry", work)
    channel: Any = Channel.__new__(Channel)
    channel.__dict__.update(_expires={"queue": 1}, _active_queues=["queue"], connection=None)
    channel.maybe_refresh_binding_expiry()


def ask_for_a_sweep(work: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SimpleNamespace(claim_sweep=work)
    monkeypatch.setattr(sweeping, "services", lambda: SimpleNamespace(ledger=ledger))
    step: Any = SimpleNamespace(_asking=None)
    SweepStep.ask(step)


def ask_s3(work: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_watch, "why_unusable", work)
    step: Any = SimpleNamespace(_answer=[], _asking=None, _resting=("jobs",))
    step._ask = partial(S3WatchStep._ask, step)
    S3WatchStep.look(step)


@pytest.mark.parametrize(
    "begin",
    [send_a_lost_task_again, tell_redis_of_messages, refresh_bindings, ask_for_a_sweep, ask_s3],
    ids=lambda begin: begin.__name__,
)
@pytest.mark.usefixtures("patient")
def test_a_forked_process_finds_no_lock_held(
    begin: Callable[[Action, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    begin(work, monkeypatch)
    assert work.begun.wait(commands.PATIENCE)

    assert in_a_fork(work.is_free)


def test_no_work_begins_during_a_fork() -> None:
    began = threading.Event()

    def work() -> None:
        with GATE.working():
            began.set()

    GATE.close()
    thread = threading.Thread(target=work)
    thread.start()
    assert not began.wait(0.05)
    GATE.open()
    thread.join()

    assert began.is_set()


def test_a_fork_does_not_wait_for_one_that_waits_for_redis(patient: float) -> None:
    inside, may_leave = threading.Event(), threading.Event()

    def work() -> None:
        with GATE.working():
            inside.set()
            may_leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    GATE._began[thread.ident or 0] -= patient  # as if a thread held the lock for this long
    began = time.monotonic()

    assert in_a_fork(lambda: True)

    assert time.monotonic() - began < patient
    may_leave.set()
    thread.join()


def test_a_forked_process_and_one_that_forks_inside_go_on(patient: float) -> None:
    def enters() -> bool:
        with GATE.working():
            return True

    with GATE.working(), GATE.working():
        began = time.monotonic()
        assert in_a_fork(enters)
        assert time.monotonic() - began < patient

    assert enters()
