"""XVA, a virtual machine that XenServer or XCP-ng exported: a tar archive with a description and chunks.

Source: XenServer's "Understanding the XVA format" (xapi-project, xapi/import.ml and stream_vdi.ml).

`ova.xml` comes first. Each disk is a folder, `Ref:23`, of chunks of 1 MiB, `00000000`, `00000001` … The
digest of each chunk is in a file with the chunk's name and the suffix `.checksum` or `.xxhash`. Chunks of
zeros are left out, except the first and the last one. Releases before 5 have `xvda/chunk-000000000.gz`.

A chunk is not a disk. The description states the number and the length of the chunks, but Keyhole does not
read it. So the finding is `unsupported_subformat`, and the chunks are not inspected.
"""

import re

from keyhole.inspectors.findings import Finding, found

#: The archive's variant.
NAME = "xva"
DESCRIPTION = b"ova.xml"
CHUNK = re.compile(rb"(?:\./)?(?:Ref:[0-9]+/[0-9]{8}(?:\.checksum|\.xxhash)?|[^/]+/chunk-[0-9]{9}\.gz)")


class XVA:
    """Recognises an XVA by the names of its files and their order."""

    def __init__(self) -> None:
        self._described = False
        self._chunks = 0

    def takes(self, name: bytes) -> bool:
        """Whether the next file is a chunk of an XVA."""
        if name.removeprefix(b"./") == DESCRIPTION:
            self._described = True
        is_chunk = self._described and CHUNK.fullmatch(name) is not None
        self._chunks += is_chunk
        return is_chunk

    @property
    def is_one(self) -> bool:
        """Whether the archive is an XVA: it has a description, and chunks after it."""
        return self._chunks > 0

    def findings(self) -> list[Finding]:
        """The finding that the disks of an XVA cannot be inspected."""
        if not self.is_one:
            return []
        message = (
            "a virtual machine of XenServer (XVA): its disks lie in chunks, which Keyhole does not inspect"
        )
        return [found("unsupported_subformat", message)]
