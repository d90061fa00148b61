"""Finds the line of a value in a TOML text, for error messages.

Python's parser of TOML does not keep the positions of values. So this module scans the lines for the headers
of tables and for keys. It understands the layouts that people write, and is approximate for others: the line
of a key in an inline table, for example, is the line on which the inline table begins.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

#: The path of a value: the names of tables and keys, and the indexes of array entries.
Path = Sequence[int | str]

_HEADER: Final = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(#.*)?$")
_KEY: Final = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART: Final = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_FENCES: Final = ('"""', "'''")


class _Line(NamedTuple):
    """A line with a header or a key: its number, the path that it names, and whether it is a header."""

    number: int
    path: tuple[int | str, ...]


def line_of(text: str, path: Path) -> int | None:
    """Return the number of the line of a value, from 1; `None` if neither it nor its tables are found.

    If the value itself is not found, for example because it is missing, this is the line of its table.
    """
    wanted = tuple(path)
    best: _Line | None = None
    for line in _lines(text):
        same = len(line.path) <= len(wanted) and wanted[: len(line.path)] == line.path
        if same and (best is None or len(line.path) > len(best.path)):
            best = line
    return best and best.number


def line_of_text(text: str, start: int, value: str) -> int:
    """Return the number of the first line from `start` on that contains a quoted text; else `start`."""
    lines = text.splitlines()
    for number in range(start, len(lines) + 1):
        line = lines[number - 1]
        if f'"{value}"' in line or f"'{value}'" in line:
            return number
        if number > start and (_HEADER.match(line) or _KEY.match(line)):
            break
    return start


def _lines(text: str) -> Iterator[_Line]:
    """Yield the lines with headers and keys. Lines within a text of several lines are left out."""
    table: tuple[int | str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    fence: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is not None:
            fence = None if line.count(fence) % 2 else fence
            continue
        if header := _HEADER.match(line):
            names = _names(header[2])
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
            table = _numbered(names, counts)
            yield _Line(number, table)
        elif key := _KEY.match(line):
            yield _Line(number, (*table, *_names(key[1])))
        fence = next((mark for mark in _FENCES if line.count(mark) % 2), None)


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _numbered(names: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> tuple[int | str, ...]:
    """Return the path of a table: after the name of an array of tables comes the index of its last table."""
    path: list[int | str] = []
    for length, name in enumerate(names, 1):
        path.append(name)
        if names[:length] in counts:
            path.append(counts[names[:length]])
    return tuple(path)
