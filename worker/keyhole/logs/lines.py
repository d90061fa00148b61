"""Formats log records with structlog: JSON for programs, readable text for people at a terminal.

Secrets in URLs are masked. Control characters are escaped, so that logged text cannot send commands to the
terminal. JSON lines contain only printable ASCII characters.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from keyhole.inspectors.text import escaped, escaped_lines
from keyhole.masking import masked

#: The processors that add fields to every record, whether structlog or the standard library created the
#: record.
_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def make_formatter(*, terminal: bool) -> logging.Formatter:
    """Return a formatter that writes readable text for a terminal, or else JSON lines."""
    last: list[structlog.typing.Processor] = (
        # The default exception formatter would print the values of local variables, which can include
        # passwords.
        [_for_people, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [_for_programs, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_add_fields, *_SHARED],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *last,
        ],
    )


def get_structured_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a structlog logger for events with fields. It logs to the standard library's logger `name`."""
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


def _add_fields(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the fields of a record of the standard library: `log.info("verdict", extra={"fields": {…}})`."""
    fields = getattr(event.get("_record"), "fields", None)
    if isinstance(fields, Mapping):
        event.update(fields)
    return event


def _for_programs(_: object, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
    """Mask secrets in all values of a record."""
    return {name: _changed(value, masked) for name, value in event.items()}


def _for_people(_: object, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
    """Mask secrets in a record, and escape invisible characters. Tracebacks keep their line ends."""
    tracebacks = {"exception", "stack"}
    return {
        escaped(name): escaped_lines(masked(str(value)))
        if name in tracebacks
        else _changed(value, lambda text: escaped(masked(text)))
        for name, value in event.items()
    }


def _changed(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - any type can be logged
    """Return `value` with `change` applied to every text in it.

    Numbers, booleans and `None` stay as they are. The changed `repr` of every other object replaces the
    object.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(name)): _changed(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_changed(one, change) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return change(repr(value))
