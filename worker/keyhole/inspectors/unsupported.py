r"""Recognises formats that Keyhole does not inspect, by their marks at an object's front and end.

An attacker can put the mark of such a format into a disk image. The first bytes of a raw disk, a fixed VHD, a
VDI or an optical disc can have any value, and data can follow the end of every image. An importer that finds
the mark unpacks the object and imports the unpacked disk. A program that reads the object as a disk image
sees another disk. So Keyhole reports every mark that it finds in addition to an image.

A mark is recognised only in the places where a reader would begin to unpack. If a mark is short, the other
fields that readers check must also be valid. The end record of an archive is recognised only if it points to
entries. Zstandard and LZ4 share the same skippable frames. So the inspector skips up to `MAX_HOPS` of these
frames and reads the beginning of the next frame, which shows whether the object is Zstandard or LZ4.

Source: the probe functions in QEMU's block/*.c, which read the first 512 bytes; libarchive's bidders
(archive_read_support_*.c); gzip 1.12, get_method; 7-Zip's handlers; file(1)'s magic for the other formats.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from keyhole.inspectors.archives.zip import end as zip_end
from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.compression.fronts import skippable_bytes
from keyhole.inspectors.region import CaptureRegion, TailRegion
from keyhole.inspectors.remembered import Remembered

#: The number of first bytes that are searched for marks. The probes of most readers also read only the first
#: sector.
FRONT_BYTES: Final = 512

#: Formats, and the first bytes by which they are recognised.
FRONTS: Final[tuple[tuple[str, bytes], ...]] = (
    ("cloop", b"#!/bin/sh\n#V2.0 Format\n"),
    ("zip", b"PK\7\x08PK\3\4"),
    ("zip", b"PK00PK\3\4"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
    ("rar", b"Rar!\x1a\x07\0"),
    ("rar", b"Rar!\x1a\x07\1\0"),
    ("lzop", b"\x89LZO\0\r\n\x1a\n"),
    ("lrzip", b"LRZI\0"),
    ("ar", b"!<arch>\n"),
    ("ar", b"!<thin>\n"),
    ("cab", b"MSCF\0\0\0\0"),
    ("rpm", b"\xed\xab\xee\xdb"),
    ("wim", b"MSWIM\0\0\0"),
    ("mtree", b"#mtree"),
    ("warc", b"WARC/"),
    ("encrypted dmg", b"encrcdsa"),
    ("android sparse image", b"\x3a\xff\x26\xed\1\0"),
    ("partclone", b"partclone-image"),
    ("partimage", b"PaRtImAgE-VoLuMe"),
)
MAGICS: Final = tuple(magic for _, magic in FRONTS)
#: The last bytes of an encrypted DMG of the first version (libmodi's documentation).
ENCRYPTED_DMG_END: Final = b"cdsaencr"

QCOW_MAGIC: Final = b"QFI\xfb"
QCOW_INSPECTED: Final = {version.to_bytes(4, "big") for version in (1, 2, 3)}
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
#: The maximum number of skippable frames that the inspector skips. Programs that compress in parallel or
#: write seekable streams put only one such frame at the beginning, so 8 suffice.
MAX_HOPS: Final = 8
HOP_BYTES: Final = 8

#: The mark of VISO files, from which VirtualBox builds an optical disc with files of the host
#: (Storage/VISO.cpp, visoProbeWorker).
VISO: Final = re.compile(rb"\s*--iprt-iso-maker-file-marker")
UUENCODED: Final = re.compile(rb"(?:^|\n)begin(?:-base64)? [0-7]{3,4} \S")
LHA: Final = re.compile(rb"..-(?:l[hz][0-9sdx]|pm[012])-", re.DOTALL)
CPIO_NEW: Final = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
CPIO_OLD: Final = re.compile(rb"070707[0-7]{70}")
#: The magic number of a binary cpio archive, little-endian and big-endian.
CPIO_BINARY: Final = ((0o070707).to_bytes(2, "little"), (0o070707).to_bytes(2, "big"))
#: The valid lengths of a header in an ARJ archive, according to libarchive and 7-Zip.
ARJ_HEADER_BYTES: Final = range(30, 2601)
#: The longest block of a cloop image, and the most block offsets, that QEMU accepts (block/cloop.c).
MAX_CLOOP_BLOCK: Final = 64 * 1024**2
MAX_CLOOP_OFFSETS: Final = 512 * 1024**2 // 8


def named_by(front: bytes) -> str | None:
    """Return the uninspected format whose mark an object's first 512 bytes contain, or `None`."""
    if front.startswith(QCOW_MAGIC) and front[4:8] not in QCOW_INSPECTED:
        return "qcow2 (another version)"
    if front.startswith(MAGICS):
        return next(name for name, magic in FRONTS if front.startswith(magic))
    return next((name for name, holds in CHECKED if holds(front)), None)


class UnsupportedFormats(FileInspector):
    """Finds the marks of formats that Keyhole does not inspect. This inspector itself never matches."""

    NAME = "unsupported"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("front", CaptureRegion(0, FRONT_BYTES))
        self.new_region("tail", TailRegion(zip_end.TAIL_BYTES))

    @property
    def format_match(self) -> bool:
        """Always false, because this inspector only names formats and derives no facts."""
        return False

    @Remembered
    def marks(self) -> Mapping[str, str]:
        """The uninspected formats whose marks the object has. The values describe the marks; see `mark`."""
        begins, streams = named_by(self.captured("front")), self._streams()
        marks = {} if begins is None else {begins: self.mark}
        if streams is not None:
            marks.setdefault(streams, "skippable frame at byte 0")
        for name, mark in self._ends():
            marks.setdefault(name, mark)
        return marks

    def post_process(self) -> None:
        """Declare a region for the beginning of the frame after the last skippable frame."""
        at, hops = self._chain()
        if at and hops < MAX_HOPS and not self.has_region(f"hop {hops}"):
            self.new_region(f"hop {hops}", CaptureRegion(at, HOP_BYTES))

    def _chain(self) -> tuple[int, int]:
        """Return the offset after the known skippable frames, and the number of these frames."""
        at, head, hops = 0, self.captured("front"), 0
        while skipped := skippable_bytes(head[:HOP_BYTES]):
            at, hops = at + skipped, hops + 1
            head = self.captured(f"hop {hops}") if self.has_region(f"hop {hops}") else b""
        return at, hops

    def _streams(self) -> str | None:
        """Return the format of a stream that begins with skippable frames, or `None`."""
        _, hops = self._chain()
        if not hops:
            return None
        head = self.captured(f"hop {hops}") if self.has_region(f"hop {hops}") else b""
        # If the next frame is not LZ4, report Zstandard, because libarchive and file(1) report Zstandard for
        # every skippable frame.
        return "lz4" if head.startswith(LZ4_MAGIC) else "zstd"

    def _ends(self) -> Iterator[tuple[str, str]]:
        """Yield the formats whose marks lie at the object's end, with their marks."""
        tail = self.captured("tail")
        record = next(zip_end.archives(tail, self.actual_size), None)
        if record is not None:
            yield "zip", f"end record at byte {record.offset}"
        if tail.endswith(ENCRYPTED_DMG_END):
            yield "encrypted dmg", f"mark at byte {self.actual_size - len(ENCRYPTED_DMG_END)}"


# Formats with short marks, for which more fields are checked


def _is_compress(front: bytes) -> bool:
    """Return whether this is `compress` data.

    The third byte states the length of the longest code, 9 to 16.
    """
    return (
        front[:2] == b"\x1f\x9d"
        and len(front) > 2
        and not front[2] & 0x60
        and front[2] & 0x1F in range(9, 17)
    )


def _is_pack(front: bytes) -> bool:
    """Return whether this is `pack` data, which gzip unpacks.

    The mark is followed by the length of the data in 4 bytes, and by the number of levels of the Huffman
    tree, which is 1 to 25.
    """
    return front[:2] == b"\x1f\x1e" and len(front) > 6 and 0 < front[6] <= 25


def _is_lzip(front: bytes) -> bool:
    """Return whether this is an lzip file of version 0 or 1 with a dictionary of 4 KiB to 512 MiB."""
    return (
        front.startswith(b"LZIP")
        and front[4:5] in {b"\0", b"\1"}
        and front[5:6] != b""
        and 12 <= front[5] & 0x1F <= 29
    )


def _is_xar(front: bytes) -> bool:
    """Return whether this is a xar archive of version 1 with a header of at least 28 bytes."""
    return front.startswith(b"xar!") and int.from_bytes(front[4:6], "big") >= 28 and front[6:8] == b"\0\1"


def _is_old_cpio(front: bytes) -> bool:
    """Return whether this is a binary cpio archive in either byte order.

    The header states the length of the first name, and the name must end with a NUL at this length.
    """
    if not front.startswith(CPIO_BINARY):
        return False
    length = int.from_bytes(front[20:22], "little" if front.startswith(CPIO_BINARY[0]) else "big")
    return 1 < length <= len(front) - 26 and front[25 + length] == 0 and 0 not in front[26 : 25 + length]


def _is_arj(front: bytes) -> bool:
    """Return whether this is an ARJ archive: the main header must have a valid length and type."""
    length = int.from_bytes(front[2:4], "little")
    return front.startswith(b"\x60\xea") and length in ARJ_HEADER_BYTES and front[10:11] == b"\2"


def _is_cloop(front: bytes) -> bool:
    """Return whether QEMU with `-f cloop` would open the object.

    QEMU then ignores the mark, and checks the block size, the number of blocks, and whether the offsets of
    the blocks ascend.
    """
    if len(front) < 152:
        return False
    block, count = int.from_bytes(front[128:132], "big"), int.from_bytes(front[132:136], "big")
    if not 0 < block <= MAX_CLOOP_BLOCK or block % 512 or not 0 < count < MAX_CLOOP_OFFSETS:
        return False
    table = front[136 : 136 + 8 * (count + 1)]
    offsets = [int.from_bytes(table[at : at + 8], "big") for at in range(0, len(table) - 7, 8)]
    grows = all(0 <= after - before <= 2 * MAX_CLOOP_BLOCK for before, after in pairwise(offsets))
    return grows and offsets[0] < offsets[-1] < 2**63


CHECKED: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("viso", lambda front: VISO.match(front) is not None),
    ("compress", _is_compress),
    ("pack", _is_pack),
    ("lzip", _is_lzip),
    ("xar", _is_xar),
    ("lha", lambda front: LHA.match(front) is not None),
    ("cpio", lambda front: bool(CPIO_NEW.match(front) or CPIO_OLD.match(front) or _is_old_cpio(front))),
    ("arj", _is_arj),
    # The search for the plain word takes a tenth of the time of the regular expression, so this search comes
    # first.
    ("uuencode", lambda front: b"begin" in front and UUENCODED.search(front) is not None),
    ("cloop", _is_cloop),
)
