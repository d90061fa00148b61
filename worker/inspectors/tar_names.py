"""Where the names in an archive lead: what would be written, or read, outside the folder it is unpacked to.

A link may lead outside by what it says, or a member through a link. Where links lead to is not followed:
a member whose path goes through one is refused, wherever that leads.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b

from worker.inspectors.tar_header import DEVICES, HARD_LINK, SYMLINK
from worker.inspectors.text import printable

#: What Linux takes for a path. Other readers cut a longer one, or fail.
MAX_NAME = 4096
#: Folders in folders; nobody's are deeper, and each is looked at.
MAX_PARTS = 256
#: What Windows takes for the beginning of a path that does not begin where it stands.
DRIVE = re.compile(rb"[A-Za-z]:")
SEPARATORS = re.compile(rb"[/\\]")
DIGEST_BYTES = 16
#: As much of a name as a finding shows.
SHOWN_BYTES = 128


def shown(name: bytes) -> str:
    """A name as a finding shows it, in quotes."""
    return repr(printable(name[:SHOWN_BYTES]) + ("…" if len(name) > SHOWN_BYTES else ""))


def parts_of(name: bytes) -> list[bytes]:
    """The folders in a name, and what it names, without what makes no difference: `.` and doubled slashes."""
    return [part for part in name.split(b"/") if part not in {b"", b"."}]


def digest(name: bytes) -> bytes:
    """What is kept of a name: enough to know the same name again."""
    return blake2b(b"".join(part + b"/" for part in parts_of(name)), digest_size=DIGEST_BYTES).digest()


def unfit(name: bytes) -> str | None:
    """Why nothing in an archive should be called so, or lead there, in words that follow the name."""
    if len(name) > MAX_NAME:
        return f"has {len(name)} bytes"
    if name.count(b"/") >= MAX_PARTS:
        return f"is more than {MAX_PARTS} folders deep"
    if b"\0" in name:
        return "contains a NUL, where some readers see its end"
    if name.startswith((b"/", b"\\")) or DRIVE.match(name):
        return "is absolute"
    return None


def lowest(name: bytes, depth: int = 0) -> int:
    """How deep the highest folder is that a path leads to, from one that is so deep; negative: outside."""
    least = depth
    for part in SEPARATORS.split(name):
        depth += (part not in {b"", b".", b".."}) - (part == b"..")
        least = min(least, depth)
    return least


def leads_outside(name: bytes) -> str | None:
    """Why a name does not belong in an archive, in words that follow it; nothing if it does."""
    return unfit(name) or ("leads to a folder above" if b".." in SEPARATORS.split(name) else None)


class Paths:
    """The paths of an archive so far, by which of them are links."""

    def __init__(self) -> None:
        self._links: set[bytes] = set()

    def wrong_with(self, name: bytes, kind: bytes, link: bytes) -> Iterator[str]:
        """What is wrong with the next member, in sentences."""
        outside = leads_outside(name)
        if outside:
            yield f"the name {shown(name)} {outside}"
        elif self._through_link(name):
            yield f"the name {shown(name)} leads through a link"
        if kind in DEVICES:
            yield f"{shown(name)} is a device"
        elif kind == HARD_LINK:
            outside = leads_outside(link)
            if outside:
                yield f"{shown(name)} is a link to {shown(link)}, which {outside}"
        elif kind == SYMLINK:
            # It begins where it stands, so it may climb as far as that is deep.
            folders = len(parts_of(name)) - 1
            outside = unfit(link) or ("leads outside" if lowest(link, folders) < 0 else None)
            if outside:
                yield f"{shown(name)} is a link to {shown(link)}, which {outside}"
            self._links.add(digest(name))

    def _through_link(self, name: bytes) -> bool:
        """Whether one of the folders in the name is a link."""
        if not self._links:
            return False
        so_far = blake2b(digest_size=DIGEST_BYTES)
        for part in parts_of(name)[:-1]:
            so_far.update(part + b"/")
            if so_far.copy().digest() in self._links:
                return True
        return False
