"""Splits names in an archive, formats them for findings, and finds those that lead outside."""

import re
from hashlib import blake2b

from keyhole.inspectors.text import printable

#: The longest path on Linux, in bytes. Other readers truncate a longer one, or fail.
MAX_NAME = 4096
#: The deepest nesting of folders that is followed.
MAX_PARTS = 256
#: Beginnings that make a path absolute on Windows.
DRIVE = re.compile(rb"[A-Za-z]:")
SEPARATORS = re.compile(rb"[/\\]")
DIGEST_BYTES = 16
#: Bytes of a name that a finding shows.
SHOWN_BYTES = 128


def shown(name: bytes) -> str:
    """Return a name in quotes, as a finding shows it."""
    return repr(printable(name[:SHOWN_BYTES]) + ("…" if len(name) > SHOWN_BYTES else ""))


def parts_of(name: bytes) -> list[bytes]:
    """Return the parts of a name between slashes, without empty parts and `.`."""
    return [part for part in name.split(b"/") if part not in {b"", b"."}]


def digest(name: bytes) -> bytes:
    """Return a digest of a name, long enough to recognise the same name again."""
    return blake2b(b"".join(part + b"/" for part in parts_of(name)), digest_size=DIGEST_BYTES).digest()


def unfit(name: bytes) -> str | None:
    """Return why a name or a link's target is unacceptable, in words that follow it; `None` if it is fine."""
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
    """Return the lowest depth that a path reaches if it starts at `depth`; negative if it leads outside."""
    least = depth
    for part in SEPARATORS.split(name):
        depth += (part not in {b"", b".", b".."}) - (part == b"..")
        least = min(least, depth)
    return least


def leads_outside(name: bytes) -> str | None:
    """Return why a name is unacceptable in an archive, in words that follow it; `None` if it is fine."""
    return unfit(name) or ("leads to a folder above" if b".." in SEPARATORS.split(name) else None)
