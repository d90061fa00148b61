"""Compressed members of a ZIP archive: their bytes are unpacked as they come.

A member is read as compressed objects are (`compressed`), by the same limits. What comes out is compared
with the length and the checksum that the directory states, once all of it came out.
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
    """What unpacks a member and shows what comes out to an inspection.

    Args:
        entry: The member.
        decoder: What decodes it.
        inside: How members of the archive may be looked at.
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
        """None: what an archive compresses by itself is no format of its own."""
        return []

    def facts(self) -> Facts:
        """What is known of what came out, with what is wrong with the packed data."""
        findings = tuple(self.checks())
        for inside in self.members():
            return replace(inside.facts, findings=(*inside.facts.findings, *findings))
        return Facts(None, None, None, 0, (), findings=findings, complete=False)

    def _look(self, replay: Replay) -> None:
        """End at once if more comes out than the directory states, else as of any compressed object."""
        if self._decoder.made > self._entry.size:
            self._end("size_mismatch", self._wrong_size(f"{self._decoder.made} or more"))
        else:
            super()._look(replay)

    def _in_the_end(self, replay: Replay) -> Iterator[Finding]:
        yield from super()._in_the_end(replay)
        if self._decoder.made != self._entry.size:
            yield self._wrong_size(str(self._decoder.made))
        elif self._decoder.checksum != self._entry.checksum:
            yield found(
                "checksum_mismatch",
                "what was unpacked does not have the checksum that the ZIP directory states",
            )

    def _is_compressed(self, replay: Replay) -> bool:  # noqa: ARG002 - of an archive this is no matter
        """Whether a stream lies right in a stream: an archive lies between them."""
        return False

    def _wrong_size(self, made: str) -> Finding:
        return found("size_mismatch", f"the ZIP directory states {self._entry.size} bytes, {made} came out")


class PackedMember(PlacedMember):
    """A member whose bytes lie in the archive packed."""

    def __init__(self, name: str, place: int, entry: Entry, unpacking: Unpacking) -> None:
        super().__init__(name, ExtentMap.whole(entry.packed, place), unpacking)
        self._unpacking = unpacking

    def _told(self) -> Member:
        # It does not lie in the archive as it is.
        (size,) = [member.size for member in self._unpacking.members()] or [None]
        return Member(self.name, None, size, self._unpacking.facts())
