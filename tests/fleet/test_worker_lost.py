"""A task whose process was lost is sent again, and no process waits until it is sent."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from keyhole.fleet.worker_lost import Request
from keyhole.tasks import audit_page, scan, scan_batch
from tests.e2e.commands import until


class Loop:
    """An event loop that stores the calls that it should make."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr("keyhole.fleet.worker_lost.get_event_loop", lambda: loop)
    return loop


def lost(send: Callable[[], object]) -> Any:
    """A request whose process was lost; `send` sends it again."""

    class Lost(Request):
        name, id = "keyhole.scan", "an-id"
        task = SimpleNamespace(
            default_retry_delay=0,
            signature_from_request=lambda *_, **__: SimpleNamespace(apply_async=send),
        )
        _context = SimpleNamespace(retries=0)

        def __init__(self) -> None:
            self.fates: list[str] = []

        def acknowledge(self) -> None:
            self.fates.append("acknowledged")

        def reject(self, *, requeue: bool) -> None:
            self.fates.append("put back" if requeue else "dropped")

    return Lost()


def test_the_event_loop_does_not_wait_while_it_is_sent(loop: Loop) -> None:
    sent = threading.Event()
    request = lost(sent.wait)

    assert request._retry_worker_lost(OSError("lost"), None)

    assert loop.soon == []
    sent.set()
    until(lambda: loop.soon)
    loop.soon.pop()()
    assert request.fates == ["acknowledged"]


def test_what_cannot_be_sent_is_put_back(loop: Loop) -> None:
    def fail() -> None:
        raise ConnectionError("Redis is frozen")

    request = lost(fail)

    assert request._retry_worker_lost(OSError("lost"), None)

    until(lambda: loop.soon)
    loop.soon.pop()()
    assert request.fates == ["put back"]


@pytest.mark.parametrize("task", [scan, scan_batch, audit_page])
def test_all_tasks_that_are_sent_again_do_so(task: Any) -> None:
    assert task.Request == "keyhole.fleet.worker_lost:Request"
