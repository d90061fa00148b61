"""Expert Witness Compression Format (EWF): evidence files ".E01", ".s01", ".Ex01".

All fields are little-endian.

Source: libyal, libewf, "Expert Witness Compression Format (EWF)" and "… 2 (EWF2)", sections "Segment file"
and "The sections"; the volume section: libewf, ewf_volume.h.

An image consists of one or more segment files. A segment file is a chain of sections. The forensic program
SMART writes a variant of the format, which the tables below mention.

| offset | bytes | field of version 1 (`EVF`) |
|---|---|---|
| 0 | 8 | signature `EVF` 09 0D 0A FF 00 |
| 9 | 2 | number of this segment, from 1 |
| 13 | 76 | the first section's descriptor |

| offset | bytes | field of a section's descriptor; the section's data follow the descriptor |
|---|---|---|
| 0 | 16 | type: `header`, `volume`, `sectors`, `table`, …; the last section has `next` or `done` |
| 16 | 8 | offset of the next descriptor; in the last section its own offset (SMART: the file's end) |
| 72 | 4 | Adler-32 of the bytes before this field |

| offset | bytes | field of the data of a section `volume`, `disk` or `data` |
|---|---|---|
| 0 | 1 | kind of medium |
| 4 | 4 | number of chunks |
| 8 | 4 | sectors in a chunk |
| 12 | 4 | bytes in a sector |
| 16 | 8 | number of sectors |
| 64 | 16 | UUID that all segments share; not in files written by SMART |
| last 4 | 4 | Adler-32 of the bytes before this field |

| offset | bytes | field of version 2 (`EVF2`) |
|---|---|---|
| 0 | 8 | signature `EVF2` 0D 0A 81 00 |
| 8 | 2 | version, major and minor |
| 10 | 2 | compression: 1 zlib, 2 bzip2 |
| 12 | 4 | number of this segment, from 1 |
| 16 | 16 | UUID that all segments share |
| 64 before the end | 4 | the last section's descriptor: type, 13 for next, 15 for done |
| 56 before the end | 8 | the last section's descriptor: offset of the previous descriptor |
| 4 before the end | 4 | the last section's descriptor: Adler-32 of its other bytes |

In version 2, the description of the medium is compressed. Keyhole does not decompress this description, which
contains the virtual size. So the size stays unknown.

Wholeness: each segment ends with a descriptor `next` or `done`, which states its own offset (in version 2,
the offset of the previous descriptor). `done` ends the last segment. Keyhole does not read the chunk tables,
because they are hundreds of mebibytes apart in the file, and each table would need a range request.
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
#: The possible lengths of the volume section's data in bytes: 94 in files written by SMART, 1052 in other
#: files.
VOLUME_BYTES = (94, 1052)
VOLUME_TYPES = frozenset({"volume", "disk", "data"})
LAST_TYPES = frozenset({"next", "done"})
LAST_TYPES_2 = {13: "next", 15: "done"}
MEDIA = {0x00: "removable", 0x01: "fixed", 0x03: "optical", 0x0E: "logical", 0x10: "memory"}

#: At most this many sections are read. The volume section is the third, fourth or fifth section of a first
#: segment. The sections after it are read only to check the chain.
MAX_SECTIONS = 12
#: The chain is followed up to this offset. By default, the first request of a scan fetches at least this many
#: bytes, so the sections before this offset need no further request.
CHAIN_END = 256 * 1024
#: A virtual size must fit into a 64-bit number of bytes.
MAX_VIRTUAL_SIZE = 2**64 - 1


class Section(NamedTuple):
    """The descriptor of a section in version 1, and the descriptor's offset in the file.

    `intact` is true if the descriptor matches its checksum.
    """

    offset: int
    kind: str
    next_offset: int
    intact: bool

    @property
    def ends_chain(self) -> bool:
        """Whether the descriptor points to itself or, in files written by SMART, to the descriptor's end."""
        return self.next_offset - self.offset in {0, DESCRIPTOR_BYTES_1}


class EWFInspector(HeaderInspector):
    """EWF: reads the first sections and the last section of a segment file."""

    NAME = "ewf"
    HEADER_LENGTH = HEADER_BYTES_2
    SIGNATURES = (SIGNATURE_1, SIGNATURE_2)

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes; zero until the volume section is read, or if the size is too large."""
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
        """Declare regions for the sections at the front, one after the other, and for the last descriptor."""
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
        """`PROVEN` if the object is the first segment and ends with the descriptor `done`.

        For a thorough inspector, which must read all maps, it is only `SAMPLED`, because Keyhole does not
        read the chunk tables.
        """
        whole = self._last == "done" and self._segment == 1
        if not whole:
            return Wholeness.UNCHECKED
        return Wholeness.SAMPLED if self.thorough else Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """The segment, the UUID of the set, the medium, and the sizes of chunks and sectors."""
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
        """Return findings on missing segments, the chain of sections, the volume section and the end."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._header_held:
            return [found("truncated", "the object ends within the EWF header")]
        return [*self._set(), *self._end(), *(self._medium_2() if self._is_version_2 else self._medium_1())]

    def _set(self) -> Iterator[Finding]:
        if self._segment == 0:
            yield found("structure", "this segment has the number 0, but segments are numbered from 1")
        if self._segment > 1:
            yield found(
                "data_file",
                f"this is segment {self._segment} of an image; the other segments are separate files",
            )
        elif self._last == "next":
            yield found("data_file", "the content continues in another segment file")

    def _end(self) -> Iterator[Finding]:
        if self.filled("last") and not self._last:
            yield found("truncated", "the object does not end with a section `next` or `done`")

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
            yield found("checksum_mismatch", f"the section at byte {last.offset} does not match its checksum")
        elif last.kind in LAST_TYPES:
            if not last.ends_chain:
                yield found("structure", f"the section {last.kind} does not end the chain of sections")
        elif last.next_offset < last.offset + DESCRIPTOR_BYTES_1:
            yield found("structure", f"the section after {last.kind} begins before the end of {last.kind}")
        elif self._last and last.next_offset > self.actual_size - DESCRIPTOR_BYTES_1:
            yield found("structure", f"the section after {last.kind} begins after the last section")

    def _contradictions(self) -> Iterator[Finding]:
        volume = self._volume
        if not volume:
            yield found("structure", "the length of the volume section is not valid")
            return
        if adler32(volume[:-4]) != volume.le(len(volume) - 4, 4):
            yield found("checksum_mismatch", "the volume section does not match its checksum")
        chunks, chunk_sectors, sectors = volume.le(4, 4), volume.le(8, 4), volume.le(16, 8)
        if chunks * chunk_sectors < sectors or not volume.le(12, 4):
            sizes = f"{chunks} chunks of {chunk_sectors} sectors of {volume.le(12, 4)} bytes"
            yield found("structure", f"{sizes} are too small for {sectors} sectors")
        elif sectors * volume.le(12, 4) > MAX_VIRTUAL_SIZE:
            yield found(
                "structure", f"{sectors} sectors of {volume.le(12, 4)} bytes are too large for a disk"
            )

    def _medium_2(self) -> Iterator[Finding]:
        major, minor = self.captured("header")[8:10]
        if major != 2:
            yield found("unknown_features", f"EWF version {major}.{minor} is unknown")
        yield found("unsupported_subformat", "Keyhole cannot read the compressed virtual size of Ex01 files")

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
        """The sections of the chain whose descriptors have been read, in order."""
        sections = []
        for number in range(MAX_SECTIONS):
            data = self.captured(f"section_{number}")
            if len(data) < DESCRIPTOR_BYTES_1:
                break
            sections.append(_section(self.region(f"section_{number}").offset, Fields(data)))
        return sections

    @staticmethod
    def _following(sections: list[Section]) -> int | None:
        """Return the offset of the next section, or `None` if the chain is not followed further."""
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
        """The data of the volume section; empty if its length is not one of `VOLUME_BYTES`."""
        data = self.captured("volume")
        section = self._volume_section(self._sections)
        if section is None or section.next_offset - section.offset - DESCRIPTOR_BYTES_1 not in VOLUME_BYTES:
            return Fields()
        return Fields(data) if len(data) in VOLUME_BYTES else Fields()

    @property
    def _last(self) -> str:
        """The type of the descriptor at the object's end: `next` or `done`.

        It is empty if there is no valid descriptor.
        """
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
