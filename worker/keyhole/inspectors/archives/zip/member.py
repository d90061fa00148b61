"""Decompresses the members of a ZIP archive while their bytes arrive.

Keyhole reads a member like a compressed object (`compression.inspector`), with the same limits. At the
member's end, it compares the length and the checksum of the output with the values in the directory.
"""

from collections.abc import Iterator
from dataclasses import replace

from keyhole.inspectors.archives.zip.entry import Entry
from keyhole.inspectors.archives.zip.methods import MemberDecoder
from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.replay import Replay
from keyhole.inspectors.container import PlacedMember
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.inside import Inside


class Unpacking(CompressedInspector):
    """Decompresses a member and passes the output to the member's inspection.

    Args:
        entry: The member.
        decoder: Decodes the member's data.
        inside: Creates the inspection of the decompressed member, with the limits for nested files.
    """

    DECODER = MemberDecoder
    _decoder: MemberDecoder

    def __init__(self, entry: Entry, decoder: MemberDecoder, inside: Inside) -> None:
        super().__init__(inside=inside, decoder=decoder)
        self._entry = entry

    def __str__(self) -> str:
        return self._decoder.NAME

    @property
    def matches(self) -> list[FileInspector]:
        """Empty, because a member's compression is a part of the ZIP format, and not a separate format."""
        return []

    def facts(self) -> Facts:
        """The facts of the output, and findings on the compressed data."""
        findings = tuple(self.checks())
        for inside in self.members():
            return replace(inside.facts, findings=(*inside.facts.findings, *findings))
        return Facts(None, None, None, 0, (), findings=findings, complete=False)

    def _look(self, replay: Replay) -> None:
        """Stop if the output is longer than the directory states, or if `CompressedInspector` would stop."""
        if self._decoder.made > self._entry.size:
            self._end("size_mismatch", self._wrong_size(f"{self._decoder.made} or more"))
        else:
            super()._look(replay)

    def _in_the_end(self, replay: Replay) -> Iterator[Finding]:
        yield from super()._in_the_end(replay)
        if self._decoder.made != self._entry.size:
            yield self._wrong_size(str(self._decoder.made))
        elif self._decoder.checksum != self._entry.checksum:
            message = "the decompressed data do not match the checksum in the ZIP directory"
            yield found("checksum_mismatch", message)

    def _is_compressed(self, replay: Replay) -> bool:  # noqa: ARG002 - it does not matter in an archive
        """Return false, because an archive often compresses files that are already compressed."""
        return False

    def _wrong_size(self, made: str) -> Finding:
        return found(
            "size_mismatch",
            f"the ZIP directory states {self._entry.size} bytes, but decompression gave {made}",
        )


class PackedMember(PlacedMember):
    """A compressed member of an archive."""

    def __init__(self, name: str, place: int, entry: Entry, unpacking: Unpacking) -> None:
        super().__init__(name, ExtentMap.whole(entry.packed, place), unpacking)
        self._unpacking = unpacking

    def _told(self) -> Member:
        # The member has no offset, because its uncompressed bytes are not in the archive.
        (size,) = [member.size for member in self._unpacking.members()] or [None]
        return Member(self.name, None, size, self._unpacking.facts())
