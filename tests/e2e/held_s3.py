"""moto's server under a test's control. It records reads and writes of tags, and can delay answers.

A GET of a key that begins with `held/` gets no answer until the test allows it. Until then the process that
sent it is in the middle of a scan, and the test can kill, stop or inspect that process. A test can also act
before and after each write of tags, or refuse the write.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

from tests.e2e.commands import PATIENCE
from tests.servers.serving import MotoApplication, serving_moto

#: A GET that no test releases gets its answer after this many seconds, so that no thread outlives its test
#: for long.
LONGEST_HOLD = PATIENCE


class HeldS3(MotoApplication):
    """A WSGI application that records and delays requests. moto answers them."""

    def __init__(self) -> None:
        super().__init__()
        self._released = threading.Event()
        self._asked: Queue[str] = Queue()
        self.reads: list[str] = []
        self.tag_writes: list[str] = []
        self.reset()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["RAW_URI"]
        if method == "GET" and "?" not in path:
            self.reads.append(path)
        if method == "PUT" and "?tagging" in path:
            return self._write_tags(path, environ, start_response)
        if method == "GET" and "/held/" in path and "?" not in path:
            self._asked.put(path)
            self._released.wait(LONGEST_HOLD)
        return super().__call__(environ, start_response)

    def _write_tags(
        self, path: str, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.tag_writes.append(path)
        if self.refuses_tags(path):
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>no</Message></Error>"]
        self.before_tag_write(path)
        answer = super().__call__(environ, start_response)
        self.after_tag_write(path)
        return answer

    def reset(self) -> None:
        """Remove the actions before and after writes of tags, and refuse no write."""
        self.refuses_tags: Callable[[str], bool] = lambda _: False
        self.before_tag_write: Callable[[str], object] = lambda _: None
        self.after_tag_write: Callable[[str], object] = lambda _: None

    def hold(self) -> None:
        """Delay answers from now on, and forget earlier requests."""
        self._released.clear()
        while not self._asked.empty():
            self._asked.get()

    def await_request(self) -> str:
        """Wait until a client requests a held key, and return the path."""
        return self._asked.get(timeout=PATIENCE)

    def release(self) -> None:
        """Answer all delayed requests, and delay none until `hold`."""
        self._released.set()


@contextmanager
def held_s3() -> Iterator[HeldS3]:
    """Run the server in a thread, on a free port of the loopback interface."""
    application = HeldS3()
    with serving_moto(application):
        try:
            yield application
        finally:
            application.release()
