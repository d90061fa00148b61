"""Reports with the owners of their objects, and how texts show these owners.

Uploaders choose the values of tags, so the name of an owner can contain anything.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from keyhole.inspectors.text import escaped
from keyhole.reports.figures import counted
from keyhole.results.owner import Owner
from keyhole.scan.report import Report

#: The maximum number of different explanations that are counted. There is usually one: a missing permission.
MOST_REASONS: Final = 100
#: The number of explanations that are told.
SHOWN_REASONS: Final = 5
#: How pages and texts call what is no name of an owner.
NO_TAG, UNKNOWN, EMPTY = "no owner tag", "unknown owner", "an empty tag"
#: The same in a table on a terminal. A name that reads like this has quotation marks there.
_CELL_NO_TAG, _CELL_UNKNOWN = "-", "(unknown)"
#: A name that a table on a terminal shows without quotation marks.
_PLAIN: Final = re.compile(r'(?!-\Z)[^\s"(\\][^\s\\]*')


class OwnedReport(NamedTuple):
    """A report, and the owner of its object. In an audit without an owner tag, the owner has no name."""

    report: Report
    owner: Owner = Owner()


class UnknownOwners:
    """Counts why owners are unknown, with bounded memory."""

    def __init__(self) -> None:
        self._objects = 0
        self._why: Counter[str] = Counter()

    def add(self, owner: Owner) -> None:
        """Count an object if its owner is unknown."""
        why = owner.unknown
        if why is None:
            return
        self._objects += 1
        if why in self._why or len(self._why) < MOST_REASONS:
            self._why[why] += 1

    def told(self, shown: Callable[[str], str] = escaped) -> list[str]:
        """Return a sentence for each of the most common explanations, and one for all others.

        `shown` makes an explanation, which can contain an answer of a server, safe to display.
        """
        most = self._why.most_common(SHOWN_REASONS)
        told = [f"The owner of {counted(count, 'object')} is unknown: {shown(why)}." for why, count in most]
        rest = self._objects - sum(count for _, count in most)
        if rest:
            told.append(f"The owner of {counted(rest, 'other object')} is unknown for other reasons.")
        return told


def owner_cell(owner: Owner) -> str:
    r"""Return an owner as a cell of a table on a terminal: one word, or a text in quotation marks.

    Different owners have different cells. `-` means that the object lacks the tag, and `(unknown)` that its
    tags could not be read. Every other name that is not a word without backslashes has quotation marks, so
    that it cannot look like further columns. Within them, a backslash precedes a backslash or a quotation
    mark, and invisible characters are escapes such as `\x1b`.
    """
    name = owner.name
    if name is None:
        return _CELL_NO_TAG if owner.unknown is None else _CELL_UNKNOWN
    if name.isprintable() and _PLAIN.fullmatch(name):
        return name
    return '"' + escaped(re.sub(r'(["\\])', r"\\\1", name)) + '"'
