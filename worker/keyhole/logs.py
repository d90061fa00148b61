"""Logs: JSON lines in workers, readable text on a terminal; always on stderr, for stdout is for results.

Secrets in URLs are masked, and nothing that is logged gives the terminal a command. JSON is ASCII, so it
holds no control characters either.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from keyhole.inspectors.text import escaped, escaped_lines
from keyhole.masking import masked

#: Our handler's name: it takes the place of the one of an earlier call, and of no other's.
HANDLER = "keyhole"
#: Their loggers tell of every request at level info.
CHATTY = ("botocore", "boto3", "urllib3", "werkzeug")

log = logging.getLogger(__name__)


def configure(level: str) -> None:
    """Send everything that is logged, by structlog or by the standard library, to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[structlog.typing.Processor] = (
        # Its own formatter of exceptions prints the values of all variables, passwords among them.
        [_for_people, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [_for_programs, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != HANDLER), handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It logs a traceback for what it then raises, and that is told of in a line.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    set_on_retry_hooks([_tell_of_retry])


def _tell_of_retry(details: RetryDetails) -> None:
    """Log a retry. What all of them come to is told by whoever asked."""
    log.debug("trying again in %.1f s: %s", details.wait_for, details.caused_by)


def _for_programs(_: object, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
    """Mask what is logged."""
    return {name: _changed(value, masked) for name, value in event.items()}


def _for_people(_: object, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
    """Mask and escape what is logged. A traceback keeps its lines."""
    tracebacks = {"exception", "stack"}
    return {
        escaped(name): escaped_lines(masked(str(value)))
        if name in tracebacks
        else _changed(value, lambda text: escaped(masked(text)))
        for name, value in event.items()
    }


def _changed(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - whatever is logged
    """A value with its texts changed; of another object, the text that stands for it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(name)): _changed(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_changed(one, change) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return change(repr(value))
