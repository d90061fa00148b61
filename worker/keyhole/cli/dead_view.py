"""Shows dead letters on a terminal."""

import json
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Group
from rich.table import Table
from rich.text import Text

from keyhole.inspectors.text import printable, shown
from keyhole.intake.dead_letters import DeadLetter
from keyhole.masking import masked
from keyhole.reports.figures import size

#: `keyhole dead list` shows this many characters of each id. Ids of this length are enough to distinguish a
#: million letters.
ID_CHARACTERS = 12
#: `keyhole dead show` prints at most this many bytes of a body.
SHOWN_BYTES = 4096


def table(letters: Sequence[DeadLetter]) -> Table:
    """Return a table of letters."""
    rows = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    rows.add_column("letter", no_wrap=True)
    rows.add_column("kind", no_wrap=True)
    rows.add_column("last, UTC", no_wrap=True)
    rows.add_column("times", justify="right", no_wrap=True)
    rows.add_column("size", justify="right", no_wrap=True)
    rows.add_column("reason", overflow="fold", ratio=1, min_width=20)
    for letter in letters:
        rows.add_row(
            letter.id[:ID_CHARACTERS],
            letter.kind.value,
            letter.last_at.strftime("%m-%d %H:%M"),
            f"{letter.times:,}",
            size(letter.size),
            Text(shown(letter.reason)),
        )
    return rows


def page(letter: DeadLetter) -> Group:
    """Return all facts about a letter, and the beginning of its body."""
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
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
