"""XVA, a virtual machine that XenServer or XCP-ng exported: a tar archive with a description and chunks.

Source: XenServer's "Understanding the XVA format" (xapi-project, xapi/import.ml and stream_vdi.ml).

`ova.xml` comes first. Each disk is a folder, `Ref:23`, of chunks of 1 MiB, `00000000`, `00000001` …, each
with its digest in a file of the same name and `.checksum` or `.xxhash`. Chunks of zeros are left out,
but for the first and the last one. Releases before 5 have `xvda/chunk-000000000.gz`.

A chunk is not a disk. Their number and length are stated in the description, which Keyhole does not read.
So the verdict is `unsupported_subformat`, and the chunks are not inspected.
"""

import re

from keyhole.inspectors.findings import Finding, found

#: The archive's variant.
NAME = "xva"
DESCRIPTION = b"ova.xml"
CHUNK = re.compile(rb"(?:\./)?(?:Ref:[0-9]+/[0-9]{8}(?:\.checksum|\.xxhash)?|[^/]+/chunk-[0-9]{9}\.gz)")


class XVA:
    """Recognises such an archive by the names of its files in their order."""

    def __init__(self) -> None:
        self._described = False
        self._chunks = 0

    def takes(self, name: bytes) -> bool:
        """Whether the next file is one of its chunks."""
        if name.removeprefix(b"./") == DESCRIPTION:
            self._described = True
        is_chunk = self._described and CHUNK.fullmatch(name) is not None
        self._chunks += is_chunk
        return is_chunk

    @property
    def is_one(self) -> bool:
        """Whether there were a description and chunks."""
        return self._chunks > 0

    def findings(self) -> list[Finding]:
        """The finding that the disks of such an archive cannot be inspected."""
        if not self.is_one:
            return []
        message = (
            "a virtual machine of XenServer (XVA): its disks lie in chunks, which Keyhole does not inspect"
        )
        return [found("unsupported_subformat", message)]
