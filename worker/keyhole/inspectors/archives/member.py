"""Which files of an archive are members, each with a report of its own, and which are only counted.

A member is what some reader would open as a disk, whatever its size: it was recognised, or it bears the mark
of a format that is not inspected, or something is wrong with it, or it has a suffix by which readers take it
for a disk. A large file that was not recognised is a member, too. AppleDouble files of macOS are not.
"""

from keyhole.inspectors.archives.apple_double import is_apple_double
from keyhole.inspectors.facts import Member

#: A file of this size that was not recognised is reported: it is too large for a readme.
LARGE = 1024**2
#: Suffixes by which readers take a file for a disk: those of the formats, of raw disks, and of discs.
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
    """Return whether a path ends as that of a disk."""
    last = name.rpartition(b"/")[2].lower()
    _, dot, suffix = last.rpartition(b".")
    return bool(dot) and suffix.decode(errors="replace") in DISK_SUFFIXES
