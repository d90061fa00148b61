"""An object that two known readers open as different disks is never safe.

The test combines every two formats in one object wherever they fit: one over the other, in each other's free
bytes, and one after the other. If Keyhole calls an object safe, all installed readers open it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from keyhole.builders import Image
from keyhole.inspectors import Facts
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.inspectors.inspecting import facts_of
from tests.readers import parts
from tests.readers.part import Part, alone, behind, over
from tests.readers.readers import RAW, READERS, Opened, opened, pairs_that_differ, there
from tests.tools import need

#: The number of polyglots in a run that is not the full one.
SAMPLE = 100
#: If fewer polyglots are made, the parts no longer fit together.
LEAST_FITTING = 700
#: The readers' names for containers, by Keyhole's names.
CONTAINERS = {"tar": "archive", "ova": "archive", "zip": "archive"}
#: No reader except Keyhole opens these formats here: they are old, or their systems' tools are not free.
NO_READER = {"cowd", "sesparse", "sparseimage", "asif", "ewf", "bsd"}


#: Known differences: a part, the format that Keyhole reports, and the reason.
EXCEPTIONS = {
    ("btrfs", "other"): "its mark lies 64 KiB in, where guests' data lie in images of other formats",
    ("dmg", "dmg"): "what lies on the object's own bytes is taken for what the DMG holds",
}


class Polyglot(NamedTuple):
    """An object that contains two parts."""

    name: str
    image: Image
    parts: frozenset[str]

    def is_excepted(self, facts: Facts) -> bool:
        """Whether the polyglot is one of the known differences."""
        kind = facts.format if facts.format in {RAW, "iso", "dmg"} else "other"
        return any((part, kind) in EXCEPTIONS for part in self.parts)


@pytest.fixture(scope="module")
def every_part(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    """All parts whose tools are installed."""
    if os.environ.get("CI"):
        for reader in READERS:
            need(reader)
    return parts.every(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the file that the images refer to."""
    (tmp_path / parts.OUTSIDE).write_bytes(bytes(8192))
    return tmp_path


def polyglots(every: list[Part]) -> Iterator[Polyglot]:
    """Yield every two parts that fit into one object."""
    for number, first in enumerate(every):
        for second in every[number + 1 :]:
            if (image := over(first, second)) is not None:
                yield Polyglot(
                    f"{first.name} over {second.name}", image, frozenset({first.name, second.name})
                )
        for second in every:
            if (image := behind(first, second)) is not None:
                yield Polyglot(
                    f"{second.name} behind {first.name}", image, frozenset({first.name, second.name})
                )


def called_safe_wrongly(chosen: list[Polyglot], place: Path) -> list[str]:
    """Polyglots that Keyhole calls safe although two readers open different disks."""

    def ask(numbered: tuple[int, Polyglot]) -> str | None:
        number, polyglot = numbered
        facts = facts_of(polyglot.image)
        if judge(facts)[0] is not Status.SAFE or polyglot.is_excepted(facts):
            return None
        path = polyglot.image.write_to(place / str(number))
        said = [*_by_keyhole(facts), *opened(path)]
        path.unlink()
        differ = next(pairs_that_differ(said), None)
        return f"{polyglot.name}: {facts.format} to Keyhole; {differ}" if differ else None

    with ThreadPoolExecutor(2) as executor:
        return [wrong for wrong in executor.map(ask, enumerate(chosen)) if wrong]


def _by_keyhole(facts: Facts) -> Iterator[Opened]:
    """Keyhole's result as a reader's result. For compressed objects, only decompressors' results count."""
    assert facts.format is not None
    if facts.format in {RAW, "iso"} or facts.subformat == "fixed":
        yield Opened("keyhole", RAW)
    elif facts.format in CONTAINERS:
        yield Opened("keyhole", CONTAINERS[facts.format])
    elif not facts.members:
        yield Opened("keyhole", {"vhd": "vpc"}.get(facts.format, facts.format), facts.virtual_size)


@pytest.mark.slow
def test_of_a_sample_of_polyglots_none_that_readers_open_differently_is_safe(
    every_part: list[Part], place: Path
) -> None:
    every = [*polyglots(every_part)]
    chosen = Random(5).sample(every, SAMPLE)  # noqa: S311 - the same polyglots in every run
    assert called_safe_wrongly(chosen, place) == []


@pytest.mark.slow
def test_no_polyglot_that_readers_open_differently_is_safe(every_part: list[Part], place: Path) -> None:
    every = [*polyglots(every_part)]
    assert len(every) > LEAST_FITTING
    assert called_safe_wrongly(every, place) == []


@pytest.mark.slow
def test_every_part_is_a_disk_to_some_reader(every_part: list[Part], place: Path) -> None:
    if len(there()) < len(READERS):
        pytest.skip(f"not all readers are installed, only {there()}")
    unread = {
        part.name for part in every_part if not [*opened(alone(part).write_to(place / parts.OUTSIDE.upper()))]
    }
    assert unread <= NO_READER
