"""Resolves the references of an OVF to files of its archive.

Source: DMTF DSP0243 2.1.1, section 7.1. A reference is a path relative to the OVF's folder; to VirtualBox it
is relative to the archive's root. A file may be stored in chunks, `disk.vmdk.000000000` and so on. Each of
them has `chunkSize` bytes, except the last. If there is one chunk and no `chunkSize`, virt-v2v takes it for
the whole file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from keyhole.inspectors.archives.names import digest, leads_outside, shown
from keyhole.inspectors.archives.ovf.descriptor import File
from keyhole.inspectors.archives.ovf.host import URL

#: The name of a chunk: the file's name, then the chunk's number with nine digits.
CHUNK = re.compile(rb"(.+)\.(\d{9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of the files that a reference may mean.

    `whole` has each file that the reference may mean by itself; there should be only one. `chunks` has the
    files that it means together, by the chunk's number.
    """

    whole: tuple[int, ...]
    chunks: dict[int, int]

    @property
    def missing_chunk(self) -> int | None:
        """The number of the first chunk that is missing before the last one; `None` if there is none."""
        return next((place for place in range(len(self.chunks)) if place not in self.chunks), None)


class ArchiveFiles:
    """The files of an archive, found by their names."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        #: The digests of the names under which the files may be referred to, in the files' order.
        self.names: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        # The numbers of the chunks of each file, by the digest of the file's name and the chunk's number.
        self._chunks: dict[bytes, dict[int, int]] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, name: bytes, size: int) -> None:
        """Add the next file. Its number is how many files were added before."""
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
        """Find the files that a reference may mean. `folder` is the OVF's folder."""
        names = [digest(path) for path in paths(folder, file.href)]
        whole = tuple(dict.fromkeys(self._numbers[name] for name in names if name in self._numbers))
        chunks = next((self._chunks[name] for name in names if name in self._chunks), {})
        if not whole and file.chunk_size is None and len(chunks) == 1:
            return Found(tuple(chunks.values()), {})
        return Found(whole, chunks)


def shown_text(text: str) -> str:
    """Return a text of an OVF in quotes, as a finding shows it."""
    return shown(text.encode(errors="replace"))


def leads_elsewhere(href: str) -> str | None:
    """Return why a reference leads outside the archive, in words that follow it; `None` if it does not."""
    if URL.match(href):
        return "is a URL"
    return next(filter(None, map(leads_outside, _readings(href))), None)


def _readings(href: str) -> tuple[bytes, bytes]:
    """Return the paths that a reference may mean: as written, and with percent-encoding decoded."""
    return href.encode(errors="replace"), unquote_to_bytes(href)


def paths(folder: bytes, href: str) -> Iterator[bytes]:
    """Yield the paths in the archive that a reference of an OVF may mean, likely ones first."""
    for start in (folder, b"") if folder else (b"",):
        for reading in _readings(href):
            yield start + b"/" + reading if start else reading
