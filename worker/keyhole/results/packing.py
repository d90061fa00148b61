"""Packs and unpacks the reports in records. A packed report needs about a fifth of the memory of its JSON.

A packed report is `~`, followed by the report's JSON as a raw deflate stream (RFC 1951) with a preset
dictionary (RFC 1950, section 2.2). A record separates its parts with line feeds, so the stream must not
contain a line feed. Each line feed in the stream is replaced with ESC and `0`, and each ESC with ESC and `1`.

Earlier versions of Keyhole stored the JSON itself. `unpack` reads both forms. A report of `_LONGEST` bytes or
more is still stored as JSON, so that unpacking needs a bounded amount of memory.
"""

import zlib
from typing import Final

_PACKED: Final = b"~"
_LINE_FEED, _ESCAPE = b"\n", b"\x1b"
_ESCAPED_LINE_FEED, _ESCAPED_ESCAPE = _ESCAPE + b"0", _ESCAPE + b"1"

#: Texts that many reports contain. The most frequent texts are at the end of the dictionary, because deflate
#: treats the dictionary as data before the report, and encodes a short distance in fewer bits than a long
#: one. Never change the dictionary: without it, existing records cannot be read. If a later version packs
#: reports with another dictionary, these reports must begin with a byte other than `~`, so that `unpack` can
#: recognise them.
_DICTIONARY: Final = (
    b'"mime_type":"application/octet-stream","error":"","backing_file":"","data_file":"",'
    b'"encryption":"aes"bzip2","xz","zstd","tar","cloop","bochs","parallels","qed","asif","ewf","luks",'
    b'"crypto_LUKS","aes-xts-plain64","key_slots":1,"payload_offset":16777216,"segment":1,"segments":1,'
    b'"medium":"fixed","chunks":"chunk_size":32768,'
    b'"set_id":"segment_id":"data_fork_bytes":"property_list_bytes":"block_tables":1,"format":"dmg",'
    b'"zip","gzip","details":{"streams":1,"decompressed_bytes":"format":"ova","details":{"disks":1,'
    b'"other_files":0},"members":[{"target":"iso","subformat":null,"iso9660","udf",'
    b'"details":{"volume_name":"","volume_size":,"block_size":2048,"joliet":true,"rock_ridge":true,'
    b'"el_torito":true},"content":["gpt"],["dos"],["ext4"],["xfs"],["btrfs"],["ntfs"],["vfat"],["swap"],'
    b'["squashfs"],["LVM2_member"],"partition_table":"gpt","partition_table":"dos","sector_size":512,'
    b'"partitions":1},"members":[],"status":"unreadable","reasons":["not_found"],"access_denied"],'
    b'"status":"failed","reasons":["network"],"status":"inconclusive","reasons":["budget"],'
    b'"status":"rejected","reasons":["encrypted"],"status":"unrecognized","reasons":["no_known_format"],'
    b'"not_an_image"],"status":"damaged","reasons":["truncated"],"status":"unsafe",'
    b'"reasons":["backing_file"],"findings":[{"check":"truncated","severity":"error",'
    b'"message":"the image needs  bytes, the object has "},{"check":"backing_file",'
    b'"severity":"critical","message":"opening the image also opens its backing file \'","readers":[]},'
    b'{"check":"extent_path","severity":"info","message":"the descriptor calls this file \'",'
    b'"readers":[]}],"severity":"warning","wholeness":"unchecked","wholeness":"sampled","format":"vhdx",'
    b'"subformat":"dynamic","details":{"block_size":33554432,"logical_sector_size":512},"members":[],'
    b'"format":"vdi","details":{"type":"dynamic","block_size":1048576,"blocks":10240,'
    b'"blocks_allocated":,"uuid":"-4000-8000-"},"members":[],"format":"vhd","subformat":"fixed",'
    b'"details":{"type":"fixed","creator":"qem2","current_size":,"geometry_size":,"original_size":,'
    b'"unique_id":""format":"vmdk","subformat":"monolithicSparse","details":{"version":1,'
    b'"grain_size":65536,"compressed":false,"create_type":"streamOptimized","compressed":true,'
    b'"extents":["SPARSE .vmdk"]},"members":[],"format":"raw",{"target":"s3://.qcow2","bucket":"images",'
    b'"key":".qcow2","version_id":null,"etag":"\\"-1\\"","size":1073741824,'
    b'"last_modified":"2026-01-01T00:00:00Z","format":"qcow2","subformat":"v3",'
    b'"virtual_size":10737418240,"actual_size":,"content":[],"details":{"version":3,'
    b'"cluster_size":65536,"refcount_bits":16,"snapshots":0,"features":[],"compression":"zlib"},'
    b'"members":[],"status":"safe","reasons":[],"findings":[],"wholeness":"proven","requests":2,'
    b'"bytes_read":,"elapsed_ms":1.,"cpu_ms":1.,"scanned_at":"2026-01-01T00:00:00.000000Z",'
    b'"scanner":"keyhole/0.1.0","ruleset":"5:default","last_attempt":null}'
)
#: The base-2 logarithm of the size of deflate's window, which must be large enough for the dictionary. The
#: negative sign selects a raw deflate stream.
_WINDOW: Final = -12
#: The size of deflate's hash table, from 1 to 9. A report is short, so a small table is enough.
_MEMORY: Final = 5
_LEVEL: Final = 3
#: JSON with this many bytes or more is not packed.
_LONGEST: Final = 8 * 1024 * 1024


class UnpackError(ValueError):
    """The packed form of a report is damaged, or unpacks to more bytes than `pack` accepts."""


def pack(report: bytes) -> bytes:
    """Return the packed form of a report's JSON; the JSON itself if it is too long."""
    if len(report) >= _LONGEST:
        return report
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=_DICTIONARY)
    packed = packer.compress(report) + packer.flush()
    return _PACKED + packed.replace(_ESCAPE, _ESCAPED_ESCAPE).replace(_LINE_FEED, _ESCAPED_LINE_FEED)


def unpack(report: bytes) -> bytes:
    """Return a report's JSON from its packed form. If `report` is not packed, return it unchanged.

    Raises:
        UnpackError: The packed form is damaged.
    """
    if not report.startswith(_PACKED):
        return report
    packed = report.removeprefix(_PACKED)
    packed = packed.replace(_ESCAPED_LINE_FEED, _LINE_FEED).replace(_ESCAPED_ESCAPE, _ESCAPE)
    unpacker = zlib.decompressobj(_WINDOW, zdict=_DICTIONARY)
    try:
        unpacked = unpacker.decompress(packed, _LONGEST)
    except zlib.error as error:
        raise UnpackError(f"its body cannot be unpacked: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise UnpackError("its body cannot be unpacked: it is incomplete or too long")
    return unpacked
