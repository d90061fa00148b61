"""Logs: JSON lines in workers, readable text on a terminal; always on stderr, for stdout is for results."""

import logging
import sys

import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

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
        [structlog.dev.ConsoleRenderer(colors=True)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.name = HANDLER
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != HANDLER), handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    set_on_retry_hooks([_tell_of_retry])


def _tell_of_retry(details: RetryDetails) -> None:
    """Log a retry. What all of them come to is told by whoever asked."""
    log.debug("trying again in %.1f s: %s", details.wait_for, details.caused_by)
