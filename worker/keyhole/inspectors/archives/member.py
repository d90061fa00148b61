"""Decides which files of an archive are members, with a report each, and which are only counted.

A member is a file that some reader would open as a disk, whatever its size. Its format was recognised, or it
has the signature of a format that Keyhole does not inspect, or there is a finding on it, or it has the suffix
of a disk. A large file is a member even if it was not recognised. AppleDouble files of macOS are not members.
"""

from keyhole.inspectors.archives.apple_double import is_apple_double
from keyhole.inspectors.facts import Member

#: A file of this many bytes is reported even if it was not recognised: it is too large for a readme.
LARGE = 1024**2
#: Suffixes by which readers take a file for a disk: those of the formats, of raw disks and of optical discs.
DISK_SUFFIXES = frozenset(
    {
        "asif",
        "dmg",
        "dsk",
        "hdd",
        "img",
        "iso",
        "qcow",
        "qcow2",
        "qed",
        "raw",
        "sparseimage",
        "vdi",
        "vhd",
        "vhdx",
        "vmdk",
    }
)


def is_member(member: Member) -> bool:
    """Return whether an inspected file is a member."""
    facts = member.facts
    if facts.format is not None or facts.findings or facts.details or not facts.complete:
        return True
    name = member.name.encode()
    if is_apple_double(name, facts.first_bytes):
        return False
    return is_disk_name(name) or (member.size or 0) >= LARGE


def is_disk_name(name: bytes) -> bool:
    """Return whether a path has the suffix of a disk."""
    last = name.rpartition(b"/")[2].lower()
    _, dot, suffix = last.rpartition(b".")
    return bool(dot) and suffix.decode(errors="replace") in DISK_SUFFIXES
