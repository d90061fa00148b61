"""The facts known so far can be read at any time, for every order of an image's ranges."""

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Inspection
from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.inside import Inside
from tests.examples import whole

#: Divides each range into several pieces, as a slow network does.
PIECE = 70_000
#: More pieces than are needed for an image whose tables are sampled.
MOST_PIECES = 60


@pytest.mark.parametrize("which", [0, -1], ids=["first wanted", "last wanted"])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_can_be_looked_at_after_every_piece(name: str, which: int) -> None:
    for image in whole(name):
        _look_after_every_piece(image, which, thorough=False)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, -1], ids=["first wanted", "last wanted"])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_whose_maps_are_all_read_can_be_looked_at_after_every_piece(name: str, which: int) -> None:
    for image in whole(name):
        _look_after_every_piece(image, which, thorough=True)


def _look_after_every_piece(image: Image, which: int, *, thorough: bool) -> None:
    inspection = Inspection(inside=Inside(thorough=thorough))
    inspection.finish(image.size)
    for _ in range(MOST_PIECES):
        wanted = inspection.missing()
        if not wanted:
            break
        offset, length = wanted[which]
        inspection.feed(offset, image.read(offset, min(PIECE, length)))
        assert inspection.facts().complete == (not inspection.missing())
