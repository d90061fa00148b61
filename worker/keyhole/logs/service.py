"""Makes a service write only log lines: JSON, unless standard error is a terminal.

A service is a worker, a listener or a scheduler. Its log is read by programs, which expect one JSON object in
each line. But libraries also print text: warnings, uncaught exceptions, and messages such as Celery's "Warm
shutdown". So this module logs warnings and uncaught exceptions, and replaces stdout and stderr by streams
that write each printed line as JSON.

Native code prints without Python's streams. `keyhole.logs.native` logs what it prints in a pool process.
"""

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from keyhole import logs
from keyhole.logs.native import native_text, redirect
from keyhole.masking import masked


class PrintedLines(io.TextIOBase):
    """A stream that writes each printed line as a line of JSON to another stream.

    It does not use `logging`, because signal handlers print, too, and can interrupt a thread that is writing
    a log line.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, log: TextIO, native: int | None = None) -> None:
        """Create a stream.

        Args:
            name: The name of the logger in the lines.
            log: The stream of the log.
            native: The descriptor for native code in a pool process; see `keyhole.logs.native`.
        """
        self._name = name
        self.log = log
        self.native = native
        self._begun = threading.local()

    def writable(self) -> bool:
        """Return true."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the log, to which `faulthandler` writes the stacks of a stuck process."""
        return self.log.fileno()

    def write(self, text: str) -> int:
        """Write all complete lines of this thread, and keep the rest for the next call."""
        *lines, self._begun.text = (getattr(self._begun, "text", "") + text).split("\n")
        for line in lines:
            if line.strip():
                self.write_line(line.rstrip())
        return len(text)

    def write_line(self, line: str) -> None:
        """Write one line."""
        entry = {
            "event": masked(line),
            "level": "warning",
            "logger": self._name,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        whole = (json.dumps(entry) + "\n").encode()
        try:
            descriptor = self.log.fileno()
        except (OSError, ValueError):  # a stream in memory has no descriptor
            self.log.write(whole.decode())
            return
        with suppress(OSError):
            os.write(descriptor, whole)


@contextmanager
def only_log_lines(level: str) -> Iterator[None]:
    """Configure logging for a service, and log what libraries print, during the `with` block.

    Args:
        level: See `keyhole.logs.configure`.
    """
    if sys.stderr.isatty():
        logs.configure(level)
        yield
        return
    with ExitStack() as stack:
        log = stack.enter_context(_log())
        native = stack.enter_context(native_text(PrintedLines("native", log).write_line))
        stack.enter_context(_replaced(log, native))
        logs.configure(level)
        yield


def redirect_native_text() -> None:
    """In a pool process of a service, let the output of native code reach the log as JSON."""
    native = getattr(sys.stderr, "native", None)
    if native is not None:
        redirect(native)


@contextmanager
def _log() -> Iterator[TextIO]:
    """Yield a stream to this process's standard error that does not use descriptor 2."""
    log = sys.stderr
    try:
        descriptor = os.dup(log.fileno())
    except (OSError, ValueError):  # a stream in memory has no descriptor
        yield log
        return
    log.flush()
    # After the block, loggers can still have this stream, so it stays open.
    yield open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: PTH123, SIM115 - a descriptor; see above


@contextmanager
def _replaced(log: TextIO, native: int) -> Iterator[None]:
    """Replace the streams and the hooks of this process during the `with` block."""
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")}
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_exception
    threading.excepthook = lambda args: _log_uncaught(
        f"an exception ended the thread {args.thread.name if args.thread else '?'}", args.exc_value
    )
    sys.unraisablehook = partial(_log_ignored, hooks[2])
    for name in streams:
        setattr(sys, name, PrintedLines(name.strip("_"), log, native))
    try:
        yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(capture=False)


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log_uncaught("an exception ended the process", error.with_traceback(traceback))


def _log_ignored(
    before: Callable[["sys.UnraisableHookArgs"], object], ignored: "sys.UnraisableHookArgs"
) -> None:
    if isinstance(ignored.exc_value, KeyboardInterrupt | SystemExit):
        before(ignored)  # the command's hook, so that the process ends (`keyhole.cli.endings`)
        return
    _log_uncaught(f"{ignored.err_msg or 'an exception was ignored in'} {ignored.object!r}", ignored.exc_value)


def _log_uncaught(event: str, error: BaseException | None) -> None:
    logging.getLogger(__name__).critical(event, exc_info=error)


def say(message: str, _stream: Any = None) -> None:  # noqa: ANN401 - Celery's signature
    """Replace the function with which Celery prints messages about a shutdown.

    Celery writes these messages directly to a file descriptor.
    """
    stream = sys.stderr
    if isinstance(stream, PrintedLines):
        stream.write_line(message)
    else:
        stream.write(f"{message}\n")
