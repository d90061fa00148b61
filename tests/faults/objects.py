"""The images of the storms: small, quick to scan, with every kind of verdict, each with another ETag."""

from functools import cache
from hashlib import md5
from typing import NamedTuple

from keyhole.builders import Image
from keyhole.demo.samples import MIB, SAMPLES

BUCKET = "storms"
#: The maximum size in bytes. One fault sends the whole object, and longer objects would load the server too
#: much.
LONGEST = 17 * MIB
#: Samples that are left out: each takes 0.1 s of CPU time, which adds nothing to a test of faults.
LEFT_OUT = {"uploads/bomb.raw.gz", "images/compute-engine.tar.gz"}


class Stock(NamedTuple):
    """An image, its number among the demo's samples, and its ETag without quotes."""

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
    """The key of an object. It has no suffix, so that the key does not affect the verdict."""
    return f"objects/{number:07}"


def number_of(key: str) -> int:
    """The number of an object with this key."""
    return int(key.removeprefix("objects/"))


def _etag(image: Image) -> str:
    digest = md5(usedforsecurity=False)
    for start in range(0, image.size, MIB):
        digest.update(image.read(start, MIB))
    return digest.hexdigest()
