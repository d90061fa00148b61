"""Shows dead letters on a terminal."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import click
from rich.console import Group
from rich.table import Table as Facts
from rich.text import Text

from keyhole.cli.table import Column, Table
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import printable, shown
from keyhole.intake.dead_letters import DeadLetter, LetterKind
from keyhole.masking import masked
from keyhole.reports.figures import counted, size

#: `keyhole dead list` shows this many characters of each id. Ids of this length are enough to distinguish a
#: million letters.
ID_CHARACTERS = 12
#: `keyhole dead show` prints at most this many bytes of a body.
SHOWN_BYTES = 4096


def print_table(letters: Sequence[DeadLetter]) -> None:
    """Print a table of letters, and a line with the number of letters of each kind."""
    console = SafeConsole()
    columns = [
        Column("letter", ID_CHARACTERS),
        Column("kind", 7),
        Column("last, UTC", 11),
        Column("times", 5, right=True),
        Column("size", 8, right=True),
    ]
    table = Table(console, columns, "reason", whole=not console.is_terminal)
    for letter in letters:
        cells = [
            letter.id[:ID_CHARACTERS],
            letter.kind.value,
            f"{letter.last_at:%m-%d %H:%M}",
            f"{letter.times:,}",
            size(letter.size),
        ]
        table.row(cells, letter.reason)
    kinds = Counter(letter.kind for letter in letters)
    told = ", ".join(f"{kinds[kind]:,} {kind.value}" for kind in LetterKind if kinds[kind])
    click.echo(f"{counted(len(letters), 'dead letter')}: {told}")


def page(letter: DeadLetter) -> Group:
    """Return all facts about a letter, and the beginning of its body."""
    facts = Facts(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("letter", letter.id)
    facts.add_row("kind", letter.kind.value)
    facts.add_row("from", Text(shown(letter.source)))
    facts.add_row("reason", Text(shown(letter.reason)))
    facts.add_row("times", f"{letter.times:,}")
    facts.add_row("first", letter.first_at.isoformat(timespec="seconds"))
    facts.add_row("last", letter.last_at.isoformat(timespec="seconds"))
    body = letter.body or b""
    kept = "" if letter.is_whole else f"; only the first {size(len(body))} are stored"
    facts.add_row("size", f"{size(letter.size)} ({letter.size:,} bytes){kept}")
    lines = [masked(printable(line)) for line in _pretty(body[:SHOWN_BYTES], whole=len(body) <= SHOWN_BYTES)]
    if len(body) > SHOWN_BYTES:
        lines.append(f"… the first {size(SHOWN_BYTES)}; for the whole body: keyhole dead show --body")
    return Group(facts, Text(), Text("\n".join(lines)))


def _pretty(body: bytes, *, whole: bool) -> list[bytes]:
    """Return the lines of a body. A complete JSON body is indented."""
    if whole:
        with suppress(ValueError, RecursionError):
            return json.dumps(json.loads(body), indent=2, ensure_ascii=True).encode().split(b"\n")
    return body.split(b"\n")
