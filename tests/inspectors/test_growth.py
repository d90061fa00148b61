"""A hostile object that is twice as long needs at most about twice the work, counted in calls."""

import sys
from itertools import count
from types import FrameType

import pytest

from keyhole.builders import (
    Image,
)
from keyhole.inspectors import Inspection
from tests.inspectors.many import MANY
from tests.slow import slow

MIB, GIB = 1024**2, 1024**3
#: The number of parts in the shorter object. The longer one has twice as many.
FEW = 300
#: The number of bytes in each read.
READ = 64 * 1024
#: A little more than twice, because sorting takes more than linear time.
MOST = 2.4


def calls_for(image: Image) -> int:
    """Return how many functions and methods are called to inspect an image."""
    calls = count()

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            next(calls)

    sys.setprofile(called)
    try:
        _inspect(image)
    finally:
        sys.setprofile(None)
    return next(calls)


def _inspect(image: Image) -> None:
    """Read missing ranges and the bytes after them, as a scan does."""
    inspection = Inspection()
    inspection.finish(image.size)
    while missing := inspection.missing():
        offset, length = missing[0]
        inspection.feed(offset, image.read(offset, max(length, READ)))
    inspection.facts()


@pytest.mark.slow
@pytest.mark.parametrize("name", [slow(name) if number % 3 else name for number, name in enumerate(MANY)])
def test_twice_as_much_takes_twice_the_work(name: str) -> None:
    few, many = (calls_for(MANY[name](number)) for number in (FEW, 2 * FEW))
    assert many <= MOST * few, f"{few} calls, and of twice as many {many}"
