"""If all maps are read, the first law is true, no image breaks an inspector, and memory is limited."""

import random

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.base import THOROUGH_BYTES
from keyhole.inspectors.inside import Inside
from tests.examples import EXAMPLES
from tests.inspectors.laws import mutated

GIB = 1024**3
MUTATIONS = 60
#: The size of a disk for examples that have other or more maps if the disk is larger.
LARGER = {
    **dict.fromkeys(["qcow2, snapshots", "qcow2, extended L2"], 4 * GIB),
    **dict.fromkeys(["vmdk sparse", "vmdk stream"], 3 * GIB),
    "vhd dynamic": GIB,
}


def known(image: Image, which: int) -> Facts:
    """The facts if always the first (0) or the last (-1) missing range is fetched."""
    inspection = Inspection(inside=Inside(thorough=True))
    inspection.finish(image.size)
    for _ in range(3000):
        missing = inspection.missing()
        if not missing:
            return inspection.facts()
        offset, length = missing[which]
        inspection.feed(offset, image.read(offset, length))
        assert sum(inspection.context_info.values()) <= 3 * THOROUGH_BYTES
    raise AssertionError(f"it never has enough: {inspection.missing()[:3]}")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_order_of_the_bytes_makes_no_difference(name: str) -> None:
    example = EXAMPLES[name]
    larger = [example.build(LARGER[name], 3)] if name in LARGER else []
    choose = random.Random(name)  # noqa: S311 - to choose mutations, the same in every run
    for image in (example.image, *larger):
        assert known(image, 0) == known(image, -1)
        for number in range(MUTATIONS):
            changed = mutated(image, choose)
            assert known(changed, 0) == known(changed, -1), number
