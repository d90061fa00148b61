"""Reports the error that ends a command: one line, and with `--debug` also the traceback.

Commands raise errors; only `keyhole.cli.main` reports them. The traceback contains the messages of libraries,
so secrets are masked in it.
"""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

import click

from keyhole.cli.errors import UNDECIDED, USAGE, exit_code_of, first_line
from keyhole.errors import KeyholeError
from keyhole.inspectors.text import escaped, escaped_lines, shown
from keyhole.masking import MASK, masked

#: The environment variables whose values are secrets. A variable with the path of a file is not secret.
_SECRET_NAME: Final = re.compile(r"(?!.*_FILE\Z).*(SECRET|TOKEN|PASSWORD|PASSWD)", re.IGNORECASE)
#: The password in a URL.
_PASSWORD: Final = re.compile(r"://[^/\s]*?:(\S+)@")
#: A shorter secret is not masked outside a URL, because it would match parts of other words.
_SHORTEST_SECRET: Final = 6


def is_debugging() -> bool:
    """Return whether the user asked for details with `--debug` or `KEYHOLE_DEBUG`.

    The option sets the level of the log.
    """
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def report_failure(error: Exception) -> int:
    """Print an error to standard error, and return the command's exit code."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            # Its message is the help text of a group of commands.
            line = escaped_lines(error.format_message())
        case click.ClickException():
            line = f"Error: {escaped(masked(_usage(error)))}"
        case _:
            line = f"Error: {shown(without_secrets(_sentence(error), os.environ))}"
    code = _code(error)
    _print(line)
    if is_debugging() and not isinstance(error, click.ClickException):
        _print(details(error))
    return code


def details(error: BaseException) -> str:
    """Return the traceback of an error and of its causes, without secrets and control characters."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n")
    return escaped_lines(without_secrets(lines, os.environ))


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Mask secrets in a text: those in URLs, and all values of secret environment variables."""
    text = masked(text)
    secrets = {value for name, value in environment.items() if _SECRET_NAME.search(name)}
    for value in environment.values():
        for password in _PASSWORD.findall(value):
            secrets |= {password, unquote(password)}
    # Mask the longest secret first, because a shorter one can be a part of it.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return text


def _usage(error: click.ClickException) -> str:
    """Return one line about wrong usage, with the command that prints the correct usage."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    if isinstance(error, click.NoSuchOption) and error.option_name == "--debug":
        message = f"Write --debug before the command: keyhole --debug {context.info_name}."
    if not message.endswith((".", "?")):
        message += "."
    return f"{message} See `{context.command_path} --help`."


def _sentence(error: Exception) -> str:
    """Return one line about an error. If there is more to see, the line says how."""
    more = "" if is_debugging() else " (`keyhole --debug` shows more)"
    match error:
        case KeyholeError():
            # A user who corrects a setting or an argument does not need the traceback.
            has_more = error.__cause__ is not None and exit_code_of(error) != USAGE
            return first_line(error) + (more if has_more else "")
        case OSError(strerror=str(reason)):
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
            names = [str(name) for name in (error.filename, error.filename2) if name is not None]
            return ("cannot write: " if full and not names else "") + ": ".join([reason, *names]) + more
        case OSError() | MemoryError():
            return first_line(error) + more
        case _:
            kind, said = type(error).__name__, first_line(error)
            what = kind if said == kind else f"{kind}: {said}"
            where = "" if is_debugging() else ", with the output of `keyhole --debug`"
            return f"{what}: this is a bug in Keyhole; please report it{where}"


def _code(error: Exception) -> int:
    """Return the exit code of a command that ends with this error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return exit_code_of(error) if isinstance(error, KeyholeError) else UNDECIDED


def _print(text: str) -> None:
    """Print a line to standard error. If that is not possible, the exit code must suffice."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True)
        sys.stderr.flush()
