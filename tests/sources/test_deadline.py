"""No server can delay a request beyond the budget's seconds, even if it sends single bytes."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import stamina

from keyhole.sources import s3_obstore
from keyhole.sources.deadline import deadline
from keyhole.sources.errors import BudgetExhaustedError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_answer import Pin, Span
from keyhole.sources.s3_client import READ_SECONDS
from tests.servers.access import CREDENTIALS, isolate

#: Seconds between two bytes.
TRICKLE = 0.05
HEAD = (
    b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nLast-Modified: Fri, 01 May 2026 12:00:00 GMT\r\n'
    b"Content-Length: 65536\r\nContent-Range: bytes 0-65535/1000000\r\n\r\n"
)


def trickle(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(TRICKLE)


def trickle_headers(connection: socket.socket) -> None:
    trickle(connection, HEAD * 1000)


def trickle_body(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    trickle(connection, bytes(65536))


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers every connection in this way. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    answer(connection)
                except OSError:
                    return  # the client has read as much as it wanted

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("answer", [trickle_headers, trickle_body, say_nothing])
# Only boto3 reads the second key, because obstore cannot request it.
@pytest.mark.slow
@pytest.mark.parametrize("key", ["disk.qcow2", "a//disk.qcow2"])
def test_a_request_ends_with_the_budget(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None], key: str
) -> None:
    isolate(monkeypatch, **CREDENTIALS)
    with serving(answer) as url:
        access = S3Access(endpoint_url=url, region="us-east-1", connections=1)
        meter = Meter(Budget(seconds=1.0))
        source = S3Source(access, "bucket", key, version_id=None, meter=meter)

        with pytest.raises(BudgetExhaustedError, match="budget of 1 seconds"):
            source.read(0, 65536)

        # The timeout of a wait for bytes would end a silent request later.
        assert meter.elapsed_seconds < READ_SECONDS


def test_an_attempt_that_the_budget_cuts_off_does_not_hide_why_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first answer is a page of another server, and then there is no answer."""
    pages = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"]
    isolate(monkeypatch, **CREDENTIALS)
    with (
        serving(
            lambda connection: connection.sendall(pages.pop()) if pages else say_nothing(connection)
        ) as url,
        stamina.set_testing(True, attempts=3),
    ):
        access = S3Access(endpoint_url=url, region="us-east-1", connections=1)
        assert access.client  # making the client takes as long as several requests
        # This is shorter than the timeout of obstore, so only boto3 sends requests.
        meter = Meter(Budget(seconds=5))
        source = S3Source(access, "bucket", "disk.qcow2", version_id=None, meter=meter)

        with pytest.raises(BudgetExhaustedError):
            source.read(0, 65536)

    assert f"{url} answers with a page that is not an object of S3" in str(meter.trouble)


@pytest.mark.parametrize("answer", [trickle_headers, trickle_body, say_nothing])
def test_a_request_of_obstore_ends_by_its_own_timeout(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]
) -> None:
    """The request is sent only if its timeout is within the budget."""
    isolate(monkeypatch, **CREDENTIALS)
    monkeypatch.setattr(s3_obstore, "READ_SECONDS", 0.3)
    with serving(answer) as url:
        store = S3Access(endpoint_url=url, region="us-east-1", connections=1).route("bucket").store
        assert store is not None
        meter = Meter(Budget(seconds=600))

        with pytest.raises(s3_obstore.ObstoreRefusedError):
            s3_obstore.get(store, Pin("bucket", "disk.qcow2", None), Span(0, 65536), meter.received)

        assert meter.elapsed_seconds < READ_SECONDS


def test_a_budget_without_end_is_no_deadline() -> None:
    """An exception in the timer's thread would be a warning, which the tests treat as an error."""
    with deadline(float("inf")) as bound:
        assert not bound.expired


def expires(seconds: float) -> float:
    """The time until a deadline expires."""
    began = time.monotonic()
    with deadline(seconds) as bound:
        while not bound.expired:
            time.sleep(0.001)
    return time.monotonic() - began


def test_one_thread_watches_all_deadlines() -> None:
    """A thread for each deadline would cost more than most requests."""
    expires(0)
    before = threading.active_count()

    with deadline(60), ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(expires, seconds) for seconds in (0.2, 0.1, 0, 0.1)]
        assert threading.active_count() <= before + 4
        assert [
            wait.result() >= seconds for wait, seconds in zip(waits, (0.2, 0.1, 0, 0.1), strict=True)
        ] == ([True] * 4)


def test_what_is_over_does_not_expire() -> None:
    with deadline(60) as bound:
        pass

    bound.expire()

    assert not bound.expired


def test_a_forked_process_watches_its_own() -> None:
    """The parent's thread does not exist in a forked process."""
    expires(0)
    child = os.fork()
    if not child:
        threading.Timer(60, os._exit, (1,)).start()
        os._exit(0 if expires(0.01) else 1)

    assert os.waitpid(child, 0)[1] == 0
