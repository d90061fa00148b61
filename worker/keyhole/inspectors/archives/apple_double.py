"""AppleDouble files: what macOS packs beside a file to keep the attributes that other systems lack.

Source: RFC 1740, appendix A, "AppleSingle/AppleDouble"; libarchive's manual page bsdtar(1), `--mac-metadata`.

`tar` of macOS writes `folder/._disk.vmdk` before `folder/disk.vmdk`, its Finder writes ZIPs with
`__MACOSX/folder/._disk.vmdk`. Neither is a disk or a descriptor, whatever its suffix. A name alone proves
nothing: a reader on another system opens a disk of that name like any other. So the content has to agree.
"""

#: How the file begins: a big-endian number.
MARK = bytes.fromhex("00051607")
PREFIX, FOLDER = b"._", b"__MACOSX"


def is_named_so(name: bytes) -> bool:
    """Return whether a path in an archive is one that macOS gives to an AppleDouble file."""
    folder, _, last = name.rpartition(b"/")
    return last.startswith(PREFIX) or FOLDER in folder.split(b"/")


def is_apple_double(name: bytes, front: bytes) -> bool:
    """Return whether a file of this path, which begins with `front`, is an AppleDouble file."""
    return is_named_so(name) and front.startswith(MARK)
