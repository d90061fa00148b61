"""The images of the storms: small, quick to scan, of every kind of verdict, and told apart by their ETags."""

from functools import cache
from hashlib import md5
from typing import NamedTuple

from keyhole.builders import Image
from keyhole.demo.samples import MIB, SAMPLES

BUCKET = "storms"
#: Longer objects would cost the server more than the fault is worth that sends them whole.
LONGEST = 17 * MIB
#: These take a tenth of a second of CPU each, which says nothing about faults.
LEFT_OUT = {"uploads/bomb.raw.gz", "images/compute-engine.tar.gz"}


class Stock(NamedTuple):
    """An image, where it comes from in the demo, and its ETag without quotes."""

    name: str
    image: Image
    etag: str


@cache
def stocks() -> tuple[Stock, ...]:
    """All images, in the same order in every process."""
    found = []
    for sample in SAMPLES:
        if sample.key in LEFT_OUT:
            continue
        image = sample.build()
        if image.size <= LONGEST:
            found.append(Stock(sample.key, image, _etag(image)))
    return tuple(found)


def key_of(number: int) -> str:
    """The key of an object: without a suffix, so that the same bytes have the same verdict under each."""
    return f"objects/{number:07}"


def number_of(key: str) -> int:
    """The number of an object, from its key."""
    return int(key.removeprefix("objects/"))


def _etag(image: Image) -> str:
    digest = md5(usedforsecurity=False)
    for start in range(0, image.size, MIB):
        digest.update(image.read(start, MIB))
    return digest.hexdigest()
