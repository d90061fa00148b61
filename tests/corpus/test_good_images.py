"""Good images that many tools make are safe, or rejected for the reason that their recipe states."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.scan.settings import ScanSettings
from tests.corpus import archives, discs, disks, packed, parts, qemu, volumes
from tests.corpus.pending import PENDING
from tests.corpus.recipe import IMAGE, Recipe
from tests.tools import completed, need

ALL = (*qemu.RECIPES, *disks.RECIPES, *discs.RECIPES, *volumes.RECIPES, *archives.RECIPES, *packed.RECIPES)
#: The default run tests one in this many recipes.
SAMPLED = 12
#: The tools that make the parts.
PARTS_TOOLS = ("sfdisk", "mke2fs", "qemu-img", "mkfs.fat")


@pytest.fixture(scope="session")
def laid_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that contains the parts."""
    for tool in PARTS_TOOLS:
        need(tool)
    folder = tmp_path_factory.mktemp("parts")
    parts.make(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder. Its files are removed right after the test, because some are large."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def _parameters() -> Iterator[object]:
    for number, recipe in enumerate(ALL):
        marks = [] if number % SAMPLED == 0 else [pytest.mark.slow]
        if recipe.name in PENDING:
            marks.append(pytest.mark.xfail(reason=PENDING[recipe.name]))
        yield pytest.param(recipe, id=recipe.name, marks=marks)


@pytest.mark.parametrize("recipe", [*_parameters()])
def test_a_good_image_is_what_its_recipe_says(recipe: Recipe, laid_parts: Path, place: Path) -> None:
    for tool in recipe.tools:
        need(tool)
    _make(recipe, laid_parts, place)
    report = scan_path(place / IMAGE, ScanSettings())
    said = ":".join((report.status, *report.reasons))
    assert said == recipe.verdict, report.findings
    assert report.format == recipe.image_format
    assert recipe.subformat in {None, report.subformat}
    assert recipe.content in {None, report.content}


def _make(recipe: Recipe, laid_parts: Path, place: Path) -> None:
    done = completed(
        ["bash", "-euo", "pipefail", "-c", recipe.script],
        place,
        {"PARTS": str(laid_parts), "TZ": "UTC", "SOURCE_DATE_EPOCH": "1700000000"},
    )
    assert done.returncode == 0, f"{recipe.name}: {done.stdout}{done.stderr}"


def test_there_are_many_images_of_many_tools() -> None:
    assert len({recipe.name for recipe in ALL}) == len(ALL) >= 200
    assert len({recipe.tools[0] for recipe in ALL}) >= 15
