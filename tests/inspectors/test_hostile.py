"""Hostile bytes: no exception but `ImageFormatError`, bounded memory, bounded wants."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.inspectors import FileInspector, ImageFormatError, Inspection, get_inspector
from keyhole.inspectors.formats.dmg_map import MAX_PLIST_BYTES
from tests.inspectors.test_law import IMAGES
from tests.slow import slow

KIB, MIB = 1024, 1024**2
#: All inspectors together; a VMDK's descriptor and grain tables are most of it.
MOST_HELD = 2 * MIB
#: A DMG's property list is held while its block map is read; without the map nothing tells its size.
MOST_HELD_OF_DMG = MOST_HELD + MAX_PLIST_BYTES
MOST_RANGES = 40
NAMES = ["qcow2", "vhd", "vhdx", "vmdk", "vdi"]
INTERESTING = [
    b"\xff" * 8,
    b"\xff" * 4,
    bytes(8),
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(7),
    (1).to_bytes(8, "little"),
]


def mutated(image: Image, choose: random.Random) -> Image:
    """A good image with a few bytes of its structures changed, and perhaps its end cut off."""
    places = [at for at, data in image.pieces for _ in range(1 + len(data) // 4096)]
    for _ in range(choose.randrange(1, 6)):
        at = choose.choice(places) + choose.choice([choose.randrange(128), choose.randrange(4096)])
        change = choose.choice([*INTERESTING, choose.randbytes(1), choose.randbytes(4)])
        if at + len(change) <= image.size:
            image = image.patched(at, change)
    return image.truncated(choose.randrange(image.size)) if choose.random() < 0.2 else image


def most_held(inspection: Inspection) -> int:
    """How many bytes an inspection may hold."""
    return MOST_HELD_OF_DMG if "dmg:plist" in inspection.context_info else MOST_HELD


def exhaust(image: Image) -> Inspection:
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


@pytest.mark.parametrize("mutations", [50, slow(2000)])
@pytest.mark.parametrize("name", [name for name in IMAGES if name != "nothing"])
def test_a_mutated_image_never_breaks_an_inspection(name: str, mutations: int) -> None:
    choose = random.Random(name)  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(mutations):
        facts = exhaust(mutated(IMAGES[name], choose)).facts()
        assert facts.virtual_size is None or 0 < facts.virtual_size < 2**64 * 4096
        assert len(facts.findings) < 100
        assert all(len(finding.message) < 2048 for finding in facts.findings)


@given(st.binary(max_size=3000), st.sampled_from(NAMES), st.integers(1, 4000))
def test_random_bytes_with_any_magic_raise_nothing_but_the_formats_error(
    noise: bytes, name: str, chunk_size: int
) -> None:
    magics = {
        "qcow2": b"QFI\xfb\0\0\0\3",
        "vhd": b"conectix",
        "vhdx": b"vhdxfile",
        "vmdk": b"KDMV",
        "vdi": bytes(64),
    }
    data = magics[name] + ((0xBEDA107F).to_bytes(4, "little") if name == "vdi" else b"") + noise
    kind = get_inspector(name)
    assert kind is not None
    inspector: FileInspector = kind()
    try:
        for start in range(0, len(data), chunk_size):
            inspector.eat_chunk(data[start : start + chunk_size])
        inspector.finish()
    except ImageFormatError:
        return
    assert inspector.virtual_size >= 0
    assert isinstance(inspector.checks(), list)
    assert isinstance(inspector.details(), dict)


@given(st.binary(max_size=5000))
def test_any_descriptor_can_be_read(text: bytes) -> None:
    from keyhole.inspectors.formats.vmdk.descriptor import parse

    parsed = parse(text)
    assert all(value.isprintable() for values in parsed.settings.values() for value in values)


@pytest.mark.parametrize(
    "line", [b'RW 1 FLAT "a" 0\n', b'a="b"\n', b'a=x   "y', b"RW 1 FLAT   ", b"=", b'"', b"\0", b" \t"]
)
def test_a_descriptor_of_a_mebibyte_is_read_in_linear_time(line: bytes) -> None:
    """A parser that takes quadratic time does not come back from this at all."""
    from keyhole.inspectors.formats.vmdk.descriptor import MAX_EXTENTS, MAX_VALUES, parse

    parsed = parse(line * (MIB // len(line)))
    assert len(parsed.extents) <= MAX_EXTENTS
    assert all(len(values) <= MAX_VALUES for values in parsed.settings.values())
