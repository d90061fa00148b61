"""Finds links of an archive that, after extraction, lead out of the folder that the archive is extracted to.

A link can lead outside through another link. For example, an archive has the link `d/e/s` to `../..` and the
link `disk` to `d/e/s/../secret`. Each target on its own stays inside the folder. But `d/e/s` leads to the
extraction folder itself, so a reader that opens `disk` opens `secret` in the folder above it.

- Keyhole records all links in the archive's order and then follows them together, because an earlier link can
  lead through a later link. If two links have the same name, GNU tar, libarchive, Python, BusyBox and npm's
  tar replace the earlier link with the later one, and 7-Zip keeps the earlier link. In such an archive,
  Keyhole follows all links twice: once with the later link, and once with the earlier link.
- Extractors resolve the target of a hard link when they extract the hard link. So this target can lead only
  through links that precede the hard link in the archive. A hard link to a symbolic link is a second symbolic
  link with the same target text. If the two links are in different folders, the same relative target leads to
  different places. So Keyhole follows the hard link, too.
- Keyhole follows the links with their exact names, and then again with folded names. The folded forms of two
  names are equal if macOS or Windows treats both names as the same file.
- Keyhole follows up to 63 links on one path, the highest limit of all operating systems. It also limits the
  memory and the number of steps for all links of an archive together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keyhole.inspectors.archives.names import DRIVE
from keyhole.inspectors.archives.namesakes import folded
from keyhole.inspectors.effort import spend

#: The most bytes of all names and targets of an archive's links together. If there are more bytes, Keyhole
#: does not follow the links. In an archive of a whole Debian system, the names and targets take half a
#: megabyte.
MAX_BYTES = 2 * 1024**2
#: The most places that Keyhole records: the links of an archive, and the folders in their names.
MAX_PLACES = 65_536
#: The most steps from folder to folder that Keyhole takes to follow all links of an archive.
MAX_STEPS = 500_000
#: The most links on one path that Keyhole follows. The limits of operating systems: Windows 63, Linux 40,
#: macOS 32.
MAX_LINKS = 63
ROOT = 0

#: A function that splits a path into its parts. Two equal parts in the same folder mean the same file.
Split = Callable[[bytes], list[bytes]]


class UnfollowedError(Exception):
    """The links exceed one of the limits on links, so Keyhole does not follow them."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the archive.

    `is_known` is true if a finding already reports that the target leads outside.
    """

    name: bytes
    target: bytes
    is_hard: bool
    is_known: bool


class Links:
    """Collects the links of an archive, in the archive's order, and finds the links that lead outside."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._bytes = 0
        self._judged: tuple[int, list[Link] | None] = (0, [])

    def note(self, link: Link) -> None:
        """Record the next link."""
        self._bytes += len(link.name) + len(link.target)
        if self._bytes <= MAX_BYTES:
            self._links.append(link)

    def leading_outside(self) -> list[Link] | None:
        """Return the links that lead outside through other links; `None` if the links exceed a limit."""
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
    """Splits a path into folded parts.

    Two folded parts are equal if macOS or Windows treats them as the same name.
    """

    def __init__(self) -> None:
        # A cache of the folded form of each part. Most lookups find an entry, because the paths of an archive
        # share most of their folders.
        self._folded: dict[bytes, bytes] = {b"..": b".."}

    def __call__(self, path: bytes) -> list[bytes]:
        """Return the folded parts of a path."""
        parts = split(path.replace(b"\\", b"/"))
        for part in parts:
            if part not in self._folded:
                self._folded[part] = folded(part)
        return [self._folded[part] for part in parts]


class Place(NamedTuple):
    """A folder or a file that a path leads to.

    Only the links and the folders in their names have numbers. If a path leads to a file or folder without a
    number, `number` is the number of the nearest numbered folder above it. `further` is how many levels the
    path goes down from this folder. None of these levels is a link, because all links have numbers.
    """

    number: int
    further: int = 0


class Tree:
    """The folders and links of an archive, created in the order in which an extractor creates them.

    Args:
        links: The links, in the archive's order.
        split: Splits paths into parts. Two equal parts in the same folder mean the same file.
        keeps_first: Whether the first of two links with the same name stays, so that the second is not
            extracted.
    """

    def __init__(self, links: Sequence[Link], split: Split, keeps_first: bool = False) -> None:
        self._links = links
        self._split = split
        self._keeps_first = keeps_first
        #: Whether two links have the same name.
        self.replaced = False
        # `_above` contains for each place the number of the folder above the place. `_inside` contains the
        # number of each place; the keys are the number of the folder above and the place's name.
        self._above = [ROOT]
        self._inside: dict[tuple[int, bytes], int] = {}
        # The targets of the places that are links, by the place's number. `None` means an absolute target.
        self._leads: dict[int, list[bytes] | None] = {}
        self._steps = 0

    def leading_outside(self) -> Iterator[Link]:
        """Simulate the extraction of the links; yield the links that lead outside and have no finding yet.

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
        """Return the number of the place with this path; create missing places on the way.

        Raises:
            UnfollowedError: There are too many places.
        """
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
        """Return the place to which a path leads from a folder; `None` if it leads outside.

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
                    # The links form a circle, or a chain that is too long for every operating system. So no
                    # reader gets outside through them.
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
    """Return whether a link's target is an absolute path, on Unix or on Windows."""
    return target.startswith((b"/", b"\\")) or DRIVE.match(target) is not None
