"""The CPU time of an inspection by format, and the CPU time of the slowest of many changed images.

Run it from the repository's root:

    python -m tests.bench.detection                         the table
    python -m tests.bench.detection --changed 2000          with more changed images of each
    python -m tests.bench.detection --profile "vhdx, 1.0 GiB" where the time of a whole inspection goes

"Detection" feeds the object's first 256 KiB and its length, and ends when the format is known. "Whole"
continues until nothing is missing, and includes making the facts. Both are medians. Reading the bytes is not
included.

"Slowest" is the changed image whose whole inspection took longest. It is measured several times, and the
shortest time is shown, because other processes can only add to it.
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
#: How many of the slowest changed images are measured again, and how often each is measured.
SUSPECTS, AGAIN = 3, 5

#: Every example image, including those with the longest possible tables.
IMAGES: dict[str, Image] = {
    f"{name}, {naturalsize(size, binary=True)}" if len(example.disks) > 1 else name: image
    for name, example in EXAMPLES.items()
    for (size, _), image in zip(example.disks, example.images, strict=True)
} | {"nothing known": NOTHING}


class Pieces:
    """An image as a scan reads it: first the head, then all ranges that an inspection requests."""

    def __init__(self, image: Image) -> None:
        self.size = image.size
        self.pieces = [(0, image.read(0, HEAD_BYTES))]
        inspection = self._begun()
        while missing := inspection.missing():
            assert len(self.pieces) < MOST_RANGES, missing
            self.pieces.append((missing[0].offset, image.read(*missing[0])))
            inspection.feed(*self.pieces[-1])

    def detect(self) -> list[str]:
        """Detect the object's formats by its first bytes."""
        return [str(inspector) for inspector in self._begun().matches]

    def inspect(self) -> Facts:
        """Inspect the whole object."""
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
    """The median CPU time of many calls, in milliseconds."""
    return median(milliseconds(call) for _ in range(ROUNDS))


def slowest(image: Image, count: int) -> float:
    """The time of the slowest of this many changed images, in milliseconds."""
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
