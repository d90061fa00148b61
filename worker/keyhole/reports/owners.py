"""Counts the objects of an audit by their owners, with bounded memory.

The owner of an object is the value of the audit's owner tag. Uploaders choose the values, so there can be as
many owners as objects. Objects without the tag are counted apart, and so are objects whose tags could not be
read: their owner is unknown.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from keyhole.reports.groups import Groups, Tally
from keyhole.reports.rows import Row

#: The maximum number of different explanations that are counted. There is usually one: a missing permission.
_MOST_REASONS: Final = 100
#: The number of explanations that the page shows.
SHOWN_REASONS: Final = 5
#: How a page calls the groups that have no name.
NO_TAG, UNKNOWN, OTHERS, EMPTY = "no owner tag", "unknown owner", "all other owners", "an empty tag"


class OwnerGroup(NamedTuple):
    """One group that the page shows.

    `code` is the code of the owner (`owner_code`); `None` for all owners that are not shown separately.
    """

    label: str
    code: str | None
    tally: Tally


class Owners:
    """Counts objects by their owners."""

    def __init__(self) -> None:
        self._named = Groups()
        self._untagged = Tally()
        self._unknown = Tally()
        self._why: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Count an object."""
        if row.owner is not None:
            self._named.add(row.owner, row)
        elif row.owner_unknown is None:
            self._untagged.add(row)
        else:
            self._unknown.add(row)
            if row.owner_unknown in self._why or len(self._why) < _MOST_REASONS:
                self._why[row.owner_unknown] += 1

    def shown(self) -> list[OwnerGroup]:
        """Return the owners with the most objects that are not safe, and then the groups without a name."""
        return list(self._shown())

    def _shown(self) -> Iterator[OwnerGroup]:
        for name, tally in self._named.shown():
            if name is None:
                yield OwnerGroup(OTHERS, None, tally)
            else:
                yield OwnerGroup(name or EMPTY, f"={name}", tally)
        if self._untagged.objects:
            yield OwnerGroup(NO_TAG, "-", self._untagged)
        if self._unknown.objects:
            yield OwnerGroup(UNKNOWN, "!", self._unknown)

    def why(self) -> list[tuple[str, int]]:
        """Return the most common reasons why owners are unknown, and how many objects have them."""
        return self._why.most_common(SHOWN_REASONS)


def owner_code(row: Row) -> str:
    """Return the owner of a row as a text for the page's script.

    The text is `=` and the tag's value, or `-` if the object lacks the tag, or `!` and the reason why the
    owner is unknown.
    """
    if row.owner is not None:
        return f"={row.owner}"
    return "-" if row.owner_unknown is None else f"!{row.owner_unknown}"
