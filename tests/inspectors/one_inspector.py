"""How tests run one inspector alone: over images, over files that tools made, by the laws of all."""

import random
import subprocess
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.inspectors import FileInspector
from tests.inspectors.test_hostile import mutated
from tests.inspectors.test_law import WAYS, Single, told_at_once
from tests.tools import environment, need

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
#: As much of an object as is fetched at once; what lies further on costs a range each.
FRONT = 256 * KIB
MOST_RANGES_BEHIND = 2
MOST_HELD = 512 * KIB

Kind = TypeVar("Kind", bound=FileInspector)


def inspected(kind: type[Kind], image: Image) -> Kind:
    """The inspector of an image once nothing is missing."""
    inspector = kind()
    run = told_at_once(Single(inspector), image)
    assert run.error is None
    return inspector


def checks_of(kind: type[FileInspector], image: Image) -> list[str]:
    """The codes of what the checks found, in their order."""
    return [finding.check for finding in inspected(kind, image).checks()]


def image_of(path: Path) -> Image:
    """A file as an image: what is not zero of it."""
    with path.open("rb") as file:
        chunks = [(at, file.read(64 * KIB)) for at in range(0, path.stat().st_size, 64 * KIB)]
    return Image.of(path.stat().st_size, [(at, chunk) for at, chunk in chunks if any(chunk)])


def run_tool(package: str, *command: str | Path, stdin: bytes = b"") -> str:
    """What a tool prints. Skipped where it is not installed; in CI a failure."""
    need(str(command[0]), package)
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment())
    assert done.returncode == 0, f"{command}: {done.stdout!r}{done.stderr!r}"
    return done.stdout.decode(errors="replace")


def keeps_the_law(kind: type[FileInspector], images: list[Image], data: st.DataObject) -> None:
    """Knows the same however the bytes came, of good images and of mutated ones."""
    image = data.draw(st.sampled_from(images))
    choose = random.Random(data.draw(st.integers(0, 2**32)))  # noqa: S311 - to choose mutations
    if data.draw(st.booleans()):
        image = mutated(image, choose)
    way = data.draw(st.sampled_from(WAYS))
    reference = told_at_once(Single(kind()), image).facts()
    assert way(Single(kind()), image, data.draw).facts() == reference


def survives_mutations(
    kind: type[FileInspector], images: list[Image], rounds: int = 150, ranges: int = MOST_RANGES_BEHIND
) -> None:
    """No exception but the format's, little held, few ranges behind the front, whatever was changed."""
    choose = random.Random(kind.NAME)  # noqa: S311 - to choose mutations, the same in every run
    for image in images:
        for _ in range(rounds):
            _exhaust(kind(), mutated(image, choose), ranges)


def _exhaust(inspector: FileInspector, image: Image, ranges: int) -> None:
    run = Single(inspector)
    run.finish(image.size)
    behind = 0
    while missing := run.missing():
        offset, length = missing[0]
        behind += offset + length > FRONT
        run.feed(offset, image.read(offset, length))
        assert sum(inspector.context_info.values()) <= MOST_HELD
    assert behind <= ranges
    assert 0 <= inspector.virtual_size < 2**64 * 4096
    findings = inspector.checks()
    assert len(findings) < 100
    assert all(len(finding.message) < 2048 for finding in findings)
    run.facts()
