"""The lines of logs, made by structlog: JSON for programs, readable text for people.

Secrets in URLs are masked, and nothing that is logged gives the terminal a command. JSON is ASCII, so it
holds no control characters either.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from keyhole.inspectors.text import escaped, escaped_lines
from keyhole.masking import masked

#: They add to every record, whether structlog or the standard library made it.
_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def make_formatter(*, terminal: bool) -> logging.Formatter:
    """Return a formatter of lines for people at a terminal, or of JSON."""
    last: list[structlog.typing.Processor] = (
        # Its own formatter of exceptions prints the values of all variables, passwords among them.
        [_for_people, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [_for_programs, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *last,
        ],
    )


def get_structured_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger of events with fields, on top of the standard library's of that name."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


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
