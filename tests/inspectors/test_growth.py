"""A hostile object that is twice as long takes at most about twice the work, counted in calls."""

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
#: Of each, so many at first, and then twice as many.
FEW = 300
#: As much is read at once.
READ = 64 * 1024
#: A little more than twice: what is sorted takes a little longer.
MOST = 2.4


def calls_for(image: Image) -> int:
    """How many functions and methods are called to inspect an image."""
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
    """Read what is missing, and what lies behind it, as a scan does."""
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
