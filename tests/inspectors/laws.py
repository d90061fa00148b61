"""Laws for every inspector and image: the way of feeding makes no difference, and images break nothing."""

import random
from dataclasses import dataclass

from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.inspectors import FileInspector, Inspection
from keyhole.inspectors.formats.dmg_map import MAX_PLIST_BYTES
from tests.inspectors.feeding import WAYS, Single, told_at_once

KIB, MIB = 1024, 1024**2
#: The maximum number of bytes that all inspectors store together. A VMDK's descriptor and grain tables need
#: most of it.
MOST_HELD = 2 * MIB
#: The same limit for a DMG. It stores the property list while it reads the block map, which states the disk's
#: size.
MOST_HELD_OF_DMG = MOST_HELD + MAX_PLIST_BYTES
MOST_RANGES = 40
#: The bytes at an object's front that a scan fetches at once. Each later range costs a request.
FRONT = 256 * KIB
LONGEST_MESSAGE = 2048
INTERESTING = [
    b"\xff" * 8,
    b"\xff" * 4,
    bytes(8),
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(7),
    (1).to_bytes(8, "little"),
]


@dataclass(frozen=True)
class Limits:
    """The limits for one inspector and image: bytes stored, ranges fetched after the front, and findings."""

    held: int = 512 * KIB
    ranges: int = 2
    findings: int = 20


def mutated(image: Image, choose: random.Random) -> Image:
    """A good image with a few changed bytes in its structures. Sometimes its end is cut off."""
    places = [at for at, data in image.pieces for _ in range(1 + len(data) // 4096)]
    for _ in range(choose.randrange(1, 6)):
        at = choose.choice(places) + choose.choice([choose.randrange(128), choose.randrange(4096)])
        change = choose.choice([*INTERESTING, choose.randbytes(1), choose.randbytes(4)])
        if at + len(change) <= image.size:
            image = image.patched(at, change)
    return image.truncated(choose.randrange(image.size)) if choose.random() < 0.2 else image


def most_held(inspection: Inspection) -> int:
    """The maximum number of bytes that an inspection can store."""
    return MOST_HELD_OF_DMG if "dmg:plist" in inspection.context_info else MOST_HELD


def exhaust(image: Image) -> Inspection:
    """Inspect an image, and assert that the inspection stays within the limits."""
    inspection = Inspection()
    inspection.finish(image.size)
    for _ in range(MOST_RANGES):
        missing = inspection.missing()
        if not missing:
            assert inspection.complete
            return inspection
        assert sum(gap.length for gap in missing) <= most_held(inspection)
        offset, length = missing[0]
        inspection.feed(offset, image.read(offset, length))
        assert sum(inspection.context_info.values()) <= most_held(inspection)
    raise AssertionError(f"it never has enough: {inspection.missing()}")


def keeps_the_law(kind: type[FileInspector], images: list[Image], data: st.DataObject) -> None:
    """Assert that each way of feeding leads to the same facts, for good images and for mutated ones."""
    image = data.draw(st.sampled_from(images))
    choose = random.Random(data.draw(st.integers(0, 2**32)))  # noqa: S311 - to choose mutations
    if data.draw(st.booleans()):
        image = mutated(image, choose)
    way = data.draw(st.sampled_from(WAYS))
    reference = told_at_once(Single(kind()), image).facts()
    assert way(Single(kind()), image, data.draw).facts() == reference


def survives_mutations(
    kind: type[FileInspector], images: list[Image], rounds: int = 150, limits: Limits = Limits()
) -> None:
    """Assert that changed images raise only `ImageFormatError`, and stay within the limits."""
    choose = random.Random(kind.NAME)  # noqa: S311 - to choose mutations, the same in every run
    for number, image in enumerate(images):
        for turn in range(rounds):
            changed = mutated(image, choose)
            try:
                stays_small(kind(), changed, limits)
            except Exception as error:
                error.add_note(f"{kind.__name__}, image {number}, mutation {turn}")
                raise


def stays_small(inspector: FileInspector, image: Image, limits: Limits) -> None:
    """Assert that one inspector stays within the limits for an image."""
    run = Single(inspector)
    run.finish(image.size)
    behind = 0
    while missing := run.missing():
        offset, length = missing[0]
        behind += offset + length > FRONT
        run.feed(offset, image.read(offset, length))
        held = sum(inspector.context_info.values())
        assert held <= limits.held, f"{held} bytes held"
    assert behind <= limits.ranges
    assert 0 <= inspector.virtual_size < 2**64 * 4096
    findings = inspector.checks()
    assert len(findings) < limits.findings
    assert all(len(finding.message) < LONGEST_MESSAGE for finding in findings)
    run.facts()
