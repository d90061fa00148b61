"""Decides which files of an archive Keyhole reports as members.

Each member gets its own report. All other files are only counted.

A file is a member if at least one of these conditions is true:

- Keyhole recognised its format, or the signature of a format that Keyhole does not inspect.
- There is a finding about the file, or the file's inspection is not complete.
- Its name has the suffix of a disk, such as `.img`, and it is not an AppleDouble file of macOS.
- It has 1 MiB or more, and it is not an AppleDouble file of macOS.
"""

from keyhole.inspectors.archives.apple_double import is_apple_double
from keyhole.inspectors.facts import Member

#: A file of this many bytes or more is a member even if Keyhole did not recognise it: such a file can be a
#: disk, and it is too large for a readme.
LARGE = 1024**2
#: The suffixes of files that readers open as disks: disk formats, raw disks and optical discs.
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
