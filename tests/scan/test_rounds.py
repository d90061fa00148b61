"""The rounds, GETs and bytes of a scan, counted for every example image, without a server."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Inspection
from keyhole.scan.plan import merge
from keyhole.scan.settings import ScanSettings
from tests.examples import EXAMPLES, Example

KIB = 1024
MOST_GETS, MOST_ROUNDS, MOST_BYTES = 4, 2, 800 * KIB
#: The formats in which a table leads to another table, so that a third round is needed.
THREE_ROUNDS = {"vhdx", "qcow2, 2 MiB clusters", "sesparse", "sparseimage", "udf, 4 KiB blocks"}
SETTINGS = ScanSettings()


@dataclass(frozen=True)
class Cost:
    """What a scan of an image takes. A round is a set of ranges that can be fetched at once."""

    rounds: int
    gets: int
    bytes: int
    is_container: bool


def cost(image: Image) -> Cost:
    """Inspect an image as a scan does, and count."""
    inspection = Inspection()
    inspection.finish(image.size)
    inspection.feed(0, image.read(0, SETTINGS.head_bytes))
    rounds, gets, read = 1, 1, min(image.size, SETTINGS.head_bytes)
    while missing := inspection.missing():
        wanted = merge(missing, SETTINGS.gap_bytes)
        for part in wanted:
            inspection.feed(part.offset, image.read(*part))
        rounds, gets, read = rounds + 1, gets + len(wanted), read + sum(part.length for part in wanted)
    return Cost(rounds, gets, read, inspection.is_container)


def images() -> Iterator[tuple[str, Image]]:
    """Every example image."""
    for name, example in EXAMPLES.items():
        yield from ((name, image) for image in example.images)


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items(), ids=EXAMPLES)
def test_an_image_takes_few_rounds_gets_and_bytes(name: str, example: Example) -> None:
    for found in map(cost, example.images):
        if found.is_container:
            continue
        assert found.gets <= MOST_GETS, found
        assert found.rounds <= MOST_ROUNDS + any(name.startswith(one) for one in THREE_ROUNDS), found
        assert found.bytes <= MOST_BYTES, found


def test_the_mean_of_all_images_is_low() -> None:
    found = [taken for _, image in images() if not (taken := cost(image)).is_container]
    assert len(found) > 100
    assert sum(taken.gets for taken in found) / len(found) <= 2.2
    assert sum(taken.bytes for taken in found) / len(found) <= 420 * KIB
