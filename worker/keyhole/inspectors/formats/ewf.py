"""Expert Witness Compression Format (EWF): evidence files ".E01", ".s01", ".Ex01". Fields are little-endian.

Source: libyal, libewf, "Expert Witness Compression Format (EWF)" and "… 2 (EWF2)", sections "Segment file"
and "The sections"; the volume section: libewf, ewf_volume.h.

An image consists of one or more segment files.

| offset | bytes | field of version 1 (`EVF`) |
|---|---|---|
| 0 | 8 | signature `EVF` 09 0D 0A FF 00 |
| 9 | 2 | number of this segment, from 1 |
| 13 | 76 | the first section's descriptor |

| offset | bytes | field of a section's descriptor; the section's data follow it |
|---|---|---|
| 0 | 16 | type: `header`, `volume`, `sectors`, `table`, …; `next` or `done` in the last one |
| 16 | 8 | offset of the next descriptor; in the last one its own offset, or (SMART) the end of the file |
| 72 | 4 | Adler-32 of the bytes before this field |

| offset | bytes | field of the data of `volume`; `disk` and `data` are laid out like it |
|---|---|---|
| 0 | 1 | kind of medium |
| 4 | 4 | number of chunks |
| 8 | 4 | sectors in a chunk |
| 12 | 4 | bytes in a sector |
| 16 | 8 | number of sectors |
| 64 | 16 | UUID that all segments share (not in version 1 files by SMART) |
| last 4 | 4 | Adler-32 of the bytes before this field |

| offset | bytes | field of version 2 (`EVF2`) |
|---|---|---|
| 0 | 8 | signature `EVF2` 0D 0A 81 00 |
| 8 | 2 | version, major and minor |
| 10 | 2 | compression: 1 zlib, 2 bzip2 |
| 12 | 4 | number of this segment, from 1 |
| 16 | 16 | UUID that all segments share |
| -64 | 4 | the last section's descriptor: type, 13 for next, 15 for done |
| -56 | 8 | offset of the descriptor before this one |
| -4 | 4 | Adler-32 of the descriptor's bytes before this field |

Version 2 compresses its description of the medium, which contains the size. So the size stays unknown.

Wholeness: each segment ends with a descriptor `next` or `done` that states its own offset (in version 2, the
offset of the descriptor right before it). `done` ends the last segment. The chunk tables in the middle, which
lie hundreds of mebibytes apart, are not read.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import UUID
from zlib import adler32

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import Fields
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.region import CaptureRegion, TailRegion
from keyhole.inspectors.text import printable

SIGNATURE_1 = b"EVF\t\r\n\xff\0"
SIGNATURE_2 = b"EVF2\r\n\x81\0"
HEADER_BYTES_1, HEADER_BYTES_2 = 13, 32
DESCRIPTOR_BYTES_1, DESCRIPTOR_BYTES_2 = 76, 64
#: The possible lengths of the volume section's data: in SMART's files, and in all others.
VOLUME_BYTES = (94, 1052)
VOLUME_TYPES = frozenset({"volume", "disk", "data"})
LAST_TYPES = frozenset({"next", "done"})
LAST_TYPES_2 = {13: "next", 15: "done"}
MEDIA = {0x00: "removable", 0x01: "fixed", 0x03: "optical", 0x0E: "logical", 0x10: "memory"}

#: The volume section is the third, fourth or fifth section of a first segment. The sections after it are read
#: only to check the chain.
MAX_SECTIONS = 12
#: The chain is followed up to this offset, because this many bytes of an object are fetched at once.
CHAIN_END = 256 * 1024
#: No disk has more bytes than a 64-bit number can count.
MAX_VIRTUAL_SIZE = 2**64 - 1


class Section(NamedTuple):
    """The descriptor of a section in version 1, with its offset."""

    offset: int
    kind: str
    next_offset: int
    intact: bool

    @property
    def ends_chain(self) -> bool:
        """Whether the descriptor points to itself or to its own end."""
        return self.next_offset - self.offset in {0, DESCRIPTOR_BYTES_1}


class EWFInspector(HeaderInspector):
    """An EWF segment file: its first sections and its last one."""

    NAME = "ewf"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, HEADER_BYTES_2))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether an object that begins with `prefix` has the signature of either version."""
        return prefix.startswith((SIGNATURE_1, SIGNATURE_2))

    @property
    def virtual_size(self) -> int:
        """The volume section's sectors, in bytes; zero until the section is held, or if impossible."""
        volume = self._volume
        size = volume.le(16, 8) * volume.le(12, 4)
        return size if size <= MAX_VIRTUAL_SIZE else 0

    @property
    def subformat(self) -> str | None:
        """`E01`, `S01` (written by SMART) or `Ex01`."""
        if self._is_version_2:
            return "Ex01"
        if not self.format_match:
            return None
        return "S01" if len(self._volume) == VOLUME_BYTES[0] else "E01"

    def post_process(self) -> None:
        """Follow the chain of sections from the front, and declare the descriptor at the end."""
        if not self.format_match or not self.filled("header"):
            return
        if not self.has_region("last"):
            self.new_region("last", TailRegion(DESCRIPTOR_BYTES_1))
        if self._is_version_2:
            return
        sections = self._sections
        following = self._following(sections)
        if following is not None and not self.has_region(f"section_{len(sections)}"):
            self.new_region(f"section_{len(sections)}", CaptureRegion(following, DESCRIPTOR_BYTES_1))
        volume = self._volume_section(sections)
        if volume is not None and not self.has_region("volume"):
            at = volume.offset + DESCRIPTOR_BYTES_1
            self.new_region("volume", CaptureRegion(at, min(volume.next_offset - at, VOLUME_BYTES[1])))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the object is the first segment, and ends with the descriptor `done`."""
        whole = self._last == "done" and self._segment == 1
        if not whole:
            return Wholeness.UNCHECKED
        # The tables of the chunks are not read.
        return Wholeness.SAMPLED if self.thorough else Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """Segment, set, medium, and the number and sizes of chunks and sectors."""
        if not self._header_held:
            return {}
        facts: dict[str, object] = {"segment": self._segment}
        if self._is_version_2:
            facts["set_id"] = str(UUID(bytes_le=self.captured("header")[16:32]))
        volume = self._volume
        if volume:
            facts["medium"] = MEDIA.get(volume[0], str(volume[0]))
            facts["chunks"] = volume.le(4, 4)
            facts["chunk_size"] = volume.le(8, 4) * volume.le(12, 4)
            facts["sector_size"] = volume.le(12, 4)
        if any(volume[64:80]) and len(volume) == VOLUME_BYTES[1]:
            facts["set_id"] = str(UUID(bytes_le=volume[64:80]))
        return facts

    def checks(self) -> list[Finding]:
        """Findings on missing segments, on the chain of sections, the volume section and the end."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._header_held:
            return [found("truncated", "the object ends within the EWF header")]
        return [*self._set(), *self._end(), *(self._medium_2() if self._is_version_2 else self._medium_1())]

    def _set(self) -> Iterator[Finding]:
        if self._segment == 0:
            yield found("structure", "segments are numbered from 1; this one is 0")
        if self._segment > 1:
            yield found(
                "data_file", f"this is segment {self._segment} of an image; the others are other files"
            )
        elif self._last == "next":
            yield found("data_file", "the content continues in another segment file")

    def _end(self) -> Iterator[Finding]:
        if self.filled("last") and not self._last:
            yield found("truncated", "the section that ends every segment file does not end the object")

    def _medium_1(self) -> Iterator[Finding]:
        sections = self._sections
        yield from self._chain(sections)
        if self.filled("volume"):
            yield from self._contradictions()
        elif sections and self._following(sections) is None and self._volume_section(sections) is None:
            yield found("unsupported_subformat", "no section near the front states the medium's size")

    def _chain(self, sections: list[Section]) -> Iterator[Finding]:
        if not sections:
            return
        last = sections[-1]
        if not last.intact:
            yield found("checksum_mismatch", f"the section at {last.offset} does not match its checksum")
        elif last.kind in LAST_TYPES:
            if not last.ends_chain:
                yield found("structure", f"the section {last.kind} does not end the chain of sections")
        elif last.next_offset < last.offset + DESCRIPTOR_BYTES_1:
            yield found("structure", f"the section behind {last.kind} lies before its end")
        elif self._last and last.next_offset > self.actual_size - DESCRIPTOR_BYTES_1:
            yield found("structure", f"the section behind {last.kind} lies behind the last one")

    def _contradictions(self) -> Iterator[Finding]:
        volume = self._volume
        if not volume:
            yield found("structure", "the volume section does not have the length that it should have")
            return
        if adler32(volume[:-4]) != volume.le(len(volume) - 4, 4):
            yield found("checksum_mismatch", "the volume section does not match its checksum")
        chunks, chunk_sectors, sectors = volume.le(4, 4), volume.le(8, 4), volume.le(16, 8)
        if chunks * chunk_sectors < sectors or not volume.le(12, 4):
            yield found("structure", f"{chunks} chunks of {chunk_sectors} sectors cannot hold {sectors}")
        elif sectors * volume.le(12, 4) > MAX_VIRTUAL_SIZE:
            yield found("structure", f"no medium has {sectors} sectors of {volume.le(12, 4)} bytes")

    def _medium_2(self) -> Iterator[Finding]:
        major, minor = self.captured("header")[8:10]
        if major != 2:
            yield found("unknown_features", f"EWF version {major}.{minor} is unknown")
        yield found("unsupported_subformat", "Ex01 files compress the medium's size, so it is unknown")

    # Header and sections

    @property
    def _is_version_2(self) -> bool:
        return self.region("header").data.startswith(SIGNATURE_2)

    @property
    def _header_held(self) -> bool:
        wanted = HEADER_BYTES_2 if self._is_version_2 else HEADER_BYTES_1
        return self.format_match and len(self.captured("header")) >= wanted

    @property
    def _segment(self) -> int:
        header = Fields(self.captured("header"))
        return header.le(12, 4) if self._is_version_2 else header.le(9, 2)

    @property
    def _sections(self) -> list[Section]:
        """The sections of the chain whose descriptors are held, in order."""
        sections = []
        for number in range(MAX_SECTIONS):
            data = self.captured(f"section_{number}")
            if len(data) < DESCRIPTOR_BYTES_1:
                break
            sections.append(_section(self.region(f"section_{number}").offset, Fields(data)))
        return sections

    @staticmethod
    def _following(sections: list[Section]) -> int | None:
        """The offset of the section after these, or `None` if the chain is not followed further."""
        if not sections:
            return HEADER_BYTES_1
        last = sections[-1]
        ahead = last.offset + DESCRIPTOR_BYTES_1 <= last.next_offset <= CHAIN_END - DESCRIPTOR_BYTES_1
        follow = ahead and last.intact and last.kind not in LAST_TYPES and len(sections) < MAX_SECTIONS
        return last.next_offset if follow else None

    @staticmethod
    def _volume_section(sections: list[Section]) -> Section | None:
        for section in sections:
            ahead = section.next_offset >= section.offset + DESCRIPTOR_BYTES_1
            if ahead and section.intact and section.kind in VOLUME_TYPES:
                return section
        return None

    @property
    def _volume(self) -> Fields:
        """The data of the volume section; empty if their length is not a known one."""
        data = self.captured("volume")
        section = self._volume_section(self._sections)
        if section is None or section.next_offset - section.offset - DESCRIPTOR_BYTES_1 not in VOLUME_BYTES:
            return Fields()
        return Fields(data) if len(data) in VOLUME_BYTES else Fields()

    @property
    def _last(self) -> str:
        """The type of the valid descriptor that ends the object, `next` or `done`; empty if there is none."""
        data = Fields(self.captured("last"))
        if self._is_version_2:
            data = Fields(data[-DESCRIPTOR_BYTES_2:])
            at = self.actual_size - DESCRIPTOR_BYTES_2
            if len(data) < DESCRIPTOR_BYTES_2 or adler32(data[:60]) != data.le(60, 4):
                return ""
            before = data.le(8, 8) + DESCRIPTOR_BYTES_2
            return LAST_TYPES_2.get(data.le(0, 4), "") if before == at else ""
        if len(data) < DESCRIPTOR_BYTES_1:
            return ""
        section = _section(self.actual_size - DESCRIPTOR_BYTES_1, data)
        right = section.intact and section.kind in LAST_TYPES and section.ends_chain
        return section.kind if right else ""


def _section(offset: int, data: Fields) -> Section:
    kind = printable(data[:16].split(b"\0")[0])
    return Section(offset, kind, data.le(16, 8), adler32(data[:72]) == data.le(72, 4))
