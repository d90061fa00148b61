"""AppleDouble files, which macOS adds beside a file to keep attributes that other systems lack.

Source: RFC 1740, appendix A, "AppleSingle/AppleDouble"; libarchive's manual page bsdtar(1), `--mac-metadata`.

On macOS, `tar` writes `folder/._disk.vmdk` before `folder/disk.vmdk`, and the Finder writes ZIP archives with
`__MACOSX/folder/._disk.vmdk`. Neither is a disk or a descriptor, whatever its suffix. The name alone proves
nothing, because a reader on another system opens a disk of that name like any other. So the content must
match, too.
"""

#: The magic number at the beginning of the file, big-endian.
MARK = bytes.fromhex("00051607")
PREFIX, FOLDER = b"._", b"__MACOSX"


def is_named_so(name: bytes) -> bool:
    """Return whether a path in an archive has the form that macOS gives to an AppleDouble file."""
    folder, _, last = name.rpartition(b"/")
    return last.startswith(PREFIX) or FOLDER in folder.split(b"/")


def is_apple_double(name: bytes, front: bytes) -> bool:
    """Return whether a file with this path whose first bytes are `front` is an AppleDouble file."""
    return is_named_so(name) and front.startswith(MARK)
