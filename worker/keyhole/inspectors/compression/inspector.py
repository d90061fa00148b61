"""The base class of inspectors of compressed objects, whose decompressed data are inspected as one member.

The inspector reads the object in pieces, from its beginning. Each piece is as long as all previous pieces
together, up to `MOST_PIECE`. The inspector decompresses the pieces and passes the output to the member's
inspection. It stops as soon as one of these conditions is true:

- The object has ended.
- The output or the input has reached its limit (`Decompression`).
- The member's inspection needs no more bytes, and the object is known to be longer than the limit on input.
  Keyhole cannot decompress such an object to its end.
- The data are corrupt or a decompression bomb (see `limits`).

The sizes in the object's header, index or trailer are not trusted, so the member's size is known only after
the object was decompressed to its end.

The object's length can be unknown at first: the caller sets it before or after decompression begins. So if
the member's inspection needs no more bytes while the length is unknown, the inspector stores the member's
result and continues to decompress. The caller can then set a length that exceeds the limit on input. In this
case the inspector reports the stored result: if it had known the length, it would have stopped at that point.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.compression.decoder import Decoder, DecodingError
from keyhole.inspectors.compression.limits import BOMB_RATIO, LEAST_PIECE, MIB, MOST_PIECE
from keyhole.inspectors.compression.replay import Replay
from keyhole.inspectors.container import FRONT_BYTES as FRONT_KEPT
from keyhole.inspectors.container import ContainerInspector
from keyhole.inspectors.facts import DECOMPRESSION_LIMIT, Member, Wholeness
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.inside import MAX_DEPTH, Inside
from keyhole.inspectors.region import CaptureRegion

FRONT_BYTES = 512
#: Besides the decoder's window, decompression needs buffers. Each piece of compressed data is in memory twice
#: (`PIECES_AT_ONCE`): in S3's response and in the inspector. `LEAST_BUFFERS` is the number of bytes for
#: everything else: one step of output, the output that `Replay` stores, and the member's inspection.
PIECES_AT_ONCE, LEAST_BUFFERS = 2, 4 * MIB
BUFFERS = LEAST_BUFFERS + PIECES_AT_ONCE * MOST_PIECE
#: The formats of compressed objects. If the member has one of these formats, the data are compressed twice.
COMPRESSED = frozenset({"gzip", "xz", "zstd", "bzip2", "lz4", "lzma"})
#: The name of the member in reports. Keyhole does not use the file name that some compressed formats store.
MEMBER = "content"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of decompression.

    `streams` is the number of streams that were decoded to their end, and `made` the number of output bytes.
    `unseen` states why a part of the member was not inspected; see `Facts`.
    """

    member: Member | None
    streams: int
    made: int
    findings: tuple[Finding, ...]
    unseen: str | None


class CompressedInspector(ContainerInspector):
    """The inspector of a compressed object, which has one member."""

    LAYER = Layer.COMPRESSED
    DECODER: ClassVar[type[Decoder]]
    #: The inspector reserves memory for its regions as a part of `BUFFERS`, so the base class reserves no
    #: memory.
    MADE_OF_REGION = 0

    def __init__(
        self, tracing: bool = False, inside: Inside | None = None, decoder: Decoder | None = None
    ) -> None:
        super().__init__(tracing, inside)
        self._decoder = self.DECODER() if decoder is None else decoder
        # Not `None` while the object is being decompressed.
        self._replay: Replay | None = None
        self._piece = ""
        self._header: Mapping[str, object] = {}
        # `_looked` is the outcome at the moment when the member's inspection first needed no more bytes.
        # `_ended` is the outcome when decompression ended.
        self._looked: Outcome | None = None
        self._ended: Outcome | None = None
        self.new_region("front", CaptureRegion(0, FRONT_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether the object begins with a stream of this format."""
        return cls.DECODER.begins(prefix)

    @property
    def format_match(self) -> bool:
        """Whether the object begins with a stream of this format."""
        return self.matches_prefix(self.region("front").data)

    @property
    def holds_much(self) -> bool:
        """True until decompression has ended.

        Decompression takes up to `MAX_WINDOW + BUFFERS` bytes of memory.
        """
        return self._outcome is None

    def post_process(self) -> None:
        """Decompress the next piece once it has arrived."""
        if not self.filled("front") or not self.format_match:
            return
        if self._replay is None and self._outcome is None:
            self._begin()
        while self._outcome is None and self.filled(self._piece):
            region = self.region(self._piece)
            self._decode(self.take(self._piece), last=len(region.data) < region.length)
            if self._ended is None:
                self._expect(region.offset + region.length)
        if self._outcome is not None:
            if self._replay is not None:
                self._replay.inspection.close()
            self._replay = None
            self._decoder.close()
            if self.has_region(self._piece):
                self.take(self._piece)

    def read_header(self, front: bytes) -> Mapping[str, object]:  # noqa: ARG002 - subclasses use it
        """Return details from the first stream's header. `front` is the object's first piece.

        Raises:
            DecodingError: The header is malformed.
        """
        return {}

    def close(self) -> None:
        """Release the reserved memory; see `FileInspector.close`."""
        self._decoder.close()
        if self._replay is not None:
            self._replay.inspection.close()
        super().close()

    # Facts

    @property
    def complete(self) -> bool:
        """Whether decompression has ended, or the object does not have this format."""
        return super().complete and (self._outcome is not None or not self.format_match)

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes of each region are in memory, including the member's regions and the kept output."""
        if self._replay is None:
            return super().context_info
        inside = self._replay.inspection.context_info
        held = {f"{MEMBER}/{name}": length for name, length in inside.items()}
        return {**super().context_info, **held, MEMBER: self._replay.held}

    def members(self) -> tuple[Member, ...]:
        """Return the member, if its inspection has begun."""
        member = self._outcome.member if self._outcome is not None else self._member(None, whole=False)
        return (member,) if member is not None else ()

    @property
    def wholeness(self) -> Wholeness:
        """The wholeness of the compressed object: proven if it was decompressed to its end."""
        return Wholeness.PROVEN if self._outcome and self._outcome.unseen is None else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """Return details from the header, the number of complete streams, and the number of output bytes."""
        known = self._outcome
        seen = {"streams": known.streams, "decompressed_bytes": known.made} if known else {}
        return {**self._header, **seen}

    def checks(self) -> list[Finding]:
        """Return findings on the compressed data and on trailing data."""
        return [*self._outcome.findings] if self._outcome else []

    @property
    def _outcome(self) -> Outcome | None:
        return self._looked if self._looked is not None and self._too_long else self._ended

    # Internals

    @property
    def _too_long(self) -> bool:
        """Whether the object's length is known and exceeds the limit on input."""
        return self._size is not None and self._size > self.inside.decompression.input

    def _begin(self) -> None:
        if self.inside.too_deep:
            self._end(
                DECOMPRESSION_LIMIT,
                found(
                    "member_limit",
                    f"Keyhole does not inspect more than {MAX_DEPTH} containers inside each other",
                ),
            )
            return
        # Reserve the window and the buffers in one step. If the window were reserved later, the inspection
        # could wait for memory while it holds memory, and two such inspections could block each other.
        self._decoder.beside = min(BUFFERS, LEAST_BUFFERS + PIECES_AT_ONCE * self._longest)
        self._decoder.most_output = self.inside.decompression.output
        self._decoder.reserve(self.region("front").data)
        self._replay = Replay(self.inside.look(within_another=True))
        self._expect(0)

    @property
    def _longest(self) -> int:
        """The length in bytes of the longest piece that will be read."""
        return MOST_PIECE if self._size is None else min(self._size, MOST_PIECE)

    def _expect(self, at: int) -> None:
        """Declare a region for the piece at `at`, or end decompression if the limit on input is reached."""
        if at > self.inside.decompression.input:
            self._end(DECOMPRESSION_LIMIT)
            return
        self._piece = f"piece at {at}"
        self.new_region(self._piece, CaptureRegion(at, min(max(at, LEAST_PIECE), MOST_PIECE)))

    def _decode(self, piece: bytes, *, last: bool) -> None:
        """Decompress a piece in steps, until the piece ends or decompression must end."""
        decoder, replay = self._decoder, self._replay
        if replay is None:
            return
        try:
            if not decoder.taken:
                self._header = self.read_header(piece)
            # The first step of output is short. Its bytes show whether the member is compressed data. If so,
            # the rest of the output is not needed.
            for made in decoder.decode(piece, last=last, first_step=FRONT_BYTES):
                self.inside.decompression.watch(len(made))
                replay.show(made)
                self._look(replay)
                if self._outcome is not None:
                    return
        except DecodingError as error:
            self._end(error.finding.check, error.finding)
            return
        if last or decoder.trailing_at is not None:
            replay.finish()
            self._end(None, *self._in_the_end(replay))

    def _look(self, replay: Replay) -> None:
        """Decide after a step of output whether decompression must end."""
        made, most = self._decoder.made, self.inside.decompression.output
        within = self.inside.decompression.within_another
        if within and replay.position == FRONT_BYTES and self._is_compressed(replay):
            self._end(DECOMPRESSION_LIMIT, self._nested())
        elif made > most:
            self._end(DECOMPRESSION_LIMIT, *self._excess(replay))
        elif self._looked is None and not replay.wants(most):
            self._looked = self._known(DECOMPRESSION_LIMIT)

    def _in_the_end(self, replay: Replay) -> Iterator[Finding]:
        """Yield the findings on an object that was decompressed to its end."""
        if self._is_compressed(replay):
            yield from self._excess(replay)
        at = self._decoder.trailing_at
        if at is not None:
            yield found("trailing_data", f"{at} bytes in, unexpected data follows the {self} stream")

    def _excess(self, replay: Replay) -> Iterator[Finding]:
        """Yield the finding on output that exceeds the limit, or on output that is itself compressed data."""
        made, taken = self._decoder.made, self._decoder.taken
        if made > BOMB_RATIO * taken and not holds_image(replay.inspection.matches):
            yield found(
                "decompression_bomb",
                f"{taken} bytes of {self} data expand to {made} bytes or more and contain no disk image",
            )
        elif self._is_compressed(replay):
            yield self._nested()

    def _is_compressed(self, replay: Replay) -> bool:
        return any(match.LAYER is Layer.COMPRESSED for match in replay.inspection.matches)

    def _nested(self) -> Finding:
        if self.inside.decompression.within_another:
            return found("decompression_bomb", "the data are compressed three times or more")
        return found("nested_compression", f"the {self} data contain data that are also compressed")

    def _end(self, unseen: str | None, *findings: Finding) -> None:
        self._ended = self._known(unseen, findings)

    def _known(self, unseen: str | None, findings: tuple[Finding, ...] = ()) -> Outcome:
        member = self._member(unseen, whole=unseen is None)
        return Outcome(member, self._decoder.streams, self._decoder.made, findings, unseen)

    def _member(self, unseen: str | None, *, whole: bool) -> Member | None:
        """Return the member, whose facts are complete only if the object was decompressed to its end."""
        if self._replay is None:
            return None
        facts = self._replay.inspection.facts()
        facts = replace(
            facts,
            first_bytes=facts.first_bytes[:FRONT_KEPT],
            complete=whole and facts.complete,
            unseen=unseen,
        )
        return Member(MEMBER, None, self._decoder.made if whole else None, facts)


def holds_image(matches: Iterable[FileInspector]) -> bool:
    """Return whether data with these recognised formats contain an image.

    A compressed format is taken into account only if the decompressed content has the format of an image.
    """
    return any(
        match.LAYER is not Layer.COMPRESSED
        or any(member.facts.format not in {None, *COMPRESSED} for member in match.members())
        for match in matches
    )
