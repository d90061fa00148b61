"""A hostile object that is twice as long needs at most about twice the work, counted in calls."""

from functools import partial

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Inspection
from tests.counted import calls_for
from tests.inspectors.many import MANY
from tests.slow import slow

MIB, GIB = 1024**2, 1024**3
#: The number of parts in the shorter object. The longer one has twice as many.
FEW = 300
#: The number of bytes in each read.
READ = 64 * 1024
#: A little more than twice, because sorting takes more than linear time.
MOST = 2.4


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
    few, many = (calls_for(partial(_inspect, MANY[name](number))) for number in (FEW, 2 * FEW))
    assert many <= MOST * few, f"{few} calls, and of twice as many {many}"
