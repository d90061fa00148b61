"""`keyhole explain`: what a status or a reason means, and what to do about it."""

import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from keyhole.cli.errors import USAGE, CommandError
from keyhole.inspectors.findings import CHECKS
from keyhole.reasons import STATUSES, Reason, Status, meaning
from keyhole.remedies import ISOLATION, REMEDIES, Remedy, what_to_do
from keyhole.sources.uri_hints import exists, looks_like_uri

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: All codes that can be explained, in the order of the list, with the heading of each group.
_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Statuses": tuple(STATUSES),
    "Checks": tuple(CHECKS),
    "Other reasons": tuple(Reason),
}
CODES: Final = tuple(code for group in _GROUPS.values() for code in group)
#: Lines are at most this long, because longer lines are hard to read. Commands are never broken.
_WIDEST: Final = 100
#: Lines are at least this long, because `textwrap` refuses lines that are shorter than their indentation.
_NARROWEST: Final = 20


def _completed(_context: click.Context, _parameter: click.Parameter, text: str) -> "list[CompletionItem]":
    """Return the codes that begin with a text, for the shell's completion."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(code, help=_means(code)) for code in CODES if code.startswith(_plain(text))]


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...", shell_complete=_completed)
def explain_command(*, codes: tuple[str, ...]) -> None:
    """Explain statuses and reasons: what they mean, and what to do.

    CODE is a status, such as `unsafe`, or a reason, such as `backing_file`. Without CODE, the command lists
    all of them.

    \b
    keyhole explain                      list all statuses and reasons
    keyhole explain backing_file
    keyhole explain damaged truncated
    """
    if not codes:
        _list_codes()
        return
    # Find all codes before printing any, so that a mistake is not lost among the explanations.
    for number, code in enumerate([_known(code) for code in codes]):
        if number:
            click.echo()
        for line in _explained(code):
            click.echo(line)


def _known(text: str) -> str:
    """Return the code that a user means; upper case and hyphens are accepted.

    Raises:
        CommandError: There is no such code. The message suggests similar codes.
    """
    code = _plain(text)
    if code in CODES:
        return code
    if looks_like_uri(text) or exists(text):
        message = (
            f"{text!r} is not a code; `keyhole show` explains a verdict, `keyhole inspect` scans an object"
        )
        raise CommandError(message, USAGE)
    similar = difflib.get_close_matches(code, CODES)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`keyhole explain` lists all codes"
    raise CommandError(f"{text!r} is neither a status nor a reason; {hint}", USAGE)


def _plain(text: str) -> str:
    return text.strip().lower().replace("-", "_")


def _means(code: str) -> str:
    return STATUSES[Status(code)] if code in set(Status) else meaning(code)


def _list_codes() -> None:
    width = max(map(len, CODES))
    for number, (heading, codes) in enumerate(_GROUPS.items()):
        click.echo(f"\n{heading}" if number else heading)
        for code in codes:
            line = f"  {code.ljust(width)}  {_means(code)}"
            # In a pipe, each code is one line.
            click.echo(_hanging(line, width + 4) if sys.stdout.isatty() else line)
    click.echo("\nWhat to do about one of them: keyhole explain CODE")


def _hanging(line: str, indent: int) -> str:
    return textwrap.fill(line, _width(), subsequent_indent=" " * indent)


def _explained(code: str) -> Iterator[str]:
    """Yield the lines that explain one code."""
    yield f"{code} - {_kind(code)}"
    yield from _wrapped(f"Meaning: {_means(code)}.")
    yield from _wrapped(f"What to do: {what_to_do(code)}.")
    remedy = REMEDIES.get(code)
    if remedy is None:
        yield from _wrapped(f"Reasons: {', '.join(_reasons_of(Status(code))) or 'none'}.")
        return
    paragraphs = {
        "Why it matters": remedy.why,
        "How it arises": remedy.cause,
        "How to check": remedy.check,
        "How to repair": remedy.repair,
    }
    for heading, text in paragraphs.items():
        yield ""
        yield heading
        yield from _wrapped(text)
    yield from _commands(remedy)


def _commands(remedy: Remedy) -> Iterator[str]:
    if remedy.repairs:
        yield ""
        yield from _wrapped(ISOLATION)
    for repair in remedy.repairs:
        yield ""
        yield from (f"  # {line}" for line in textwrap.wrap(repair.aim, _width() - 4))
        yield from (f"  {command}" for command in repair.commands)


def _kind(code: str) -> str:
    """Return which kind of code it is, and which status it leads to."""
    if code in set(Status):
        return "a status"
    if code in set(Reason):
        return f"a reason for the status {Reason[code.upper()].status}"
    from keyhole.inspectors.findings import Severity
    from keyhole.scan.policy import STATUS_OF_CHECK

    severity = CHECKS[code].severity
    leads = "does not change the status" if severity is Severity.INFO else f"status {STATUS_OF_CHECK[code]}"
    return f"a check, usually {severity}: {leads}"


def _reasons_of(status: Status) -> list[str]:
    """Return the codes that usually lead to a status."""
    from keyhole.inspectors.findings import Severity
    from keyhole.scan.policy import STATUS_OF_CHECK

    checks = [code for code, check in CHECKS.items() if check.severity is not Severity.INFO]
    return [
        *(code for code in checks if STATUS_OF_CHECK[code] is status),
        *(reason for reason in Reason if reason.status is status),
    ]


def _wrapped(text: str) -> Iterator[str]:
    """Yield a paragraph as indented lines that fit on the terminal."""
    yield from textwrap.wrap(
        text,
        _width(),
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width() -> int:
    return max(_NARROWEST, min(shutil.get_terminal_size((80, 24)).columns, _WIDEST))
