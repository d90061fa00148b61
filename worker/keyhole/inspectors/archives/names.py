"""Splits the names in an archive, formats them for findings, and finds names that lead out of the archive."""

import re
from hashlib import blake2b

from keyhole.inspectors.text import printable

#: The longest path that Linux allows, in bytes. Some readers truncate a longer path, and others fail.
MAX_NAME = 4096
#: Keyhole refuses a path with this many slashes or more.
MAX_PARTS = 256
#: The beginning of a path with a drive letter. On Windows, such a path can lead to another drive.
DRIVE = re.compile(rb"[A-Za-z]:")
SEPARATORS = re.compile(rb"[/\\]")
DIGEST_BYTES = 16
#: The most bytes of a name that a finding shows.
SHOWN_BYTES = 128


def shown(name: bytes) -> str:
    """Return a name as findings show it: printable, shortened and in quotes."""
    return repr(printable(name[:SHOWN_BYTES]) + ("…" if len(name) > SHOWN_BYTES else ""))


def parts_of(name: bytes) -> list[bytes]:
    """Split a name at its slashes, and return the parts except `.` and empty parts."""
    return [part for part in name.split(b"/") if part not in {b"", b"."}]


def digest(name: bytes) -> bytes:
    """Return a digest of a name. Names that differ only in empty parts and `.` have the same digest."""
    return blake2b(b"".join(part + b"/" for part in parts_of(name)), digest_size=DIGEST_BYTES).digest()


def unfit(name: bytes) -> str | None:
    """Return why a name or a link's target is not allowed; `None` if it is allowed.

    The text is a predicate, such as "is absolute", that a message appends to the name.
    """
    if len(name) > MAX_NAME:
        return f"has {len(name)} bytes"
    if name.count(b"/") >= MAX_PARTS:
        return f"is more than {MAX_PARTS - 1} folders deep"
    if b"\0" in name:
        return "contains a NUL, where some readers see its end"
    if name.startswith((b"/", b"\\")) or DRIVE.match(name):
        return "is absolute"
    return None


def lowest(name: bytes, depth: int = 0) -> int:
    """Return the lowest folder depth that a path reaches if it starts in a folder at `depth`.

    The result is negative if the path leads above depth 0 (outside), even if the path returns later.
    """
    least = depth
    for part in SEPARATORS.split(name):
        depth += (part not in {b"", b".", b".."}) - (part == b"..")
        least = min(least, depth)
    return least


def leads_outside(name: bytes) -> str | None:
    """Return why Keyhole refuses a member's name, as a predicate for a message; `None` if it is allowed."""
    return unfit(name) or ("leads to a folder above" if b".." in SEPARATORS.split(name) else None)
