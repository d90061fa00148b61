"""Sends logs to stderr as readable text (on a terminal) or as JSON lines, because stdout is for results."""

import logging
import sys
from functools import cached_property

#: The name of Keyhole's handler. A second call of `configure` replaces the handler with this name, and does
#: not change other handlers.
HANDLER = "keyhole"
#: Libraries that log every request at level info. For their loggers, the level is at least warning.
CHATTY = ("botocore", "boto3", "urllib3", "werkzeug")
#: Libraries that log every task at level info. Keyhole logs the lines of these libraries only if Keyhole's
#: own level is debug.
ROUTINE = ("celery", "kombu", "redbeat")


class _Formatter(logging.Formatter):
    """Formats records with structlog. It imports structlog at the first record; most commands log nothing."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    @cached_property
    def _by_structlog(self) -> logging.Formatter:
        from keyhole.logs.lines import make_formatter  # noqa: PLC0415 - see above

        return make_formatter(terminal=self._terminal)

    def format(self, record: logging.LogRecord) -> str:
        return self._by_structlog.format(record)


def configure(level: str) -> None:
    """Send all logs of structlog and of the standard library to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    # A service replaces `sys.stderr` by a stream that writes to `log` (`keyhole.logs.service`).
    handler = logging.StreamHandler(getattr(sys.stderr, "log", sys.stderr))
    handler.name = HANDLER
    handler.setFormatter(_Formatter(terminal=handler.stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != HANDLER), handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ROUTINE:
        routine = logging.INFO if root.level == logging.DEBUG else max(logging.WARNING, root.level)
        logging.getLogger(name).setLevel(routine)
    # When botocore finds no credentials, it logs a warning with a traceback, and then raises an error.
    # Suppress the warning, because the command reports the error in one line.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
