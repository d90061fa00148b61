"""Compressed images: gzip, xz, zstd, bzip2, LZ4 or LZMA around one member of any format that is inspected.

The object is read in order, from its front, a piece at a time and each as long as all before it. What comes
out of the decoder passes the inspection of the member. It ends where the first of these is the case:

- the object's end is reached: all is known;
- so much came out, or went in, as is allowed (`Decompression`);
- the object is known to be longer than is read of it, so that its end is out of reach, and nothing else is
  wanted;
- the data are corrupt, or a bomb (`decompression` says what is one).

What the object's front, index or trailer say of the member's size is not believed. It is known at the end.

The law, where the length comes late: what was known when nothing else was wanted is kept, for it is what
counts if the object turns out to be too long.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.compression.decoders import (
    Bzip2Decoder,
    Decoder,
    DecodingError,
    GzipDecoder,
    XzDecoder,
    ZstdDecoder,
)
from keyhole.inspectors.compression.limits import BOMB_RATIO, KIB, MIB
from keyhole.inspectors.compression.replay import Passing
from keyhole.inspectors.container import FRONT_BYTES as FRONT_KEPT
from keyhole.inspectors.container import ContainerInspector
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.inside import MAX_DEPTH, Inside
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

#: Pieces of the object, each as long as all before it until they are large enough for the first byte's
#: latency to count little.
LEAST_PIECE, MOST_PIECE = 64 * KIB, 4 * MIB
FRONT_BYTES = 512
#: What is held beside the decoder's window: two copies of a piece, one of which is on its way, a step of what
#: comes out, what is kept of that (`passing`), and the inspection of the member.
PIECES_AT_ONCE, LEAST_BUFFERS = 2, 4 * MIB
BUFFERS = LEAST_BUFFERS + PIECES_AT_ONCE * MOST_PIECE
#: The formats whose content is compressed again where it is one of them.
COMPRESSED = frozenset({"gzip", "xz", "zstd", "bzip2", "lz4", "lzma"})
#: What the member is called: the names that headers give are not for use.
MEMBER = "content"
#: Why a member was not seen to its end, though the data are in order.
LIMIT = "decompression_limit"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `unseen` is why not all of the member was seen, as a reason code."""

    member: Member | None
    streams: int
    made: int
    findings: tuple[Finding, ...]
    unseen: str | None


class CompressedInspector(ContainerInspector):
    """A compressed object, and what it holds."""

    LAYER = Layer.COMPRESSED
    DECODER: ClassVar[type[Decoder]]
    #: Its pieces are asked for as buffers of the decoder.
    MADE_OF_REGION = 0

    def __init__(
        self, tracing: bool = False, inside: Inside | None = None, decoder: Decoder | None = None
    ) -> None:
        super().__init__(tracing, inside)
        self._decoder = self.DECODER() if decoder is None else decoder
        # Until the outcome is known.
        self._passing: Passing | None = None
        self._piece = ""
        self._header: Mapping[str, object] = {}
        # As of the moment at which nothing more was wanted that could be reached, and as of the end.
        self._looked: Outcome | None = None
        self._ended: Outcome | None = None
        self.new_region("front", CaptureRegion(0, FRONT_BYTES))

    @classmethod
    def matches_front(cls, front: bytes) -> bool:
        """Whether the object's first bytes begin a stream."""
        return cls.DECODER.begins(front)

    @property
    def format_match(self) -> bool:
        """Whether the object begins as a stream does."""
        return self.matches_front(self.region("front").data)

    @property
    def holds_much(self) -> bool:
        """Whether it is being decompressed, which takes up to `MAX_WINDOW` bytes of memory."""
        return self._outcome is None

    def post_process(self) -> None:
        """Decompress the next piece, once it is here."""
        if not self.filled("front") or not self.format_match:
            return
        if self._passing is None and self._outcome is None:
            self._begin()
        while self._outcome is None and self.filled(self._piece):
            region = self.region(self._piece)
            self._decode(self.take(self._piece), last=len(region.data) < region.length)
            if self._ended is None:
                self._expect(region.offset + region.length)
        if self._outcome is not None:
            if self._passing is not None:
                self._passing.inspection.close()
            self._passing = None
            self._decoder.close()
            if self.has_region(self._piece):
                self.take(self._piece)

    def read_header(self, front: bytes) -> Mapping[str, object]:  # noqa: ARG002 - for those that have one
        """What the first stream's header says, as details, of the object's first piece.

        Raises:
            DecodingError: The header makes no sense.
        """
        return {}

    def close(self) -> None:
        """Say that nothing more is asked of it; see `FileInspector.close`."""
        super().close()
        self._decoder.close()
        if self._passing is not None:
            self._passing.inspection.close()

    # What is known

    @property
    def complete(self) -> bool:
        """Whether it was decompressed as far as it is worth it, or is nothing of this format."""
        return super().complete and (self._outcome is not None or not self.format_match)

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each region holds in memory, and what is kept of what was decompressed."""
        if self._passing is None:
            return super().context_info
        inside = self._passing.inspection.context_info
        held = {f"{MEMBER}/{name}": length for name, length in inside.items()}
        return {**super().context_info, **held, MEMBER: self._passing.held}

    def members(self) -> tuple[Member, ...]:
        """What it holds, as far as that was looked at."""
        member = self._outcome.member if self._outcome is not None else self._member(None, whole=False)
        return (member,) if member is not None else ()

    @property
    def wholeness(self) -> Wholeness:
        """Proven when the last stream was decompressed to its end."""
        return Wholeness.PROVEN if self._outcome and self._outcome.unseen is None else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """What the header says, how many streams were seen to their end, and how many bytes came out."""
        known = self._outcome
        seen = {"streams": known.streams, "decompressed_bytes": known.made} if known else {}
        return {**self._header, **seen}

    def checks(self) -> list[Finding]:
        """What is wrong with the data, and what follows them."""
        return [*self._outcome.findings] if self._outcome else []

    @property
    def _outcome(self) -> Outcome | None:
        return self._looked if self._looked is not None and self._too_long else self._ended

    # How it works

    @property
    def _too_long(self) -> bool:
        """Whether the object is known to be longer than is read of it."""
        return self._size is not None and self._size > self.inside.decompression.input

    def _begin(self) -> None:
        if self.inside.too_deep:
            self._end(
                LIMIT, found("member_limit", f"what lies in more than {MAX_DEPTH} others is not looked at")
            )
            return
        # At once with the first stream's window: to ask for more later would be to wait with this in hand.
        self._decoder.beside = min(BUFFERS, LEAST_BUFFERS + PIECES_AT_ONCE * self._longest)
        self._decoder.most_output = self.inside.decompression.output
        self._decoder.reserve(self.region("front").data)
        self._passing = Passing(self.inside.look(within_another=True))
        self._expect(0)

    @property
    def _longest(self) -> int:
        """How long the object is, if that is known, or the longest piece that is read of one."""
        return MOST_PIECE if self._size is None else min(self._size, MOST_PIECE)

    def _expect(self, at: int) -> None:
        """Declare the next piece."""
        if at > self.inside.decompression.input:
            self._end(LIMIT)
            return
        self._piece = f"piece at {at}"
        self.new_region(self._piece, CaptureRegion(at, min(max(at, LEAST_PIECE), MOST_PIECE)))

    def _decode(self, piece: bytes, *, last: bool) -> None:
        """Decompress a piece, step by step, until there is a reason to end."""
        decoder, passing = self._decoder, self._passing
        if passing is None:
            return
        try:
            if not decoder.taken:
                self._header = self.read_header(piece)
            # What begins the member is shown alone: whether that is compressed as well is known then.
            for made in decoder.decode(piece, last=last, first_step=FRONT_BYTES):
                self.inside.decompression.watch(len(made))
                passing.show(made)
                self._look(passing)
                if self._outcome is not None:
                    return
        except DecodingError as error:
            self._end(error.finding.check, error.finding)
            return
        if last or decoder.trailing_at is not None:
            passing.finish()
            self._end(None, *self._in_the_end(passing))

    def _look(self, passing: Passing) -> None:
        """Decide after a step whether there is a reason to end."""
        made, most = self._decoder.made, self.inside.decompression.output
        within = self.inside.decompression.within_another
        if within and passing.position == FRONT_BYTES and self._is_compressed(passing):
            self._end(LIMIT, self._nested())
        elif made > most:
            self._end(LIMIT, *self._excess(passing))
        elif self._looked is None and not passing.wants(most):
            self._looked = self._known(LIMIT)

    def _in_the_end(self, passing: Passing) -> Iterator[Finding]:
        """What is to be said of an object that was decompressed to its end."""
        if self._is_compressed(passing):
            yield from self._excess(passing)
        at = self._decoder.trailing_at
        if at is not None:
            yield found("trailing_data", f"{at} bytes in, unexpected data follows the {self} stream")

    def _excess(self, passing: Passing) -> Iterator[Finding]:
        """What is to be said of an object out of which too much came, or what is compressed itself."""
        made, taken = self._decoder.made, self._decoder.taken
        if made > BOMB_RATIO * taken and not holds_image(passing.inspection.matches):
            yield found(
                "decompression_bomb",
                f"{taken} bytes of {self} data become {made} bytes or more, and hold no disk image",
            )
        elif self._is_compressed(passing):
            yield self._nested()

    def _is_compressed(self, passing: Passing) -> bool:
        return any(match.LAYER is Layer.COMPRESSED for match in passing.inspection.matches)

    def _nested(self) -> Finding:
        if self.inside.decompression.within_another:
            return found("decompression_bomb", "the data are compressed three times or more")
        return found("nested_compression", f"the {self} data are compressed data again")

    def _end(self, unseen: str | None, *findings: Finding) -> None:
        self._ended = self._known(unseen, findings)

    def _known(self, unseen: str | None, findings: tuple[Finding, ...] = ()) -> Outcome:
        member = self._member(unseen, whole=unseen is None)
        return Outcome(member, self._decoder.streams, self._decoder.made, findings, unseen)

    def _member(self, unseen: str | None, *, whole: bool) -> Member | None:
        """What is known of what it holds, which is complete only if that was seen to its end."""
        if self._passing is None:
            return None
        facts = self._passing.inspection.facts()
        facts = replace(
            facts, front=facts.front[:FRONT_KEPT], complete=whole and facts.complete, unseen=unseen
        )
        return Member(MEMBER, None, self._decoder.made if whole else None, facts)


def holds_image(matches: Iterable[FileInspector]) -> bool:
    """Whether what was recognised is an image, or is compressed and holds one."""
    return any(
        match.LAYER is not Layer.COMPRESSED
        or any(member.facts.format not in {None, *COMPRESSED} for member in match.members())
        for match in matches
    )


class GzipInspector(CompressedInspector):
    """gzip, by RFC 1952: a header with a name and a time, deflated data, a checksum and a length.

    | offset | bytes | field |
    |---|---|---|
    | 0 | 3 | 1F 8B 08 |
    | 3 | 1 | bit 2: extra fields follow, u16 bytes long; then, 3: a name up to a NUL, 4: a comment |
    | 4 | 4 | time of modification, in seconds of Unix; zero: none. Little-endian, as all |
    | 10 | | what the bits say |
    """

    NAME = "gzip"
    DECODER = GzipDecoder
    EXTRA, TEXTS = 4, {"original_name": 8, "comment": 16}

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Time, name and comment."""
        header: dict[str, object] = {}
        flags, at = front[3] if len(front) > 3 else 0, 10
        if seconds := int.from_bytes(front[4:8], "little"):
            header["mtime"] = seconds
        if flags & self.EXTRA:
            at += 2 + int.from_bytes(front[at : at + 2], "little")
        for field, flag in self.TEXTS.items():
            if flags & flag:
                end = front.find(b"\0", at)
                if end < 0:
                    raise DecodingError("structure", "a name or comment in the gzip header has no end")
                header[field] = printable(front[at:end])
                at = end + 1
        return header


class XzInspector(CompressedInspector):
    """xz: streams of blocks, each with a checksum."""

    NAME = "xz"
    DECODER = XzDecoder


class ZstdInspector(CompressedInspector):
    """Zstandard: frames, which may state their content's size."""

    NAME = "zstd"
    DECODER = ZstdDecoder

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """The size that the first frame states."""
        size = ZstdDecoder.content_size(front) if front.startswith(ZstdDecoder.MAGIC) else None
        return {} if size is None else {"stated_bytes": size}


class Bzip2Inspector(CompressedInspector):
    """bzip2: streams of blocks, each with a checksum."""

    NAME = "bzip2"
    DECODER = Bzip2Decoder
