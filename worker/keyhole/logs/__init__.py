"""Logs on stderr, since stdout is for results: JSON lines in workers, readable text on a terminal."""

import logging
import sys
from functools import cached_property

#: The name of our handler. A new one replaces the one of an earlier call and leaves the handlers of others.
HANDLER = "keyhole"
#: Their loggers tell of every request at level info.
CHATTY = ("botocore", "boto3", "urllib3", "werkzeug")


class _Formatter(logging.Formatter):
    """Formats by structlog, which it imports with the first record: most commands log nothing."""

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
    """Send everything that is logged, by structlog or by the standard library, to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER
    handler.setFormatter(_Formatter(terminal=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != HANDLER), handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It logs a traceback for what it then raises, and the command reports that in one line.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
