"""Walks through a ZIP archive: its directory, each member's local header, and the bytes between members.

Each function is a generator: it yields the ranges of the archive that it needs, and the caller sends it their
bytes.
"""

from collections.abc import Generator
from typing import TypeVar

from keyhole.inspectors.archives.names import shown
from keyhole.inspectors.archives.zip.entry import (
    LOCAL,
    LOCAL_MARK,
    MAX_DESCRIPTOR,
    Descriptor,
    Entry,
    Local,
    read_directory,
)
from keyhole.inspectors.archives.zip.records import End, ZipError
from keyhole.inspectors.findings import BoundedFindings, found
from keyhole.inspectors.region import ByteRange

#: Keyhole reads a directory only if it has at most this many entries, and at most this many bytes (128 for
#: each entry). The archive of a container image has a few thousand entries.
MAX_ENTRIES, MAX_DIRECTORY = 16_384, 2 * 1024**2

Result = TypeVar("Result")
#: A generator that yields the ranges that it needs, and to which the caller sends their bytes. It yields
#: `None` while it must wait, because too many members are being inspected (`busy`).
Walk = Generator[ByteRange | None, bytes, Result]


def directory(end: End) -> Walk[list[Entry]]:
    """Read the directory. Return the directory's entries, in the order of the members in the archive."""
    if end.entries > MAX_ENTRIES or end.length > MAX_DIRECTORY:
        message = (
            f"the ZIP directory has {end.entries} entries in {end.length} bytes, more than Keyhole reads"
        )
        raise ZipError("member_limit", message)
    data = (yield ByteRange(end.directory, end.length)) if end.length else b""
    return sorted(read_directory(data, end.entries), key=lambda entry: entry.offset)


def between(at: int, until: int, descriptor: Descriptor | None, findings: BoundedFindings) -> Walk[None]:
    """Check the bytes between two members, or between the last member and the directory.

    Only the descriptor of the earlier member may be between them, and only if this member's local header
    announces a descriptor.
    """
    if until < at:
        raise ZipError("decompression_bomb", f"members of the ZIP archive overlap at byte {until}")
    name = shown(descriptor.entry.name) if descriptor else ""
    if until == at:
        if descriptor:
            _add(
                findings,
                "ambiguous_format",
                f"no descriptor follows {name}, although its header announces one",
            )
        return
    data = yield ByteRange(at, min(until - at, MAX_DESCRIPTOR))
    if descriptor and len(data) == until - at and descriptor.is_all_of(data):
        return
    if data.startswith(LOCAL_MARK):
        _add(findings, "ambiguous_format", f"a member that is not in the ZIP directory begins at byte {at}")
    elif descriptor:
        message = f"not all readers see the descriptor after {name}, or it contradicts the ZIP directory"
        _add(findings, "ambiguous_format", message)
    else:
        _add(
            findings,
            "trailing_data",
            f"{until - at} bytes at {at} do not belong to a member of the ZIP archive",
        )


def header(entry: Entry, limit: int, findings: BoundedFindings) -> Walk[tuple[int, Descriptor | None]]:
    """Compare a member's local header with the member's entry in the directory.

    The member's data must not end after the offset `limit`. Returns the offset of the data, and the
    descriptor that should follow them.
    """
    if entry.offset + LOCAL.size > limit:
        raise ZipError("structure", f"{shown(entry.name)} begins after the directory of the ZIP")
    local = Local.read((yield ByteRange(entry.offset, LOCAL.size)))
    if entry.offset + local.length + entry.packed > limit:
        raise ZipError("structure", f"the data of {shown(entry.name)} overlap the ZIP directory")
    length = local.length - LOCAL.size
    rest = (yield ByteRange(entry.offset + LOCAL.size, length)) if length else b""
    differences = [*local.differences(entry, rest)]
    if differences:
        what = " and ".join(differences)
        _add(findings, "ambiguous_format", f"the two headers of {shown(entry.name)} differ in {what}")
    return entry.offset + local.length, local.descriptor(entry, rest)


def _add(findings: BoundedFindings, check: str, message: str) -> None:
    findings.add(found(check, message))
