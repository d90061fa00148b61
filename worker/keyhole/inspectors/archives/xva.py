"""Recognises XVA, the tar archive to which XenServer and XCP-ng export a virtual machine.

Source: XenServer's "Understanding the XVA format" (xapi-project, xapi/import.ml and stream_vdi.ml).

The description of the machine, `ova.xml`, comes first. Each disk is a folder, such as `Ref:23`, with chunks
of 1 MiB, `00000000`, `00000001` and so on. A file with the chunk's name and the suffix `.checksum` or
`.xxhash` has the chunk's digest. The archive leaves out chunks that contain only zeros, except the first and
the last chunk of a disk. In releases before 5, the chunks are called `xvda/chunk-000000000.gz` and so on.

Keyhole does not inspect the chunks, because each chunk is only a part of a disk. The description states how
the chunks form disks, but Keyhole does not read the description. Keyhole reports the finding
`unsupported_subformat`.
"""

import re

from keyhole.inspectors.findings import Finding, found

#: The value of `subformat` for these archives.
NAME = "xva"
DESCRIPTION = b"ova.xml"
CHUNK = re.compile(rb"(?:\./)?(?:Ref:[0-9]+/[0-9]{8}(?:\.checksum|\.xxhash)?|[^/]+/chunk-[0-9]{9}\.gz)")


class XVA:
    """Recognises an XVA by the names and the order of the archive's files."""

    def __init__(self) -> None:
        self._described = False
        self._chunks = 0

    def takes(self, name: bytes) -> bool:
        """Record the archive's next file; return whether it is a chunk of an XVA, or a chunk's digest."""
        if name.removeprefix(b"./") == DESCRIPTION:
            self._described = True
        is_chunk = self._described and CHUNK.fullmatch(name) is not None
        self._chunks += is_chunk
        return is_chunk

    @property
    def is_one(self) -> bool:
        """Whether the archive is an XVA: a description, followed by at least one chunk."""
        return self._chunks > 0

    def findings(self) -> list[Finding]:
        """Return the finding that an XVA's disks are not inspected; for other archives, return no finding."""
        if not self.is_one:
            return []
        message = "a virtual machine of XenServer (XVA): Keyhole does not inspect its disks, stored in chunks"
        return [found("unsupported_subformat", message)]
