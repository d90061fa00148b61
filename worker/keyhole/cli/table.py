"""A table that is printed row by row, with columns of fixed width, while its rows are still being found.

The last column contains the names, which can have any length. On a terminal, a name that is too long for its
line is shortened in the middle, and everything fits into the line. `--wide` and a pipe or a file get whole
names. Codes and numbers are never cut: if one is wider than its column, the rest of the line moves right.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from keyhole.inspectors.text import escaped

#: Stands for the part of a name that is left out.
GAP: Final = "…"
#: The fewest characters of a name that are shown, however narrow the terminal is.
LEAST: Final = 20
#: In a shortened name, at least this many characters of the end are shown.
_LEAST_END: Final = 8


class Column(NamedTuple):
    """A column. `width` is the width of the widest usual cell, in characters."""

    title: str
    width: int
    right: bool = False


class Table:
    """Prints rows on a console. Every cell but the last fills its column."""

    def __init__(self, console: Console, columns: Sequence[Column], name: str, *, whole: bool) -> None:
        """Prepare a table whose last column, of names, has the title `name`.

        If `whole` is false, names are shortened so that each line fits the console.
        """
        self._console = console
        self._columns = columns
        self._title = name
        self._begun = False
        self._room = None if whole else max(LEAST, console.width - used(columns))

    def row(self, cells: Sequence[Text | str], name: str, below: str = "") -> None:
        """Print a row, after the titles if it is the first one. `below` is printed in lines of its own."""
        if not self._begun:
            self._begun = True
            titles = [Text(column.title, style="bold") for column in self._columns]
            self._print(titles, Text(self._title, style="bold"))
        self._print(cells, Text(shortened(name, self._room)))
        if below:
            self._console.print(Text(below), soft_wrap=True)

    def _print(self, cells: Sequence[Text | str], name: Text) -> None:
        line = Text()
        for column, cell in zip(self._columns, cells, strict=True):
            text = cell if isinstance(cell, Text) else Text(cell)
            space = " " * (column.width - text.cell_len)
            line += Text(space) + text if column.right else text + Text(space)
            line.append(" ")
        self._console.print(line + name, soft_wrap=True)


def used(columns: Sequence[Column]) -> int:
    """Return how many characters columns need, with the spaces after them."""
    return sum(column.width + 1 for column in columns)


def shortened(name: str, room: int | None) -> str:
    """Return a name in one line, without its middle if it is wider than `room`.

    Invisible characters become escapes. Of a URI, the bucket or the host is shown, if it leaves room for the
    end of the key: the same key can be in several buckets.
    """
    name = escaped(name)
    if room is None or cell_len(name) <= room:
        return name
    head = room // 3
    scheme = name.find("://")
    if scheme > 0:
        place = cell_len(name[: name.find("/", scheme + len("://")) + 1])
        if place + len(GAP) + _LEAST_END <= room:
            head = max(head, place)
    start = set_cell_size(name, head).rstrip(" ")
    end = room - cell_len(start) - len(GAP)
    # Cut from the end by the width of the characters. A mark without width, such as an accent, must not
    # begin the end, because it would change the gap.
    place, width = len(name), 0
    while place and width + cell_len(name[place - 1]) <= end:
        place -= 1
        width += cell_len(name[place])
    while place < len(name) and not cell_len(name[place]):
        place += 1
    return f"{start}{GAP}{name[place:]}"


def codes_below(codes: Sequence[str], width: int, indent: int = 2) -> str:
    """Return codes in lines that are indented and at most `width` wide. A code is never broken."""
    lines: list[str] = []
    for number, code in enumerate(codes):
        word = code + ("," if number + 1 < len(codes) else "")
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(" " * indent + word)
    return "\n".join(lines)


def codes_within(codes: Sequence[str], width: int) -> str:
    """Return codes in at most `width` characters.

    If not all codes fit, return the first ones and the number of the others; at least the first code.
    """
    for shown in range(len(codes), 1, -1):
        left = len(codes) - shown
        text = ", ".join(codes[:shown]) + (f" +{left}" if left else "")
        if len(text) <= width:
            return text
    return codes[0] + (f" +{len(codes) - 1}" if len(codes) > 1 else "") if codes else ""
