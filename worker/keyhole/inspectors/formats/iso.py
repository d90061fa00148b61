"""Images of optical discs with ISO 9660, UDF or both.

Source: ECMA-119, 4th edition, section 9 (volume descriptors); "El Torito" Bootable CD-ROM Format
Specification 1.0, figure 7; Joliet Specification, section "SVD Escape Sequences"; SUSP 1.12, section 5.3. The
module `udf` documents UDF.

From byte 32768 on, there is a volume descriptor every 2,048 bytes. Numbers in volume descriptors are stored
twice, first little-endian, then big-endian.

| offset | bytes | field |
|---|---|---|
| 0 | 1 | type: 0 boot record, 1 primary, 2 supplementary, 255 end of the set |
| 1 | 5 | signature: `CD001`; for UDF `BEA01`, `NSR02`, `NSR03` or `TEA01` |
| 7 | 32 | boot record: `EL TORITO SPECIFICATION` |
| 71 | 4 | boot record: block of the boot catalog |
| 40 | 32 | volume name |
| 80 | 4 + 4 | number of blocks in the volume |
| 88 | 32 | supplementary: `%/@`, `%/C` or `%/E` for Joliet |
| 120 | 2 + 2 | number of volumes in the set |
| 124 | 2 + 2 | number of this volume |
| 128 | 2 + 2 | block size in bytes: 512, 1024 or 2048 |
| 132 | 4 + 4 | length of the path table in bytes |
| 158 | 4 + 4 | block of the root directory, whose first record can have the mark of Rock Ridge at byte 34 |

A reader sees all bytes of the object as the disc, so the object's length is the virtual size. QEMU, too, uses
the object's length as the size of a disc. The volume can be shorter than the object, because padding, further
sessions or a backup GPT can follow the volume.

Wholeness: proven if all blocks of the volume are inside the object. If the disc has UDF, UDF's partition and
both sequences of its volume descriptors must be inside the object.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.udf import IDENTIFIERS, Anchor, Volume
from keyhole.inspectors.formats.udf_places import UDFPlaces
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.remembered import Remembered
from keyhole.inspectors.text import printable

SET_OFFSET = 32768
SECTOR = 2048
#: At most this many descriptors are read. Discs have two to eight, including the descriptors of UDF.
MAX_DESCRIPTORS = 16
SET_END = SET_OFFSET + MAX_DESCRIPTORS * SECTOR
SIGNATURE = b"CD001"
BOOT_RECORD, PRIMARY, SUPPLEMENTARY, SET_ENDS = 0, 1, 2, 255
BLOCK_SIZES_9660 = (512, 1024, 2048)
#: Offset and length in bytes of the numbers that are stored twice.
DOUBLED = ((80, 4), (120, 2), (124, 2), (128, 2), (132, 4))
EL_TORITO = b"EL TORITO SPECIFICATION"
JOLIET = (b"%/@", b"%/C", b"%/E")
#: If a disc has the extension Rock Ridge, the first directory record contains this entry of the System Use
#: Sharing Protocol (SUSP): `SP`, length, version, check bytes.
ROCK_RIDGE = b"SP\x07\x01\xbe\xef"
#: The length of a directory's first record in bytes, up to the end of the entry `SP`.
ROOT_BYTES = 34 + len(ROCK_RIDGE)
#: By default, the first range request for an object fetches at least this many bytes. The root directory and
#: the UDF structures in this part need no further request. In a stream, the UDF structures arrive before the
#: anchor that points to them. So Keyhole captures these structures before it knows whether it needs them.
FRONT_BYTES = 256 * 1024


class VolumeSize(NamedTuple):
    """The number of blocks in an ISO 9660 volume, and the block size in bytes."""

    blocks: int
    block_size: int

    @property
    def end(self) -> int:
        """The offset in bytes where the volume ends."""
        return self.blocks * self.block_size


class ISOInspector(FileInspector):
    """ISO 9660 and UDF: reads the volume descriptors, and UDF's anchor and main sequence."""

    NAME = "iso"
    LAYER = Layer.DISC
    is_bare = True

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._places = UDFPlaces(self, SET_OFFSET, SET_END, FRONT_BYTES)
        self.new_region("set", CaptureRegion(SET_OFFSET, MAX_DESCRIPTORS * SECTOR))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - the base class has this parameter
        """Return false, because ISO 9660 and UDF do not use the first 32 KiB of a disc."""
        return False

    def explains(self, other: FileInspector) -> bool:
        """Return whether `other` recognises a partition table or a volume.

        Hybrid discs have both a disc's descriptors and a partition table. Keyhole reports hybrid discs as
        `iso`.
        """
        return other.LAYER is Layer.DISK

    @property
    def format_match(self) -> bool:
        """Whether there are volume descriptors of ISO 9660 or UDF at byte 32768."""
        return self.region("set").data[1:6] == SIGNATURE or (self._udf_begins and self._has_udf)

    @property
    def mark(self) -> str:
        """The first volume descriptor, which also begins the recognition sequence of UDF."""
        return f"volume descriptor at byte {SET_OFFSET}"

    @property
    def virtual_size(self) -> int:
        """The object's length in bytes, because readers see all bytes of the object as the disc."""
        return self.actual_size if self.format_match else 0

    @property
    def content(self) -> tuple[str, ...]:
        """`iso9660`, `udf`, or both."""
        if not self.format_match:
            return ()
        named = (("iso9660", self._primary is not None), ("udf", self._has_udf))
        return tuple(name for name, there in named if there)

    def post_process(self) -> None:
        """Declare regions for a root directory near the front, and for UDF's anchor and main sequence."""
        if not self.filled("set"):
            return
        if self._udf_begins and not self._has_udf and not self.has_region("second"):
            # If UDF has blocks of 32 KiB, the second descriptor of the recognition sequence is at this
            # offset.
            self.new_region("second", CaptureRegion(SET_END, SECTOR))
        if not self.format_match:
            return
        root = self._root_offset
        if root and not self.has_region("root"):
            self.new_region("root", CaptureRegion(root, ROOT_BYTES))
        if not self._has_udf:
            return
        self._places.declare(self._identifiers)

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the end of every volume is known and is inside the object."""
        ends = [self._volume_size.end if self._volume_size else 0] if self._primary is not None else []
        ends += [self._udf.end if self._udf is not None else 0] if self._has_udf else []
        known = self._size is not None and bool(ends) and all(ends)
        whole = known and not any(finding.check == "truncated" for finding in self.checks())
        return Wholeness.PROVEN if whole else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """The names, lengths and block sizes of the volumes, and the extensions of ISO 9660 in use."""
        if not self.format_match or not self.filled("set"):
            return {}
        facts: dict[str, object] = {}
        if self._primary is not None and self._volume_size is not None:
            facts["volume_name"] = printable(self._primary[40:72].rstrip(b" \0"))
            facts["volume_size"] = self._volume_size.end
            facts["block_size"] = self._volume_size.block_size
            facts["joliet"] = any(
                descriptor[0] == SUPPLEMENTARY and descriptor[88:91] in JOLIET
                for descriptor in self._descriptors_9660
            )
            facts["rock_ridge"] = self.captured("root")[34:] == ROCK_RIDGE
            facts["el_torito"] = any(
                descriptor[0] == BOOT_RECORD and descriptor[7:39].startswith(EL_TORITO)
                for descriptor in self._descriptors_9660
            )
        if self._udf is not None and self._anchor is not None:
            facts["udf_volume_name"] = self._udf.name
            facts["udf_volume_size"] = self._udf.end
            facts["udf_block_size"] = self._anchor.block_size
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on contradictions in the descriptors, and on volumes longer than the object."""
        if not self.format_match or not self.filled("set"):
            return []
        findings = []
        if self.captured("set")[1:6] == SIGNATURE:
            findings += [*self._set_checks(), *self._volume_checks()]
        return [*findings, *(self._udf_checks() if self._has_udf else [])]

    def _set_checks(self) -> Iterator[Finding]:
        primary, ended = self._primary, self._set_ended
        if not ended and len(self.captured("set")) < MAX_DESCRIPTORS * SECTOR:
            yield found("truncated", "the object ends within the volume descriptors")
        elif not ended:
            yield found("structure", "no volume descriptor ends the set of volume descriptors")
        elif primary is None:
            yield found("structure", "there is no primary volume descriptor")

    def _volume_checks(self) -> Iterator[Finding]:
        primary, size = self._primary, self._volume_size
        if primary is None or size is None:
            return
        if any(
            int.from_bytes(primary[at : at + length], "little")
            != int.from_bytes(primary[at + length : at + 2 * length], "big")
            for at, length in DOUBLED
        ):
            yield found("structure", "a little-endian number of the volume differs from its big-endian copy")
        if size.block_size not in BLOCK_SIZES_9660:
            yield found("structure", f"the volume's block size of {size.block_size} bytes is not valid")
        elif size.end < SET_OFFSET + SECTOR * len(self._descriptors_9660):
            yield found("structure", f"a volume of {size.end} bytes is too short for its own descriptors")
        elif self._size is not None and size.end > self._size:
            yield found("truncated", f"the volume has {size.end} bytes, the object has {self._size}")

    def _udf_checks(self) -> Iterator[Finding]:
        anchor, volume = self._anchor, self._udf
        if anchor is None:
            yield from self._places.no_anchor(self._identifiers)
            return
        end = max(anchor.end, volume.end if volume else 0)
        if self._size is not None and end > self._size:
            yield found("truncated", f"the UDF volume needs {end} bytes, the object has {self._size}")
        elif volume is not None and not volume.intact:
            yield found(
                "checksum_mismatch", "a UDF volume descriptor does not match its checksum or its block number"
            )
        elif volume is not None and volume.continued and not volume.end:
            yield found(
                "unsupported_subformat",
                "the UDF volume descriptors continue in another sequence, which Keyhole does not read",
            )
        elif volume is not None and not volume.end:
            yield found("structure", "the UDF volume descriptors name no partition")

    # The descriptors

    @Remembered
    def _descriptors(self) -> list[bytes]:
        """All descriptors of ISO 9660 and UDF that have been read completely."""
        held = self.region("set").data
        return [held[at : at + SECTOR] for at in range(0, len(held) - SECTOR + 1, SECTOR)]

    @Remembered
    def _descriptors_9660(self) -> list[bytes]:
        """The descriptors of ISO 9660, up to and including the descriptor that ends the set."""
        descriptors = []
        for descriptor in self._descriptors:
            if descriptor[1:6] != SIGNATURE:
                break
            descriptors.append(descriptor)
            if descriptor[0] == SET_ENDS:
                break
        return descriptors

    @property
    def _set_ended(self) -> bool:
        descriptors = self._descriptors_9660
        return bool(descriptors) and descriptors[-1][0] == SET_ENDS

    @property
    def _primary(self) -> bytes | None:
        return next((found for found in self._descriptors_9660 if found[0] == PRIMARY), None)

    @property
    def _volume_size(self) -> VolumeSize | None:
        primary = self._primary
        if primary is None:
            return None
        return VolumeSize(
            int.from_bytes(primary[80:84], "little"), int.from_bytes(primary[128:130], "little")
        )

    @property
    def _root_offset(self) -> int:
        """The offset of the root directory; zero unless it is after byte 32768 and near the front."""
        if self._primary is None or self._volume_size is None:
            return 0
        offset = int.from_bytes(self._primary[158:162], "little") * self._volume_size.block_size
        return offset if SET_OFFSET < offset <= FRONT_BYTES - ROOT_BYTES else 0

    # UDF

    @Remembered
    def _identifiers(self) -> list[bytes]:
        """The identifiers of all descriptors of ISO 9660 and UDF."""
        descriptors = [*self._descriptors, self.captured("second")]
        return [descriptor[1:6] for descriptor in descriptors]

    @property
    def _udf_begins(self) -> bool:
        """Whether the first descriptor, at byte 32768, belongs to a UDF recognition sequence."""
        return self.region("set").data[1:6] in IDENTIFIERS[:-1]

    @property
    def _has_udf(self) -> bool:
        return self._places.there(self._identifiers)

    @Remembered
    def _anchor(self) -> Anchor | None:
        return self._places.anchor(self._identifiers)

    @Remembered
    def _udf(self) -> Volume | None:
        """The UDF volume that the main sequence describes; `None` until the sequence has been read."""
        return self._places.volume(self._identifiers, self.captured("set") + self.captured("front"))
