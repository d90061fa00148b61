"""A closed inspection leaves no reference cycles, in which Python would keep the bytes of its regions."""

import gc
from collections.abc import Iterator

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Inspection
from keyhole.inspectors.base import OWN_ATTRIBUTES, FileInspector
from keyhole.scan.settings import ScanSettings
from tests.examples import EXAMPLES, NOTHING

SETTINGS = ScanSettings()
#: Some exceptions and decoders still refer to each other, with a few short texts.
MOST_BYTES = 4096


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    """Let only the test collect garbage, and keep what it collects."""
    gc.collect()
    gc.freeze()  # the objects of all other tests, so that a collection takes microseconds
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.unfreeze()


def inspected(image: Image) -> None:
    """Inspect an image as a scan does, and close the inspection."""
    inspection = Inspection()
    inspection.finish(image.size)
    inspection.feed(0, image.read(0, SETTINGS.head_bytes))
    while missing := inspection.missing():
        for part in missing:
            inspection.feed(part.offset, image.read(*part))
    inspection.facts()
    inspection.close()


def garbage_bytes() -> int:
    """Return how many bytes of the image unreachable objects hold."""
    gc.collect()
    found = {
        id(held): len(held)
        for one in gc.garbage
        for held in gc.get_referents(one)
        if isinstance(held, bytes | bytearray)
    }
    gc.garbage.clear()
    return sum(found.values())


@pytest.mark.usefixtures("collected_by_hand")
def test_no_bytes_stay_in_memory() -> None:
    left = {}
    images = {name: next(iter(example.images)) for name, example in EXAMPLES.items()}
    for name, image in {**images, "nothing": NOTHING}.items():
        inspected(image)
        left[name] = garbage_bytes()

    assert {name: length for name, length in left.items() if length > MOST_BYTES} == {}


def test_the_attributes_that_stay_are_those_of_the_base_class() -> None:
    assert vars(FileInspector()).keys() == OWN_ATTRIBUTES - {"thorough"}
