"""Follows an archive's links through each other, to see whether one leads outside once it is extracted.

The links `d/e/s` to `../..` and `disk` to `d/e/s/../secret` both seem to stay inside. A reader that opens
`disk` reaches the folder above.

- Links are recorded in their order and judged together, because an earlier one may lead through a later one.
  In GNU tar, libarchive, Python, BusyBox and npm's tar, a later link replaces an earlier one with its name.
  7-Zip keeps the earlier one, so Keyhole tries that as well.
- The target of a hard link is resolved when the link is extracted. The folders in the target may be links by
  then. A hard link to a symbolic link has the same target text in another folder, and so leads elsewhere.
- Links are judged twice: once with exact names, and once with folded names, which are equal if macOS or
  Windows takes the names for the same.
- A path is followed over as many links as any system follows. The memory and the steps of all links together
  are bounded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keyhole.inspectors.archives.names import DRIVE
from keyhole.inspectors.archives.namesakes import folded
from keyhole.inspectors.effort import spend

#: Limit for the names and targets of an archive's links. Those of a whole Debian system take half a megabyte.
MAX_BYTES = 2 * 1024**2
#: Limit for the folders and links that the names of an archive's links refer to.
MAX_PLACES = 65_536
#: Limit for the steps from folder to folder that all links of an archive take together.
MAX_STEPS = 500_000
#: Links on one path that a system follows: Windows 63, Linux 40, macOS 32.
MAX_LINKS = 63
ROOT = 0

#: Divides a path into parts. Equal parts name the same file.
Split = Callable[[bytes], list[bytes]]


class UnfollowedError(Exception):
    """The links take more steps than the limit."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link as its member states it. `is_known` says that its own target already leads outside."""

    name: bytes
    target: bytes
    is_hard: bool
    is_known: bool


class Links:
    """The links of an archive, in their order."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._bytes = 0
        self._judged: tuple[int, list[Link] | None] = (0, [])

    def note(self, link: Link) -> None:
        """Note the next link."""
        self._bytes += len(link.name) + len(link.target)
        if self._bytes <= MAX_BYTES:
            self._links.append(link)

    def leading_outside(self) -> list[Link] | None:
        """Return the links that lead outside through others; `None` if there are too many links to follow."""
        if self._bytes > MAX_BYTES:
            return None
        if self._judged[0] != len(self._links):
            self._judged = len(self._links), self._judge()
        return self._judged[1]

    def _judge(self) -> list[Link] | None:
        try:
            return [
                *dict.fromkeys(link for tell in (split, FoldedSplit()) for link in self._outside_by(tell))
            ]
        except UnfollowedError:
            return None

    def _outside_by(self, split: Split) -> Iterator[Link]:
        tree = Tree(self._links, split)
        yield from tree.leading_outside()
        if tree.replaced:
            yield from Tree(self._links, split, keeps_first=True).leading_outside()


def split(path: bytes) -> list[bytes]:
    """Return the parts of a path."""
    return [part for part in path.split(b"/") if part not in {b"", b"."}]


class FoldedSplit:
    """Splits a path into folded parts: parts that any file system takes for the same are equal."""

    def __init__(self) -> None:
        # Cached, because the same folders appear again and again.
        self._folded: dict[bytes, bytes] = {b"..": b".."}

    def __call__(self, path: bytes) -> list[bytes]:
        """Divide a path."""
        parts = split(path.replace(b"\\", b"/"))
        for part in parts:
            if part not in self._folded:
                self._folded[part] = folded(part)
        return [self._folded[part] for part in parts]


class Place(NamedTuple):
    """A folder or a file that a path leads to.

    `number` is the number of a known place. `further` is how many folders below that place it is; none of
    these folders is a link.
    """

    number: int
    further: int = 0


class Tree:
    """Follows where links lead when the archive's members are extracted one after the other.

    Args:
        links: The links, in the archive's order.
        split: Divides paths into parts; equal parts name the same file.
        keeps_first: Whether the first of two links with one name stays, in place of the second.
    """

    def __init__(self, links: Sequence[Link], split: Split, keeps_first: bool = False) -> None:
        self._links = links
        self._split = split
        self._keeps_first = keeps_first
        #: Whether two links have the same name.
        self.replaced = False
        # The folder above each place, by the place's number; the number of a place, by its folder and name.
        self._above = [ROOT]
        self._inside: dict[tuple[int, bytes], int] = {}
        # The targets of places that are symbolic links; `None` if a target is absolute.
        self._leads: dict[int, list[bytes] | None] = {}
        self._steps = 0

    def leading_outside(self) -> Iterator[Link]:
        """Simulate the extraction of the links; yield those that lead outside, except known ones.

        Raises:
            UnfollowedError: There are too many places, or following the links takes too many steps.
        """
        by_place: dict[int, Link] = {}
        for link in self._links:
            spend()
            parts: list[bytes] | None = self._split(link.target)
            if link.is_hard:
                *folders, last = parts or [b""]
                folder = self._follow(ROOT, folders)
                if folder is None:
                    yield from [] if link.is_known else [link]
                    continue
                linked = None if folder.further else self._inside.get((folder.number, last))
                if linked not in self._leads:
                    continue
                parts = self._leads[linked]
            elif is_absolute(link.target):
                parts = None
            place = self._place(self._split(link.name))
            self.replaced = self.replaced or place in self._leads
            if not (self._keeps_first and place in self._leads):
                self._leads[place], by_place[place] = parts, link
        for place, link in by_place.items():
            if not link.is_known and self._follow(self._above[place], self._leads[place]) is None:
                yield link

    def _place(self, parts: Sequence[bytes]) -> int:
        """Return the number of a place; create the place if it does not exist."""
        place = ROOT
        for part in parts:
            inside = self._inside.setdefault((place, part), len(self._above))
            if inside == len(self._above):
                self._above.append(place)
            place = inside
        if len(self._above) > MAX_PLACES:
            raise UnfollowedError
        return place

    def _follow(self, folder: int, parts: list[bytes] | None) -> Place | None:
        """Return where a path leads from a folder; `None` if it leads outside.

        Raises:
            UnfollowedError: Following the path takes too many steps.
        """
        if parts is None:
            return None
        place, links = Place(folder), 0
        to_go = self._pushed([], parts)
        while to_go:
            part = to_go.pop()
            if part == b"..":
                if place.further:
                    place = Place(place.number, place.further - 1)
                elif place.number == ROOT:
                    return None
                else:
                    place = Place(self._above[place.number])
                continue
            inside = None if place.further else self._inside.get((place.number, part))
            if inside is None:
                place = Place(place.number, place.further + 1)
            elif inside not in self._leads:
                place = Place(inside)
            else:
                leads = self._leads[inside]
                if leads is None:
                    return None
                links += 1
                if links > MAX_LINKS:
                    # The links form a circle.
                    return place
                to_go = self._pushed(to_go, leads)
        return place

    def _pushed(self, to_go: list[bytes], parts: Sequence[bytes]) -> list[bytes]:
        spend()
        self._steps += 1 + len(parts)
        if self._steps > MAX_STEPS:
            raise UnfollowedError
        to_go.extend(reversed(parts))
        return to_go


def is_absolute(target: bytes) -> bool:
    """Return whether a link's target begins at the root of a file system, or at a drive."""
    return target.startswith((b"/", b"\\")) or DRIVE.match(target) is not None
