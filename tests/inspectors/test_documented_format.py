"""The format that `keyhole docs adding-a-format` uses as its example works as the page states."""

import re
from typing import Any

import pytest

from keyhole.builders import Image
from keyhole.inspectors import FileInspector, Wholeness
from tests.inspectors.laws import survives_mutations
from tests.inspectors.one_inspector import MIB, checks_of, inspected
from tests.pages import REFERENCE


@pytest.fixture(scope="module")
def inspector() -> type[FileInspector]:
    """The inspector in the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", REFERENCE["adding-a-format"], re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the code is the page's own example
    found: type[FileInspector] = names["ToyInspector"]
    return found


def toy(version: int = 1) -> Image:
    header = b"TOYD" + version.to_bytes(4, "little") + MIB.to_bytes(8, "little")
    return Image.of(16 + MIB, [(0, header)])


def test_a_whole_image_has_its_size_and_no_findings(inspector: type[FileInspector]) -> None:
    found = inspected(inspector, toy())

    assert (str(found), found.virtual_size, found.wholeness) == ("toy", MIB, Wholeness.PROVEN)
    assert found.checks() == []


def test_a_cut_is_noticed(inspector: type[FileInspector]) -> None:
    for size in (4, 15, 16, 15 + MIB):
        assert checks_of(inspector, toy().truncated(size)) == ["truncated"]


def test_an_unknown_version_is_noticed(inspector: type[FileInspector]) -> None:
    assert checks_of(inspector, toy(version=2)) == ["unknown_features"]


def test_it_raises_nothing_but_the_errors_of_formats(inspector: type[FileInspector]) -> None:
    survives_mutations(inspector, [toy()])
