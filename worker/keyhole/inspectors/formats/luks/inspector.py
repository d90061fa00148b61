"""Inspects LUKS volumes, versions 1 and 2: a header, areas of key material, and the encrypted disk.

Source: "LUKS On-Disk Format Specification" 1.2.3, section 2.3; "LUKS2 On-Disk Format Specification" 1.1.1,
chapter 2. All fields are big-endian.

| offset | bytes | field of version 1 |
|---|---|---|
| 0 | 6 | signature `LUKS` BA BE |
| 6 | 2 | version, 1 |
| 8 | 3 x 32 | cipher, its mode, and the hash, as text |
| 104 | 4 | offset of the payload (the encrypted disk) in sectors of 512 bytes; zero if the payload is in another file |
| 108 | 4 | length of the key in bytes |
| 168 | 40 | UUID as text |
| 208 | 8 x 48 | key slots, each with three u32: at byte 0 the state (0x00AC71F3 in use, 0x0000DEAD not in use), at byte 40 the offset of the key material in sectors, at byte 44 the number of stripes; the length of the key material is the length of the key times the number of stripes |

| offset | bytes | field of version 2 |
|---|---|---|
| 0 | 6 | signature `LUKS` BA BE; in the second header `SKUL` BA BE |
| 6 | 2 | version, 2 |
| 8 | 8 | size of the header and the JSON metadata after it: 16 KiB to 4 MiB, a power of two |
| 16 | 8 | sequence number; the same in both headers, unless an update was interrupted |
| 24 | 48 | label as text |
| 72 | 32 | checksum algorithm as text |
| 168 | 40 | UUID as text |
| 256 | 8 | the header's own offset |
| 448 | 64 | checksum of header and metadata, computed with zeros in this field |
| 4096 | | JSON metadata, see the module `metadata` |
| size of the first header | | second header and metadata; then the areas with the key material of the key slots |

Wholeness: usually unchecked, because the payload extends to the end of the object and nothing marks the
payload's end. Wholeness can be proven only for a LUKS2 volume whose metadata state the size of every segment.
"""  # noqa: E501 - the rows of the tables are one line each

from collections.abc import Iterator, Mapping
from hashlib import sha256
from struct import unpack_from

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.luks.metadata import Metadata, Segment, parse
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

SIGNATURE, SECOND_SIGNATURE = b"LUKS\xba\xbe", b"SKUL\xba\xbe"

HEADER_BYTES_1 = 592
SLOT_IN_USE, SLOT_UNUSED = 0x00AC71F3, 0x0000DEAD

HEADER_BYTES_2 = 4096
#: How many bytes of the second header are read. These bytes contain all fields.
SECOND_HEADER_BYTES = 512
#: The sizes that the specification allows: powers of two from 16 KiB to 4 MiB.
HEADER_SIZES_2 = frozenset(1 << bits for bits in range(14, 23))
#: The largest header, in bytes, whose JSON metadata Keyhole reads. cryptsetup makes headers of 16 KiB by
#: default. If the header is larger than this limit, the report contains the finding `unsupported_subformat`,
#: because only the metadata state where the payload is.
MAX_READ_HEADER = 256 * 1024
CHECKSUM_ALGORITHM = b"sha256"
CHECKSUM_AT, CHECKSUM_BYTES = 448, 64


class LUKSInspector(HeaderInspector):
    """Inspects LUKS volumes. It reads the header and the metadata, but not the encrypted content."""

    NAME = "luks"
    HEADER_LENGTH = HEADER_BYTES_2
    SIGNATURES = (SIGNATURE,)
    BYTE_ORDER = "big"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._parsed: Metadata | None = None
        self._checksum_right = False

    @property
    def virtual_size(self) -> int:
        """The payload's size in bytes; zero if it is unknown.

        If the metadata state no size, the payload ends at the end of the object.
        """
        if self._version == 1 and self._held(HEADER_BYTES_1):
            payload = self._u32(104) * SECTOR
            return max(0, self.actual_size - payload) if payload else 0
        if any(segment.has_integrity or not segment.offset for segment in self._disk):
            return 0
        return sum(self._segment_bytes(segment) for segment in self._disk)

    @property
    def subformat(self) -> str | None:
        """`luks1` or `luks2`; `None` for other versions."""
        return f"luks{self._version}" if self._version in {1, 2} else None

    @property
    def content(self) -> tuple[str, ...]:
        """The name that libblkid has for the content: `crypto_LUKS`, an encrypted disk."""
        return ("crypto_LUKS",) if self.format_match else ()

    def post_process(self) -> None:
        """Declare the metadata and the second header of a LUKS2 volume, then parse the metadata."""
        if self._version != 2 or not self._held(HEADER_BYTES_2) or self._header_size not in HEADER_SIZES_2:
            return
        if not self.has_region("second"):
            self.new_region("second", CaptureRegion(self._header_size, SECOND_HEADER_BYTES))
            if self._header_size <= MAX_READ_HEADER:
                rest = self._header_size - HEADER_BYTES_2
                self.new_region("metadata", CaptureRegion(HEADER_BYTES_2, rest))
        if self._parsed is None and self._metadata_held:
            header, metadata = self.captured("header"), self.captured("metadata")
            end = CHECKSUM_AT + CHECKSUM_BYTES
            zeroed = header[:CHECKSUM_AT] + bytes(CHECKSUM_BYTES) + header[end:]
            digest = sha256(zeroed + metadata).digest()
            self._checksum_right = header[CHECKSUM_AT:end] == digest.ljust(CHECKSUM_BYTES, b"\0")
            self._parsed = parse(metadata)

    @property
    def wholeness(self) -> Wholeness:
        """Proven only if LUKS2 metadata state every segment's size, and the object contains all segments."""
        if self._parsed is None or not self._checksum_right or self._size is None or not self._disk:
            return Wholeness.UNCHECKED
        for segment in self._parsed.segments:
            if not segment.size or not segment.offset or segment.offset + segment.size > self._size:
                return Wholeness.UNCHECKED
        return Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """Return the version, the cipher, the UUID, the payload's offset, and facts about the key slots."""
        header = self.captured("header")
        if self._version == 1 and self._held(HEADER_BYTES_1):
            return {
                "version": 1,
                "encryption": f"{_text(header[8:40])}-{_text(header[40:72])}",
                "hash": _text(header[72:104]),
                "key_bits": self._u32(108) * 8,
                "key_slots": sum(state == SLOT_IN_USE for state, _, _ in self._slots),
                "payload_offset": self._u32(104) * SECTOR,
                "uuid": _text(header[168:208]),
            }
        if self._version != 2 or not self._held(HEADER_BYTES_2):
            return {}
        facts: dict[str, object] = {"version": 2, "uuid": _text(header[168:208])}
        if label := _text(header[24:72]):
            facts["label"] = label
        if self._parsed is not None:
            facts["key_slots"] = len(self._parsed.areas)
            facts["segments"] = len(self._parsed.segments)
        if self._disk:
            facts["payload_offset"] = self._disk[0].offset
            facts["encryption"] = self._disk[0].encryption
            facts["sector_size"] = self._disk[0].sector_size
        return facts

    def checks(self) -> list[Finding]:
        """Return the finding that the volume is encrypted, and findings about its headers and areas."""
        if not self.format_match or not self.filled("header"):
            return []
        encrypted = found("encrypted", "the content of a LUKS volume cannot be inspected without the key")
        if not self._held(HEADER_BYTES_2 if self._version == 2 else HEADER_BYTES_1):
            return [encrypted, found("truncated", "the object ends within the LUKS header")]
        if self._version == 1:
            return [encrypted, *self._slot_checks_1(), *self._payload_checks_1()]
        if self._version == 2:
            return [encrypted, *self._header_checks_2(), *self._metadata_checks_2()]
        return [encrypted, found("unknown_features", f"LUKS version {self._version} is unknown")]

    # Version 1

    @property
    def _slots(self) -> list[tuple[int, int, int]]:
        """The eight key slots: state, offset of the key material in sectors, and number of stripes."""
        header = self.captured("header")
        return [unpack_from(">I36xII", header, at) for at in range(208, HEADER_BYTES_1, 48)]

    def _slot_checks_1(self) -> Iterator[Finding]:
        payload = self._u32(104) * SECTOR
        for number, (state, sector, stripes) in enumerate(self._slots):
            end = sector * SECTOR + self._u32(108) * stripes
            if state not in {SLOT_IN_USE, SLOT_UNUSED}:
                yield found("structure", f"key slot {number} has the unknown state {state:#x}")
            elif state == SLOT_UNUSED:
                continue
            elif not stripes or sector * SECTOR < HEADER_BYTES_1 or (payload and end > payload):
                yield found(
                    "structure", f"the key material of slot {number} overlaps the header or the payload"
                )
            elif self._size is not None and end > self._size:
                yield found("truncated", f"key material ends at byte {end}, the object ends at {self._size}")

    def _payload_checks_1(self) -> Iterator[Finding]:
        payload = self._u32(104) * SECTOR
        if not payload:
            yield found("data_file", "a LUKS header without the payload, which is another file")
        elif payload < HEADER_BYTES_1:
            yield found("metadata_overlap", "the payload overlaps the LUKS header")
        elif self._size is not None and payload >= self._size:
            yield found("truncated", f"the payload begins at byte {payload}, the object ends at {self._size}")
        if not self._u32(108):
            yield found("structure", "the header states a key length of zero bytes")

    # Version 2

    def _header_checks_2(self) -> Iterator[Finding]:
        header = self.captured("header")
        size = self._header_size
        if size not in HEADER_SIZES_2:
            yield found("structure", f"the LUKS2 header states an invalid size of {size} bytes")
            return
        if self._u64(256):
            yield found("structure", f"the header at byte 0 states that it is at byte {self._u64(256)}")
        if self._size is not None and 2 * size > self._size:
            yield found("truncated", "the object ends within the LUKS2 headers")
        elif self.filled("second"):
            yield from self._agreement(header, self.captured("second"))

    def _agreement(self, first: bytes, second: bytes) -> Iterator[Finding]:
        """Yield a finding if the second header is missing or does not match the first header."""
        same = second[6:16] == first[6:16] and second[168:208] == first[168:208]
        stands_at = int.from_bytes(second[256:264], "big")
        if not second.startswith(SECOND_SIGNATURE) or stands_at != self._header_size:
            yield found("structure", "there is no second LUKS2 header right after the first header")
        elif not same:
            yield found("structure", "the second LUKS2 header belongs to another volume")
        elif second[16:24] != first[16:24]:
            yield found(
                "dirty", "an update of the LUKS2 headers was interrupted; opening the volume completes it"
            )

    def _metadata_checks_2(self) -> Iterator[Finding]:
        metadata = self._parsed
        if metadata is None:
            if self._header_size in HEADER_SIZES_2 and self._header_size > MAX_READ_HEADER:
                yield found(
                    "unsupported_subformat",
                    f"a LUKS2 header of {self._header_size} bytes is not read, so the disk's size is unknown",
                )
            return
        if _raw_text(self.captured("header")[72:104]) != CHECKSUM_ALGORITHM:
            yield found(
                "unsupported_subformat", "the LUKS2 header's checksum is not SHA-256 and was not checked"
            )
        elif not self._checksum_right:
            yield found("checksum_mismatch", "the LUKS2 header and metadata do not match their checksum")
        for problem in metadata.problems:
            yield found("structure", problem)
        for requirement in metadata.requirements:
            yield found("unknown_features", f"a reader that opens the volume must support {requirement!r}")
        if not metadata.problems:
            yield from self._areas(metadata)
            yield from self._segments(metadata)

    def _areas(self, metadata: Metadata) -> Iterator[Finding]:
        """Yield findings about the areas of the key slots.

        The space for key slots follows both headers, and the metadata state the length of this space. Every
        area must be inside this space.
        """
        first = 2 * self._header_size
        behind = first + (metadata.keyslots_size or 0)
        if metadata.json_size != self._header_size - HEADER_BYTES_2:
            yield found("size_mismatch", "the header and the metadata state different sizes of the metadata")
        if any(area.offset < first or area.offset + area.size > behind for area in metadata.areas):
            yield found("structure", "the key material of a slot is outside the space for key slots")
        end = max((area.offset + area.size for area in metadata.areas), default=0)
        if self._size is not None and end > self._size:
            yield found("truncated", f"key material ends at byte {end}, the object ends at {self._size}")

    def _segments(self, metadata: Metadata) -> Iterator[Finding]:
        """Yield findings about the segments, which must be after the key material and inside the object."""
        behind = 2 * self._header_size + (metadata.keyslots_size or 0)
        if not self._disk:
            yield found("structure", "the LUKS2 metadata list no segment with the payload")
        for segment in metadata.segments:
            end = segment.offset + (segment.size or 0)
            if not segment.offset:
                yield found("data_file", "a LUKS header without the payload, which is another file")
            elif segment.offset < behind:
                yield found("metadata_overlap", "the payload overlaps the key material")
            elif self._size is not None and (end > self._size or segment.offset >= self._size):
                yield found(
                    "truncated", f"the payload ends at byte {end} or later, the object ends at {self._size}"
                )
            if segment.has_integrity:
                yield found(
                    "unsupported_subformat",
                    "integrity tags are stored between the payload's sectors, so its size is unknown",
                )

    # What was read

    @property
    def _version(self) -> int:
        return int.from_bytes(self.region("header").data[6:8], "big") if self.format_match else 0

    @property
    def _header_size(self) -> int:
        """The size in bytes that a LUKS2 header states for itself and its metadata."""
        return self._u64(8)

    @property
    def _metadata_held(self) -> bool:
        return len(self.captured("metadata")) + HEADER_BYTES_2 == self._header_size

    @property
    def _disk(self) -> list[Segment]:
        """The segments that together form the disk of a LUKS2 volume, in order."""
        return [segment for segment in self._parsed.segments if not segment.is_backup] if self._parsed else []

    def _segment_bytes(self, segment: Segment) -> int:
        return max(0, self.actual_size - segment.offset) if segment.size is None else segment.size

    def _held(self, length: int) -> bool:
        return len(self.captured("header")) >= length


def _raw_text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _text(field: bytes) -> str:
    return printable(_raw_text(field))
