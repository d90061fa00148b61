"""Finds the files of an archive to which the references of its OVF lead.

Source: DMTF DSP0243 2.1.1, section 7.1. A reference is a path relative to the OVF's folder. VirtualBox treats
the reference as relative to the archive's root. So a reference can lead to different files for different
readers. An archive can store a file in chunks, `disk.vmdk.000000000` and so on. Each chunk except the last
one has `chunkSize` bytes. If the OVF states no `chunkSize` and there is only one chunk, virt-v2v treats this
chunk as the whole file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from keyhole.inspectors.archives.names import digest, leads_outside, shown
from keyhole.inspectors.archives.ovf.descriptor import File
from keyhole.inspectors.archives.ovf.host import URL

#: The name of a chunk: the file's name, a dot, and the chunk's number with nine digits.
CHUNK = re.compile(rb"(.+)\.(\d{9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of the archive's files to which a reference can lead.

    `whole` has the files that contain the referenced file as a whole. If there is more than one such file,
    readers open different files. `chunks` maps the number of each chunk of the referenced file to the number
    of the file that is this chunk.
    """

    whole: tuple[int, ...]
    chunks: dict[int, int]

    @property
    def missing_chunk(self) -> int | None:
        """The number of the first missing chunk before the last chunk; `None` if no chunk is missing."""
        return next((place for place in range(len(self.chunks)) if place not in self.chunks), None)


class ArchiveFiles:
    """The files of an archive, found by their names."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        #: The digests of the names by which an OVF can refer to the files, in the files' order.
        self.names: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        # The chunks of each file that is stored in chunks, by the digest of the file's name. The inner dict
        # maps a chunk's number to the number of the archive's file that is this chunk.
        self._chunks: dict[bytes, dict[int, int]] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, name: bytes, size: int) -> None:
        """Add the archive's next file. The files are numbered from 0, in the order of the calls."""
        number = len(self._sizes)
        self._sizes.append(size)
        self._numbers[digest(name)] = number
        self.names.append(digest(name))
        chunk = CHUNK.fullmatch(name)
        if chunk:
            self._chunks.setdefault(digest(chunk[1]), {})[int(chunk[2])] = number
            self.names.append(digest(chunk[1]))

    def size(self, number: int) -> int:
        """Return the size of a file in bytes."""
        return self._sizes[number]

    def find(self, folder: bytes, file: File) -> Found:
        """Find the files to which a reference of the OVF can lead. `folder` is the OVF's folder."""
        names = [digest(path) for path in paths(folder, file.href)]
        whole = tuple(dict.fromkeys(self._numbers[name] for name in names if name in self._numbers))
        chunks = next((self._chunks[name] for name in names if name in self._chunks), {})
        if not whole and file.chunk_size is None and len(chunks) == 1:
            return Found(tuple(chunks.values()), {})
        return Found(whole, chunks)


def shown_text(text: str) -> str:
    """Return a text of an OVF as findings show it: printable, shortened and in quotes."""
    return shown(text.encode(errors="replace"))


def leads_elsewhere(href: str) -> str | None:
    """Return how a reference leads out of the archive, such as `is a URL`; `None` if it does not."""
    if URL.match(href):
        return "is a URL"
    return next(filter(None, map(leads_outside, _readings(href))), None)


def _readings(href: str) -> tuple[bytes, bytes]:
    """Return the two readings of a reference: the unchanged text, and the percent-decoded text."""
    return href.encode(errors="replace"), unquote_to_bytes(href)


def paths(folder: bytes, href: str) -> Iterator[bytes]:
    """Yield the paths in the archive to which a reference can lead, the most likely path first."""
    for start in (folder, b"") if folder else (b"",):
        for reading in _readings(href):
            yield start + b"/" + reading if start else reading
