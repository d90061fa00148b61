"""Checks the laws for one image, fed in one way. Raises if a law is broken.

- `Inspection` raises nothing, and a single inspector only `ImageFormatError`, whatever was fed before.
- The requested and the stored bytes stay few, and the inspection ends after few reads.
- Two ways of feeding that both end with nothing missing lead to the same facts.
- The facts can be written as JSON and as a report's `details`, in printable text, and can be judged.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from random import Random

from pydantic import JsonValue, TypeAdapter

from keyhole.builders import Image
from keyhole.inspectors import Facts, FileInspector, Inspection
from keyhole.inspectors.catalogue import all_inspectors
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.container import ContainerInspector
from keyhole.inspectors.formats.raw import RawDiskInspector
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.region import ByteRange
from keyhole.scan.plan import merge
from keyhole.scan.policy import judge
from keyhole.scan.scanner import MAX_ROUNDS
from keyhole.scan.settings import ScanSettings
from tests.fuzz.sparse_input import SparseInput
from tests.inspectors.feeding import Run, Single
from tests.inspectors.laws import MOST_HELD, MOST_HELD_OF_DMG, MOST_RANGES

KIB, MIB = 1024, 1024**2
KINDS = (*all_inspectors(), RawDiskInspector)
#: The settings with which a scan reads.
SCAN = ScanSettings()
DETAILS = TypeAdapter(dict[str, JsonValue])
#: The maximum number of reads. A container needs ranges for each member's header and for its inspection.
MOST_RANGES_OF_CONTAINER = 1000
#: Compressed data is read in pieces, and some of the decompressed data is stored for a while.
MOST_HELD_OF_CONTAINER = 8 * MIB
#: Limits that let a decoder reach every kind of end, but are too low for long runs.
LITTLE = Decompression(output=2 * MIB, input=256 * KIB)
#: A stream ends after this many chunks, because the stated size can be terabytes.
MOST_CHUNKS = 48
CHUNK_SIZES = (509, 4093, 16 * KIB, 64 * KIB, 100_003, MIB)

#: A step: the offset and the number of bytes to feed, or `None` to state the length.
Feeding = Iterator[tuple[int, int] | None]
Way = Callable[[Run, Image, Random], Feeding]


def check(data: bytes) -> None:
    """Check one input.

    Raises:
        Exception: The image breaks a law that must hold for every image.
    """
    given = SparseInput.decode(data)
    way = WAYS[given.steer % len(WAYS)]
    kind = KINDS[given.steer // len(WAYS) % len(KINDS)]

    facts = _known(Inspection(inside=Inside(decompression=LITTLE)), _scanned, given)
    _can_be_told(facts)
    other = _known(Inspection(inside=Inside(decompression=LITTLE)), way, given)
    assert facts == other, f"the law, {way.__name__}: {facts} is not {other}"

    alone, otherwise = _single(kind), _single(kind)
    _run(alone, _told_at_once, given)
    _run(otherwise, way, given)
    assert alone.facts() == otherwise.facts(), f"the law, {kind.__name__}, {way.__name__}"


def _single(kind: type[FileInspector]) -> Single:
    if issubclass(kind, ContainerInspector):
        return Single(kind(inside=Inside(decompression=LITTLE)))
    return Single(kind())


def _known(inspection: Inspection, way: Way, given: SparseInput) -> Facts:
    _run(inspection, way, given)
    assert inspection.complete, "nothing is missing, and yet it is not complete"
    facts = inspection.facts()
    assert facts.complete
    return facts


def _run(run: Run, way: Way, given: SparseInput) -> None:
    """Feed an image in one way, then fetch what is missing. Check the laws after each step."""
    image, choose = given.image, Random(given.seed)  # noqa: S311 - to choose what comes next
    for step in way(run, image, choose):
        if step is None:
            run.finish(image.size)
        else:
            run.feed(step[0], image.read(*step))
        _stays_small(run)
        if choose.random() < 0.1:
            _looked_at_early(run)
    run.finish(image.size)
    for number in range(MOST_RANGES_OF_CONTAINER):
        missing = run.missing()
        if not missing:
            return
        if number >= MOST_RANGES and not _is_container(run):
            break
        offset, length = choose.choice(missing)
        run.feed(offset, image.read(offset, length))
        _stays_small(run)
    raise AssertionError(f"it never has enough: {run.missing()}")


def _is_container(run: Run) -> bool:
    if isinstance(run, Inspection):
        return run.is_container
    return isinstance(run.inspector, ContainerInspector)


def _stays_small(run: Run) -> None:
    held = run.context_info if isinstance(run, Inspection) else run.inspector.context_info
    holds_plist = not {"dmg:plist", "plist"}.isdisjoint(held)
    most = MOST_HELD_OF_DMG if holds_plist else MOST_HELD
    if _is_container(run):
        most = MOST_HELD_OF_CONTAINER
    assert sum(held.values()) <= most, f"too much is held: {held}"
    wanted = run.missing()
    assert sum(length for _, length in wanted) <= most, f"too much is wanted: {wanted}"
    assert all(offset >= 0 and length > 0 for offset, length in wanted), f"impossible: {wanted}"


def _looked_at_early(run: Run) -> None:
    """Check the facts known so far. A scan reports such facts if it runs out of budget."""
    facts = run.facts()
    if isinstance(facts, Facts):
        _can_be_told(facts)


def _can_be_told(facts: Facts) -> None:
    judge(facts)
    judge(facts, "budget")
    # Some details are bytes, for the code that identifies the content. A report has no bytes.
    json.dumps(asdict(facts), allow_nan=False, ensure_ascii=False, default=bytes.hex).encode()
    DETAILS.validate_python(facts.details)
    assert facts.virtual_size is None or 0 < facts.virtual_size < 2**64 * 4096
    assert len(facts.findings) < 100
    for finding in facts.findings:
        assert len(finding.message) < 2048
        assert finding.message.isprintable(), f"on a terminal this does more than be read: {finding}"


# The ways of feeding


def _told_at_once(_run: Run, _image: Image, _choose: Random) -> Feeding:
    """The length first, then each missing range as a whole."""
    yield None


def _scanned(run: Run, _image: Image, _choose: Random) -> Feeding:
    """As a scan reads: the head, the length, then all missing ranges in as few reads as possible."""
    yield 0, SCAN.head_bytes
    yield None
    for number in range(MOST_RANGES_OF_CONTAINER):
        wanted = merge([ByteRange(*gap) for gap in run.missing()], SCAN.gap_bytes)
        if not wanted:
            return
        if number >= MAX_ROUNDS and not _is_container(run):
            break
        yield from ((part.offset, part.length) for part in wanted)
    raise AssertionError(f"a scan would give up: {run.missing()}")


def _streamed(_run: Run, image: Image, choose: Random) -> Feeding:
    """The image from front to end, or only its first part. Then the length."""
    size = choose.choice(CHUNK_SIZES)
    yield from ((at, size) for at in range(0, min(image.size, MOST_CHUNKS * size), size))


def _scattered(_run: Run, image: Image, choose: Random) -> Feeding:
    """Pieces of the image in any order, some twice. The length is stated between two of them."""
    places = [0, image.size, *(at for at, _ in image.pieces), *(choose.randrange(3 * MIB) for _ in range(4))]
    steps: list[tuple[int, int] | None] = [None]
    for _ in range(choose.randrange(1, 12)):
        start = max(0, choose.choice(places) - choose.choice([0, 1, 512, 4096]))
        steps.append((start, choose.choice([1, 63, 512, 600, 4096, 64 * KIB, MIB])))
    choose.shuffle(steps)
    yield from steps


def _crumbled(run: Run, image: Image, choose: Random) -> Feeding:
    """One part of a missing range at a time, from its end or its middle, with the bytes around it."""
    if choose.random() < 0.5:
        yield None
    for number in range(MOST_CHUNKS):
        missing = run.missing()
        if not missing:
            return
        offset, length = missing[number % len(missing)]
        part = max(1, length // choose.randrange(1, 4))
        start = max(0, offset + length - part - choose.randrange(20))
        yield start, part + 40
        if start >= image.size:
            yield None


WAYS: tuple[Way, ...] = (_scanned, _streamed, _scattered, _crumbled)
