"""The fuzzer's first inputs: an image of every format and variant that Keyhole's builders make.

`python -m tests.fuzz.corpus FOLDER` writes them as files, named after the images.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from keyhole.builders import Image
from tests.examples import EXAMPLES, NOTHING, is_small
from tests.fuzz.sparse_input import SparseInput

#: The longest input in bytes. Longer inputs slow the fuzzer down and find little more.
MAX_INPUT = 32 * 1024
REGRESSIONS = Path(__file__).parent / "regressions"


@cache
def seeds() -> dict[str, SparseInput]:
    """Return an input for each image, by its name, except for images with too much data."""
    inputs = {name: SparseInput(image, steer=number % 256) for number, (name, image) in enumerate(_images())}
    return {name: one for name, one in inputs.items() if len(one.encode()) <= MAX_INPUT}


def regressions() -> dict[str, bytes]:
    """Return inputs that failed in the past, by their names."""
    return {path.name: path.read_bytes() for path in sorted(REGRESSIONS.glob("*")) if path.is_file()}


def write(folder: Path) -> None:
    """Write the seeds into a folder, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in seeds().items():
        (folder / re.sub(r"\W+", "-", name)).write_bytes(one.encode())


def _images() -> Iterator[tuple[str, Image]]:
    yield "nothing", NOTHING
    for name, example in EXAMPLES.items():
        for number, image in enumerate(example.images):
            if is_small(image):
                yield f"{name} {number}", image


if __name__ == "__main__":
    write(Path(sys.argv[1]))
