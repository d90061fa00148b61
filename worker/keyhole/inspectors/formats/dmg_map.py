"""The block map of a DMG.

It maps the disk's sectors to chunks of data in the data fork, which is the part of the file that contains the
disk's data.

The map is stored in a property list, which is XML. The map has one table (`blkx`) for each partition. A table
is binary and encoded in base64. All numbers are big-endian. In the row for chunks, u64@8 means an unsigned
number of 64 bits at byte 8 of the chunk.

| offset | bytes | field of a table |
|---|---|---|
| 0 | 4 | signature `mish` |
| 8 | 8 | first sector on the disk; the number of sectors is at 16 |
| 24 | 8 | base for the chunks' offsets, relative to the start of the data fork |
| 200 | 4 | number of chunks |
| 204 | 40 each | chunks: kind u32, first sector within the table u64@8, number of sectors u64@16, offset of the data u64@24, its length u64@32 |

| kind | chunk |
|---|---|
| 0, 2 | zeros, for which no data is stored |
| 1 | uncompressed sectors |
| 80000004 to 80000008 | compressed by ADC, zlib, bzip2, LZFSE, xz |
| 7FFFFFFE | a comment |
| FFFFFFFF | the end of the table |

Readers differ in how they find the tables. QEMU uses every `<data>` element whose content begins like a
table, even inside a comment. Other readers use the tables under the key `blkx`. Keyhole reports a finding if
the two methods find different tables.

Source: libyal, libmodi, "Mac OS disk image types", sections "XML plist" and "Block table"; QEMU, block/dmg.c,
dmg_read_plist_xml and dmg_read_mish_block; 7-Zip, DmgHandler.cpp.
"""  # noqa: E501 - each row of the table is one line

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import gt
from struct import Struct
from typing import Final, NamedTuple

from keyhole.inspectors.effort import spend
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import BoundedFindings, Finding, found
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.text import printable

#: Keyhole does not read property lists that are longer than this. A property list of this length has room for
#: 78,000 chunks, which map 20 GiB of the disk with the usual chunks of 256 KiB.
MAX_PLIST_BYTES: Final = 4 * 1024**2
#: The maximum number of characters `=` in a property list. An attribute has one `=`, and a base64 text has up
#: to two. The limit is needed because the XML parser parses all attributes of an element in one step, which
#: cannot be interrupted.
MAX_SIGNS: Final = 10_000
#: The maximum number of levels of nested elements. Property lists that Apple writes have six levels.
MAX_DEPTH: Final = 32

SIGNATURE: Final = b"mish"
HEAD: Final = Struct(">4x4x3Q")
COUNT: Final = Struct(">I")
COUNT_AT, CHUNKS_AT = 200, 204
CHUNK: Final = Struct(">I4x4Q")
ZEROS: Final = frozenset({0, 2})
RAW: Final = 1
COMMENT, END = 0x7FFFFFFE, 0xFFFFFFFF
WITHOUT_SECTORS: Final = frozenset({COMMENT, END})
#: The compression method for each kind of compressed chunk.
COMPRESSED: Final = {
    0x80000004: "adc",
    0x80000005: "zlib",
    0x80000006: "bzip2",
    0x80000007: "lzfse",
    0x80000008: "xz",
}
KINDS: Final = ZEROS | {RAW, COMMENT, END} | COMPRESSED.keys()

#: The path to a table in the property list: keys of dictionaries, and `*` for the elements of an array.
TABLES_AT: Final = ("resource-fork", "blkx", "*", "Data")
#: Bytes that may follow the property list.
PADDING: Final = b"\0 \t\r\n"
DATA_BEGINS, DATA_ENDS = b"<data>", b"</data>"
LEAST_TABLE_BYTES: Final = CHUNKS_AT + CHUNK.size


class Chunk(NamedTuple):
    """A run of sectors of the disk: its first sector, its length in sectors, and where its data are.

    A chunk of zeros has no data.
    """

    sector: int
    sectors: int
    kind: int
    data_offset: int
    data_length: int

    @property
    def data(self) -> ByteRange:
        """The range of the data in the object."""
        return ByteRange(self.data_offset, self.data_length)

    @property
    def end(self) -> int:
        """The first sector after the chunk."""
        return self.sector + self.sectors

    @property
    def stored(self) -> bool:
        """Whether the chunk has data."""
        return self.kind not in ZEROS


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The block map of a disk.

    Attributes:
        tables: The number of tables.
        chunks: All chunks, ordered by the disk's sectors.
        sectors: The sum of the numbers of sectors that the tables state.
        end: The number of the last sector plus one.
        findings: The findings on the map that do not depend on the trailer.
    """

    tables: int
    chunks: tuple[Chunk, ...]
    sectors: int
    end: int
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Chunk | None:
        """The first chunk that has data."""
        return next((chunk for chunk in self.chunks if chunk.stored), None)

    def checks(self, sectors: int, fork: ByteRange) -> Iterator[Finding]:
        """Yield findings on the map, on a wrong disk size, on shared data, and on data outside the data fork.

        Args:
            sectors: The number of sectors that the trailer states.
            fork: The range of the data fork in the object.
        """
        yield from self.findings
        if not self.sectors == self.end == sectors:
            yield found(
                "size_mismatch",
                f"the trailer states {sectors} sectors, but the block tables state {self.sectors} sectors "
                f"and end at sector {self.end}",
            )
        outside = BoundedFindings()
        reached = 0
        stored = [(at, length) for _, _, kind, at, length in self.chunks if length and kind not in ZEROS]
        for offset, length in sorted(stored):
            end = offset + length
            if offset < fork.offset or end > fork.end:
                outside.add(
                    found("structure", f"a chunk's data, bytes {offset} to {end}, are outside the data fork")
                )
            if offset < reached:
                outside.add(found("structure", f"two chunks share the data at byte {offset}"))
            reached = max(reached, end)
        yield from outside.all()


def parse(plist: bytes, fork_offset: int) -> BlockMap:
    """Parse the block map in a property list. The data fork begins at `fork_offset`.

    If a part cannot be parsed, the map contains a finding on this part.
    """
    findings = BoundedFindings()
    tables = _tables(plist, findings)
    chunks: list[Chunk] = []
    spans = []
    for table in tables:
        first, sectors, offset = HEAD.unpack_from(table)
        spans.append((first, first + sectors))
        chunks += _chunks(table, first, sectors, fork_offset + offset, findings)
    chunks.sort()
    starts = [chunk.sector for chunk in chunks]
    ends = [sector + sectors for sector, sectors, *_ in chunks]
    if any(map(gt, ends, islice(starts, 1, None))):
        findings.add(found("structure", "two chunks map the same sectors of the disk"))
    return BlockMap(
        tables=len(tables),
        chunks=tuple(chunks),
        sectors=sum(end - first for first, end in spans),
        end=max((end for _, end in spans), default=0),
        findings=tuple(findings.all()),
    )


def _chunks(
    table: bytes, first: int, sectors: int, offset: int, findings: BoundedFindings
) -> Iterator[Chunk]:
    """Yield the chunks of one table, except comments and the mark of the table's end."""
    (count,) = COUNT.unpack_from(table, COUNT_AT)
    if CHUNKS_AT + count * CHUNK.size > len(table):
        findings.add(
            found("structure", f"a block table of {len(table)} bytes is too short for its {count} chunks")
        )
        return
    covered = 0
    spend(count)
    entries = CHUNK.iter_unpack(table[CHUNKS_AT : CHUNKS_AT + count * CHUNK.size])
    for kind, sector, length, place, stored in entries:
        if kind not in KINDS:
            findings.add(found("unknown_features", f"the chunk kind {kind:#x} is unknown"))
        if not length or kind in WITHOUT_SECTORS:
            continue
        covered += length
        if sector + length > sectors:
            findings.add(
                found("structure", f"a chunk ends at sector {sector + length}, its table at sector {sectors}")
            )
        if kind == RAW and stored != length * SECTOR:
            findings.add(
                found("structure", f"an uncompressed chunk has {length} sectors, but {stored} bytes of data")
            )
        yield Chunk(first + sector, length, kind, offset + place, stored)
    if covered != sectors:
        findings.add(
            found("size_mismatch", f"a block table states {sectors} sectors, but its chunks have {covered}")
        )


# The property list


class _Tables:
    """A target of `XMLParser` that collects the texts of the tables in the property list."""

    def __init__(self) -> None:
        self.found: list[bytes] = []
        #: The current key of each open dictionary, and `*` for each open array.
        self._path: list[str] = []
        self._open: list[str] = []
        self._text: list[str] | None = None

    def start(self, tag: str, _attributes: object) -> None:
        """Handle the start of an element."""
        spend()
        if len(self._open) >= MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} levels deep")
        self._open.append(tag)
        if tag in {"dict", "array"}:
            self._path.append("*" if tag == "array" else "")
        wanted = tag == "key" or (tag == "data" and tuple(self._path) == TABLES_AT)
        self._text = [] if wanted else None

    def data(self, text: str) -> None:
        """Handle a part of an element's text."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        self._open.pop()
        text, self._text = "".join(self._text or ()), None
        if tag in {"dict", "array"}:
            self._path.pop()
        elif tag == "key" and self._path:
            self._path[-1] = text
        elif tag == "data" and tuple(self._path) == TABLES_AT:
            self.found.append(text.encode())

    def close(self) -> None:
        """Handle the end of the property list."""


def _tables(plist: bytes, findings: BoundedFindings) -> list[bytes]:
    """Return the tables under the key `blkx`. If QEMU finds different tables, add a finding."""
    target = _Tables()
    try:
        _parse(plist.rstrip(PADDING), target)
    except (ValueError, LookupError) as error:
        findings.add(
            found("structure", f"the property list cannot be parsed: {printable(str(error).encode())}")
        )
    # Usually QEMU and the other readers find the same texts, so decode each distinct text only once.
    texts, by_qemu = target.found, list(_by_qemu(plist))
    decoded = {text: _decoded(text) for text in {*texts, *by_qemu}}
    tables = [decoded[text] for text in texts if _is_table(decoded[text])]
    if len(tables) < len(texts):
        findings.add(found("structure", "a block table has no signature or is too short"))
    others = [decoded[text] for text in by_qemu if _is_table(decoded[text])]
    if others != tables:
        findings.add(
            found(
                "ambiguous_format",
                f"QEMU finds {len(others)} block tables, but other readers find {len(tables)} different ones",
            )
        )
    if not tables and not others:
        findings.add(found("structure", "the property list has no block table"))
    return tables


def _parse(plist: bytes, target: _Tables) -> None:
    # Imported here, because few objects are a DMG. `keyhole.api.import_all` imports the parser in advance.
    from xml.etree.ElementTree import ParseError  # noqa: PLC0415 - see above

    from defusedxml.ElementTree import DefusedXMLParser  # noqa: PLC0415 - see above

    if plist.count(b"=") > MAX_SIGNS:
        raise ValueError(f"it has more than {MAX_SIGNS} characters `=`")
    parser = DefusedXMLParser(target=target, forbid_dtd=False)
    try:
        parser.feed(plist)
        parser.close()
    except ParseError as error:
        raise ValueError(str(error)) from error


def _by_qemu(plist: bytes) -> Iterator[bytes]:
    """Yield all texts between `<data>` and `</data>` in the property list, as QEMU finds them."""
    at = 0
    while (begins := plist.find(DATA_BEGINS, at)) >= 0:
        begins += len(DATA_BEGINS)
        at = plist.find(DATA_ENDS, begins)
        if at < 0:
            return
        yield plist[begins:at]


def _is_table(data: bytes) -> bool:
    return len(data) >= LEAST_TABLE_BYTES and data.startswith(SIGNATURE)


def _decoded(text: bytes) -> bytes:
    """Return the bytes that a base64 text encodes; empty if the text is not base64."""
    try:
        return a2b_base64(text)
    except (Base64Error, ValueError):
        return b""
