"""Reads values in a thread, so that a page waits for a server for only a bounded time."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)

#: The values are read at most once in this many seconds.
FRESH_SECONDS: Final = 5.0

Value = TypeVar("Value")


class Background(Generic[Value]):
    """Reads a value in a thread, whenever the last value is `FRESH_SECONDS` old.

    Args:
        what: A name for the value, for log messages.
        read: Reads the value.
        guard: The thread reads in a `with guard()` block.
    """

    def __init__(
        self, what: str, read: Callable[[], Value], guard: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._what = what
        self._read = read
        self._guard = guard
        self._lock = threading.Lock()
        self._running: threading.Event | None = None
        self._value: Value | None = None
        self._failed = False
        self._read_at = float("-inf")

    def begin(self) -> None:
        """Start the thread, unless it runs already, or the last value is fresh."""
        with self._lock:
            if self._running is None and time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._running = threading.Event()
                threading.Thread(
                    target=self._run, args=(self._running,), name=self._what, daemon=True
                ).start()

    def value(self, until: float) -> Value | None:
        """Return the fresh value; `None` if reading it failed, or takes longer than `until` (monotonic)."""
        with self._lock:
            running = self._running
        if running is not None and not running.wait(max(0.0, until - time.monotonic())):
            return None
        with self._lock:
            return self._value

    def _run(self, done: threading.Event) -> None:
        value, failed = None, False
        try:
            with self._guard():
                value = self._read()
        except Exception as error:  # noqa: BLE001 - without the value, the page has fewer metrics
            failed = True
            if not self._failed:
                log.warning("%s cannot be read: %r", self._what, error)
        with self._lock:
            self._value, self._failed = value, failed
            self._read_at, self._running = time.monotonic(), None
        done.set()
