"""Counts objects by a group, such as the prefix of their keys, with bounded memory.

A prefix is a folder: the part of a key up to a `/`. The page shows one level of folders, the first that has
more than one, so that `images/linux/` and `images/windows/` are shown and not only `images/`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from keyhole.reasons import Status, not_an_image
from keyhole.reports.figures import number
from keyhole.reports.kinds import kinds
from keyhole.reports.rows import Row

#: The maximum number of groups that are counted separately. Some buckets have a folder for each object.
MOST_GROUPS: Final = 10_000
#: The number of groups that the page shows.
SHOWN_GROUPS: Final = 12
#: The levels of folders that are counted.
_LEVELS: Final = 3


@dataclass(slots=True)
class Tally:
    """The counts of a group. `stored` and `virtual` are sums of sizes in bytes."""

    statuses: Counter[Status] = field(default_factory=Counter)
    #: The number of objects that are certainly not disk images, such as PDFs.
    other: int = 0
    stored: int = 0
    virtual: int = 0

    @property
    def objects(self) -> int:
        """Return the number of objects."""
        return self.statuses.total()

    @property
    def safe(self) -> int:
        """Return the number of safe objects."""
        return self.statuses[Status.SAFE]

    @property
    def not_safe(self) -> int:
        """Return the number of objects that can be disk images and are not safe."""
        return self.objects - self.safe - self.other

    def kinds(self) -> dict[str, int]:
        """Return the number of objects of each kind that occurs, the most urgent first."""
        return kinds(self.statuses, self.other)

    def add(self, row: Row) -> None:
        """Count an object."""
        self.statuses[row.status] += 1
        self.other += not_an_image(row.status, row.reasons)
        self.stored += row.size or 0
        self.virtual += row.virtual_size or 0

    def merge(self, other: "Tally") -> None:
        """Add the counts of another group."""
        self.statuses += other.statuses
        self.other += other.other
        self.stored += other.stored
        self.virtual += other.virtual


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sums of all counts."""
    found = Tally()
    for tally in tallies:
        found.merge(tally)
    return found


class Group(NamedTuple):
    """A group that the page shows. `name` is `None` for all groups that are not shown separately."""

    name: str | None
    tally: Tally


class Groups:
    """Counts objects by the name of their group."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._rest = Tally()

    def __len__(self) -> int:
        return len(self._tallies)

    def add(self, name: str, row: Row) -> None:
        """Count an object in its group, or in the rest if there are too many groups."""
        tally = self._tallies.get(name)
        if tally is None and len(self._tallies) < MOST_GROUPS:
            tally = self._tallies[name] = Tally()
        (tally or self._rest).add(row)

    def shown(self) -> list[Group]:
        """Return the groups with the most objects that are not safe, and then the rest as one group."""
        ordered = sorted(
            self._tallies.items(), key=lambda item: (-item[1].not_safe, -item[1].objects, item[0])
        )
        rest = total([self._rest, *(tally for _, tally in ordered[SHOWN_GROUPS:])])
        found = [Group(name, tally) for name, tally in ordered[:SHOWN_GROUPS]]
        return [*found, Group(None, rest)] if rest.objects else found

    def others(self) -> str:
        """Return how many groups are not shown separately; `more than` some if there are too many groups."""
        count = max(0, len(self._tallies) - SHOWN_GROUPS)
        return f"{'more than ' if self._rest.objects else ''}{number(count)}"


class Prefixes:
    """Counts objects by the folders of their keys, below the prefix of the audit."""

    def __init__(self, prefix: str) -> None:
        # An audit of `images/lin` has objects in `images/linux/`, so folders begin after the last `/`.
        self._above = len(prefix.rpartition("/")[0]) + 1 if "/" in prefix else 0
        self._levels = [Groups() for _ in range(_LEVELS)]

    def add(self, row: Row) -> None:
        """Count an object."""
        for groups, name in zip(self._levels, self._folders(row.key or ""), strict=True):
            groups.add(name, row)

    def groups(self) -> Groups:
        """Return the groups of the first level with more than one folder."""
        return next((level for level in self._levels if len(level) > 1), self._levels[0])

    def _folders(self, key: str) -> Iterator[str]:
        end = self._above
        for _ in range(_LEVELS):
            after = key.find("/", end) + 1
            end = after or end
            yield key[:end]
