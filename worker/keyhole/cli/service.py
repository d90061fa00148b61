"""Runs a service (a worker, a listener or a scheduler), and logs the error that ends it."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from keyhole.cli.errors import INTERRUPTED, UNDECIDED, exit_code_of, first_line
from keyhole.cli.failure import is_debugging
from keyhole.errors import KeyholeError
from keyhole.logs.service import only_log_lines

log = logging.getLogger(__name__)


@contextmanager
def service(log_level: str) -> Iterator[None]:
    """Write only log lines during the `with` block. If the block ends with an error, log the error, and exit.

    On a terminal, let the command print the error as other commands do. With `--debug`, log at level debug,
    and log the traceback of every error.
    """
    debug = is_debugging()
    with only_log_lines("debug" if debug else log_level):
        try:
            yield
        except KeyholeError as error:
            if sys.stderr.isatty():
                raise
            log.critical("%s", first_line(error), exc_info=debug)
            sys.exit(exit_code_of(error))
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                raise
            log.warning("interrupted")
            sys.exit(INTERRUPTED)
        except click.ClickException:
            raise  # wrong usage: the command prints it as other commands do
        except Exception:
            if sys.stderr.isatty():
                raise
            log.critical("this is a bug in Keyhole; please report it", exc_info=True)
            sys.exit(UNDECIDED)


def last_words(path: Path) -> str:
    """Return the last event in the log of a service, or an empty text if the log is empty."""
    *_, last = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    try:
        return str(json.loads(last)["event"])
    except (ValueError, KeyError, TypeError):
        return last
