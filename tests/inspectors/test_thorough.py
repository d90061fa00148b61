"""Where all maps are read: the law holds, no image breaks an inspector, and what is held is bounded."""

import random

import pytest

from keyhole.builders import Image, qcow2, vhd_dynamic, vmdk_sparse, vmdk_stream_optimized
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.base import THOROUGH_BYTES
from keyhole.inspectors.inside import Inside
from tests.inspectors.test_hostile import mutated
from tests.inspectors.test_law import IMAGES

GIB = 1024**3
LARGER = {
    "qcow2 with snapshots": qcow2(4 * GIB, allocated=3, snapshots=2),
    "qcow2 extended": qcow2(4 * GIB, incompatible=1 << 4, allocated=3),
    "vmdk 3 GiB": vmdk_sparse(3 * GIB, allocated=3),
    "vmdk stream 3 GiB": vmdk_stream_optimized(3 * GIB, allocated=3),
    "vhd 1 GiB": vhd_dynamic(GIB, allocated=3),
}


def known(image: Image, which: int) -> Facts:
    """What is known at last, if always the first or the last of what is missing is fetched."""
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
@pytest.mark.parametrize("mutations", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*IMAGES, *LARGER])
def test_the_order_of_the_bytes_makes_no_difference(name: str, mutations: int) -> None:
    image = {**IMAGES, **LARGER}[name]
    choose = random.Random(name)  # noqa: S311 - to choose mutations, the same in every run
    assert known(image, 0) == known(image, -1)
    for _ in range(mutations):
        changed = mutated(image, choose)
        assert known(changed, 0) == known(changed, -1)
