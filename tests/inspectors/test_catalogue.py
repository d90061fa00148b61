"""The rows of the catalogue agree with their inspectors, which are imported when an object needs them."""

import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import qcow2
from keyhole.inspectors.base import Layer
from keyhole.inspectors.catalogue import (
    BY_PREFIX,
    CONTAINERS,
    FORMATS,
    FRONT_BYTES,
    Format,
    Kind,
    KnownBy,
    all_inspectors,
    get_inspector,
)
from tests.examples import EXAMPLES

#: The modules of formats that every inspection needs: their marks can be at the end or behind the front.
ALWAYS = {row.home.partition(":")[0] for row in FORMATS if row.known_by != KnownBy.PREFIX}
#: Inspects the bytes on standard input, and prints the imported inspectors.
RUN = """
import sys
from keyhole.inspectors import Inspection
inspection = Inspection()
inspection.eat_chunk(sys.stdin.buffer.read())
inspection.finish()
print(inspection.facts().format, *sys.modules)
"""


@cache
def example_fronts() -> list[bytes]:
    """The front of each example, and the end record of a ZIP archive without members."""
    images = [image for one in EXAMPLES.values() for image in one.images]
    return [
        *(image.read(0, min(FRONT_BYTES, image.size)) for image in images),
        b"PK\5\6".ljust(22, b"\0"),
    ]


@st.composite
def fronts(draw: st.DrawFn) -> bytes:
    """The first bytes of images of all formats, some with a few changed bytes or cut off."""
    front = bytearray(draw(st.sampled_from(example_fronts())))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(front)))
        front[at : at + 1] = draw(st.binary(max_size=1))
    return bytes(front[: draw(st.integers(0, FRONT_BYTES))])


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.home)
def test_a_row_describes_its_inspector(row: Format) -> None:
    kind = row.inspector

    assert row.name == kind.NAME
    assert (row.kind is not Kind.IMAGE) == kind.IS_CONTAINER
    assert (kind.LAYER is Layer.COMPRESSED) == (row.kind is Kind.COMPRESSED)
    assert bool(row.begins) == (KnownBy.PREFIX in row.known_by)


@pytest.mark.parametrize("row", [*BY_PREFIX, *CONTAINERS], ids=lambda row: row.home)
def test_a_row_recognises_the_first_bytes_that_its_inspector_recognises(row: Format) -> None:
    recognised = [front for front in example_fronts() if row.inspector.matches_prefix(front)]

    assert recognised
    assert [front for front in example_fronts() if row.matches_prefix(front)] == recognised


@given(fronts())
def test_a_row_never_overlooks_first_bytes_that_its_inspector_recognises(front: bytes) -> None:
    for row in (*BY_PREFIX, *CONTAINERS):
        assert row.matches_prefix(front) == row.inspector.matches_prefix(front), row.home


def test_each_way_in_which_a_format_begins_is_one_of_its_inspectors() -> None:
    """No entry of `begins` is misspelt: an example of the row begins like this."""
    for row in FORMATS:
        for text in row.begins if isinstance(row.begins, tuple) else ():
            assert any(
                row.inspector.matches_prefix(front) for front in example_fronts() if front.startswith(text)
            ), text


def test_an_inspector_is_found_by_each_name_of_its_format() -> None:
    assert get_inspector("nothing") is None
    assert [get_inspector("ova"), get_inspector("tar")] == [get_inspector("tar")] * 2
    # Several inspectors share the name `vmdk`. The first one decides.
    assert get_inspector("vmdk") is next(row.inspector for row in FORMATS if row.name == "vmdk")
    assert {get_inspector(row.name) for row in FORMATS} <= set(all_inspectors())


@pytest.mark.parametrize(
    ("data", "name", "home"),
    [
        (qcow2(1 << 20).to_bytes(), "qcow2", {"formats.qcow2.inspector"}),
        (bytes(4096), "None", set()),
        (b"some text\n" * 100, "None", set()),
    ],
    ids=["qcow2", "zeros", "text"],
)
def test_an_inspection_imports_only_the_inspectors_that_can_match(
    data: bytes, name: str, home: set[str]
) -> None:
    done = subprocess.run([sys.executable, "-c", RUN], input=data, capture_output=True, check=True)
    found, *modules = done.stdout.decode().split()

    homes = {row.home.partition(":")[0] for row in FORMATS}
    imported = {module.removeprefix("keyhole.inspectors.") for module in modules}
    assert found == name
    assert imported & homes == ALWAYS | home
    # These libraries unpack and parse what only containers hold.
    assert set(modules).isdisjoint({"ssl", "xml.sax", "lz4", "backports.zstd", "lzma", "bz2"})
