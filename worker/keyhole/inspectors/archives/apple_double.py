"""Recognises AppleDouble files, in which macOS stores a file's attributes that other systems do not support.

Source: RFC 1740, appendix A, "AppleSingle/AppleDouble"; libarchive's manual page bsdtar(1), `--mac-metadata`.

On macOS, `tar` writes `folder/._disk.vmdk` before `folder/disk.vmdk`, and the Finder adds
`__MACOSX/folder/._disk.vmdk` to ZIP archives. These AppleDouble files end in `.vmdk`, but they are neither
disks nor descriptors. The name is not enough to recognise an AppleDouble file: a real disk can have a name
like `._disk.vmdk`, and readers on other systems would open this disk. So Keyhole also compares the first
bytes of the file.
"""

#: The magic number at the beginning of the file, big-endian.
MARK = bytes.fromhex("00051607")
PREFIX, FOLDER = b"._", b"__MACOSX"


def is_named_so(name: bytes) -> bool:
    """Return whether a path has the form that macOS gives to the paths of AppleDouble files."""
    folder, _, last = name.rpartition(b"/")
    return last.startswith(PREFIX) or FOLDER in folder.split(b"/")


def is_apple_double(name: bytes, front: bytes) -> bool:
    """Return whether the file `name`, which begins with the bytes `front`, is an AppleDouble file."""
    return is_named_so(name) and front.startswith(MARK)
