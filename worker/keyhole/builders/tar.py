r"""Builds tar archives in POSIX's ustar format.

Header, 512 bytes (POSIX.1-2017, pax, "ustar Interchange Format"); numbers are octal text and a NUL::

      0  name, 100         100  mode, owner, group, 8 each     124  size, 12        136  time, 12
    148  checksum, 8       156  kind: 0 a file, 2 a symbolic link    157  target of a link, 100
    257  "ustar\0" "00"    265  names of owner and group, 32 each    345  prefix of the name, 155

The member's data follow the header, padded to a block. Two blocks of zeros end the archive. The archive is
padded to a multiple of 20 blocks.
"""

import struct
from collections.abc import Sequence

from keyhole.builders.image import Image, round_up

BLOCK = 512
#: By default, GNU tar pads an archive to a multiple of this many bytes.
RECORD = 20 * BLOCK
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
MODIFIED = 1_777_636_800
FILE, SYMLINK = b"0", b"2"

#: A member of an archive: its name and its content. The content of a file is an `Image`, and the content of a
#: symbolic link is a text, the link's target.
Entry = tuple[str, Image | str]


def tar(entries: Sequence[Entry]) -> Image:
    """Return a tar archive of files and symbolic links. The archive is padded as GNU tar pads archives."""
    end, pieces = 0, []
    for name, content in entries:
        if isinstance(content, str):
            pieces.append((end, tar_header(name.encode(), kind=SYMLINK, link=content.encode())))
            end += BLOCK
            continue
        pieces.append((end, tar_header(name.encode(), content.size)))
        pieces += [(end + BLOCK + at, data) for at, data in content.pieces]
        end += BLOCK + round_up(content.size, BLOCK)
    return Image.of(round_up(end + 2 * BLOCK, RECORD), pieces)


def tar_header(
    name: bytes, size: int = 0, *, kind: bytes = FILE, link: bytes = b"", prefix: bytes = b""
) -> bytes:
    """Return the header of a member. `size` is in bytes."""
    fields = [
        *(name, b"0000644\0", b"0000000\0", b"0000000\0"),
        *(b"%011o\0" % size, b"%011o\0" % MODIFIED, b" " * 8, kind, link),
        *(b"ustar\0", b"00", b"root", b"root", b"0000000\0", b"0000000\0", prefix),
    ]
    return summed(HEADER.pack(*fields))


def summed(header: bytes) -> bytes:
    """Return a copy of the header that contains the header's checksum."""
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]
