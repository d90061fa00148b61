"""What an inspection costs in CPU time, by format, and what the worst of many changed images costs.

Run it from the repository's root:

    python -m tests.bench.detection                         the table
    python -m tests.bench.detection --changed 2000          with more changed images of each
    python -m tests.bench.detection --profile "vhdx, 1.0 GiB" where the time of a whole inspection goes

Detection: the object's first 256 KiB are fed, its length is told, and what matches is known. Whole: until
nothing is missing, and the facts. Both are medians. What is fed was read before, which is not measured.

Slowest: of changed images the one whose whole inspection took longest. It is measured again, and the least
time counts, so that it is the image's doing.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable
from heapq import nlargest
from random import Random
from statistics import median
from time import process_time

from humanize import naturalsize

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection
from tests.examples import EXAMPLES, NOTHING
from tests.inspectors.laws import MOST_RANGES, mutated

HEAD_BYTES = 256 * 1024
ROUNDS = 300
#: How many of the slowest changed images are measured again, and how many times each.
SUSPECTS, AGAIN = 3, 5

#: Every example image, including those with the largest possible tables.
IMAGES: dict[str, Image] = {
    f"{name}, {naturalsize(size, binary=True)}" if len(example.disks) > 1 else name: image
    for name, example in EXAMPLES.items()
    for (size, _), image in zip(example.disks, example.images, strict=True)
} | {"nothing known": NOTHING}


class Pieces:
    """An image as a scan reads it: first the head, then all that an inspection asks for."""

    def __init__(self, image: Image) -> None:
        self.size = image.size
        self.pieces = [(0, image.read(0, HEAD_BYTES))]
        inspection = self._begun()
        while missing := inspection.missing():
            assert len(self.pieces) < MOST_RANGES, missing
            self.pieces.append((missing[0].offset, image.read(*missing[0])))
            inspection.feed(*self.pieces[-1])

    def detect(self) -> list[str]:
        """The formats of the object, by its first bytes."""
        return [str(inspector) for inspector in self._begun().matches]

    def inspect(self) -> Facts:
        """All that is known of the object."""
        inspection = self._begun()
        for offset, data in self.pieces[1:]:
            inspection.missing()
            inspection.feed(offset, data)
        assert not inspection.missing()
        return inspection.facts()

    def _begun(self) -> Inspection:
        inspection = Inspection()
        inspection.feed(*self.pieces[0])
        inspection.finish(self.size)
        return inspection


def milliseconds(call: Callable[[], object]) -> float:
    """The CPU time of one call."""
    started = process_time()
    call()
    return (process_time() - started) * 1000


def usual(call: Callable[[], object]) -> float:
    """The median of many calls, in milliseconds."""
    return median(milliseconds(call) for _ in range(ROUNDS))


def slowest(image: Image, count: int) -> float:
    """The time that the slowest of this many changed images takes, in milliseconds."""
    choose = Random(count)  # noqa: S311 - to choose changes, the same in every run
    changed = [mutated(image, choose) for _ in range(count)]
    suspects = nlargest(SUSPECTS, changed, key=lambda one: milliseconds(Pieces(one).inspect))
    return max(min(milliseconds(pieces.inspect) for _ in range(AGAIN)) for pieces in map(Pieces, suspects))


def profile(pieces: Pieces) -> None:
    """Print where the time of a whole inspection goes."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(ROUNDS):
        pieces.inspect()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changed", type=int, default=300, help="how many changed images of each")
    parser.add_argument("--profile", choices=IMAGES, help="print a profile of this one instead")
    options = parser.parse_args()
    if options.profile:
        profile(Pieces(IMAGES[options.profile]))
        return
    print(f"| image | detection, ms | whole, ms | slowest of {options.changed} changed, ms |")
    print("|---|---|---|---|")
    for name, image in IMAGES.items():
        pieces = Pieces(image)
        print(
            f"| {name} | {usual(pieces.detect):.2f} | {usual(pieces.inspect):.2f} "
            f"| {slowest(image, options.changed):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
