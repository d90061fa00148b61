"""Counts the objects of an audit by their owners, with bounded memory.

The owner of an object is the value of the audit's owner tag. Uploaders choose the values, so there can be as
many owners as objects. Objects without the tag are counted apart, and so are objects whose tags could not be
read: their owner is unknown.

An uploader can choose a value that reads like the name of such a group, or that contains invisible
characters. A page shows the first in quotation marks, and the second with escapes. Its script tells owners
apart by their codes (`owner_code`), which differ if the values differ.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from keyhole.inspectors.text import escaped
from keyhole.reports.groups import Groups, Tally
from keyhole.reports.owned import EMPTY, NO_TAG, UNKNOWN, UnknownOwners
from keyhole.reports.rows import Row
from keyhole.results.owner import Owner

#: How a page calls the owners that it does not show separately.
OTHERS: Final = "all other owners"
#: How the names begin that a page shows in quotation marks.
RESERVED: Final = (NO_TAG, UNKNOWN, OTHERS, EMPTY)


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
        self._why = UnknownOwners()

    def add(self, row: Row) -> None:
        """Count an object."""
        if row.owner is not None:
            self._named.add(row.owner, row)
        elif row.owner_unknown is None:
            self._untagged.add(row)
        else:
            self._unknown.add(row)
            self._why.add(Owner(unknown=row.owner_unknown))

    def shown(self) -> list[OwnerGroup]:
        """Return the owners with the most objects that are not safe, and then the groups without a name."""
        return list(self._shown())

    def _shown(self) -> Iterator[OwnerGroup]:
        for name, tally in self._named.shown():
            if name is None:
                yield OwnerGroup(f"{OTHERS} ({self.others()})", None, tally)
            else:
                yield OwnerGroup(owner_label(name), name_code(name), tally)
        if self._untagged.objects:
            yield OwnerGroup(NO_TAG, "-", self._untagged)
        if self._unknown.objects:
            yield OwnerGroup(UNKNOWN, "!", self._unknown)

    def others(self) -> str:
        """Return how many owners are not shown separately."""
        return self._named.others()

    def why(self) -> list[str]:
        """Return sentences that explain why owners are unknown, and for how many objects."""
        return self._why.told()


def owner_label(name: str) -> str:
    """Return how a page shows an owner: in quotation marks if the name reads like a group without a name."""
    reads = " ".join(escaped(name).lower().split())
    return (f"“{name}”" if reads.startswith(RESERVED) else name) or EMPTY


def owner_code(row: Row) -> str:
    """Return the owner of a row as a printable text for the page's script.

    The text is `=` and the tag's value (`name_code`), or `-` if the object lacks the tag, or `!` and the
    reason why the owner is unknown.
    """
    if row.owner is not None:
        return name_code(row.owner)
    return "-" if row.owner_unknown is None else f"!{escaped(row.owner_unknown)}"


def name_code(name: str) -> str:
    """Return the code of an owner. Backslashes are doubled, so that different names have different codes."""
    return "=" + escaped(name.replace("\\", r"\\"))
