"""The objects that an inventory lists, page by page, in each of its formats."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyhole.intake.errors import ListingError
from keyhole.intake.listing import Listed
from tests.intake.inventory.conftest import OpenLister
from tests.intake.inventory.inventories import ALL, CHANGED, CURRENT, FORMATS, Inventories, Row
from tests.servers.recorded_moto import RecordedMoto
from tests.slow import slow

ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'

ListAll = Callable[..., list[Listed]]


@pytest.fixture(params=[FORMATS[0], *map(slow, FORMATS[1:])])
def file_format(request: pytest.FixtureRequest) -> str:
    """Each format in turn. The tests of the conversion prove that all give the same rows."""
    chosen: str = request.param
    return chosen


def keys(found: list[Listed]) -> list[str]:
    return [each.key for each in found]


def test_an_object_is_listed_with_all_that_the_inventory_says_of_it(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    changed = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = Row("a", size=1 << 40, last_modified_date=changed, e_tag="abc-2", storage_class="GLACIER")
    found = listed(inventories.write(file_format, [row]))
    assert found == [Listed("a", 1 << 40, '"abc-2"', changed, "GLACIER", version_id=None, restored=False)]


KEYS = [
    "a b+c%.img",
    "a%20b",
    "a+b",
    "a%2Bb",
    "a/b//",
    "a,b",
    'a"b',
    "a\nb",
    "caf\u00e9",
    "\N{FLOPPY DISK}",
    "k" * 1024,
]


def test_every_key_arrives_as_it_is(inventories: Inventories, listed: ListAll, file_format: str) -> None:
    assert keys(listed(inventories.write(file_format, [Row(key) for key in KEYS]))) == KEYS


@pytest.mark.parametrize("page_size", [1, 3, 1000])
def test_rows_come_in_pages_across_parts(
    inventories: Inventories, open_lister: OpenLister, file_format: str, page_size: int
) -> None:
    manifest = inventories.write(file_format, [Row("a"), Row("c"), Row("b"), Row("f")], [], [Row("e")])
    page = open_lister(manifest, page_size=page_size).page(None)
    pages = [keys(list(page.objects))]
    while page.cursor is not None:
        page = open_lister(manifest, page_size=page_size).page(page.cursor)
        pages.append(keys(list(page.objects)))
    assert [key for page in pages for key in page] == ["a", "c", "b", "f", "e"]
    assert max(map(len, pages)) <= page_size


def test_more_rows_than_a_batch_has_are_all_listed_once(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    wanted = [f"images/{number}" for number in range(10_000)]
    others = [f"other/{number}" for number in range(10_000)]
    rows = [Row(key) for both in zip(wanted, others, strict=True) for key in both]
    manifest = inventories.write(file_format, rows)
    assert keys(listed(manifest, prefix="images/", page_size=999)) == wanted


def test_what_is_said_of_nothing_is_unknown(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    row = Row("a", last_modified_date=None, e_tag=None, storage_class=None)
    assert listed(inventories.write(file_format, [row])) == [Listed("a", 1)]


def test_fields_that_were_not_configured_are_unknown(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    manifest = inventories.write(file_format, [Row("a")], columns=("Bucket", "Key", "Size"))
    assert listed(manifest) == [Listed("a", 1)]


def test_fields_may_stand_in_any_order(inventories: Inventories, listed: ListAll, file_format: str) -> None:
    manifest = inventories.write(file_format, [Row("a")], columns=CURRENT[::-1])
    assert listed(manifest) == [Listed("a", 1, ETAG, CHANGED)]


def test_rows_of_another_bucket_or_prefix_are_left_out(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    rows = [Row("a/1"), Row("a/2", bucket="other"), Row("b/3"), Row("A/4"), Row("a"), Row("a/5")]
    assert keys(listed(inventories.write(file_format, rows), prefix="a/")) == ["a/1", "a/5"]


def test_a_prefix_is_compared_with_the_key_as_it_is(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    rows = [Row("a b/1"), Row("a+b/2"), Row("a%20b/3")]
    assert keys(listed(inventories.write(file_format, rows), prefix="a b/")) == ["a b/1"]


def test_an_inventory_without_parts_is_empty(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    assert listed(inventories.write(file_format)) == []


def test_an_inventory_with_an_empty_part_is_empty(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    assert listed(inventories.write(file_format, [])) == []


# Versions

VERSIONS = [
    Row("a", version_id="2", is_latest=True),
    Row("a", version_id="1", is_latest=False),
    Row(
        "b", version_id="3", is_latest=True, is_delete_marker=True, size=None, e_tag=None, storage_class=None
    ),
    Row("b", version_id=None, is_latest=False),
    Row("c", version_id=None, is_latest=None, is_delete_marker=None),
]


def test_of_all_versions_the_current_ones_are_listed(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    found = listed(inventories.write(file_format, VERSIONS, columns=ALL))
    assert [(each.key, each.version_id) for each in found] == [("a", None), ("c", None)]


def test_of_all_versions_those_that_are_asked_for_are_listed_and_no_delete_markers(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    found = listed(inventories.write(file_format, VERSIONS, columns=ALL), versions=True)
    assert [(each.key, each.version_id) for each in found] == [
        ("a", "2"),
        ("a", "1"),
        ("b", "null"),
        ("c", "null"),
    ]


def test_versions_are_not_to_be_had_from_an_inventory_of_current_ones(
    inventories: Inventories, listed: ListAll, file_format: str
) -> None:
    manifest = inventories.write(file_format, [Row("a")])
    with pytest.raises(ListingError, match="lists only current versions"):
        listed(manifest, versions=True)


# Cursors


def test_a_page_costs_requests_once_a_part(
    inventories: Inventories, open_lister: OpenLister, recorded: RecordedMoto, file_format: str
) -> None:
    manifest = inventories.write(file_format, [Row("a"), Row("b")], [Row("c")])
    lister = open_lister(manifest, page_size=1)
    recorded.requests.clear()
    first = lister.page(None)
    assert first.requests == len(recorded.requests) == 3  # the manifest, its checksum, the part
    second = lister.page(first.cursor)
    assert second.requests == 0
    assert lister.page(second.cursor).requests == 1


def test_the_same_cursor_is_the_same_page_in_another_folder(
    inventories: Inventories, open_lister: OpenLister, folder: Path, file_format: str
) -> None:
    manifest = inventories.write(file_format, [Row(key) for key in "abcde"], [Row("f")])
    first = open_lister(manifest, page_size=2).page(None)
    second = open_lister(manifest, page_size=2).page(first.cursor)
    # When the downloaded files are gone, or another machine continues
    folder.rename(folder.with_name("elsewhere"))
    again = open_lister(manifest, page_size=2).page(first.cursor)
    assert (again.objects, again.cursor) == (second.objects, second.cursor)
    assert keys(list(again.objects)) == ["c", "d"]


def test_a_cursor_is_not_worth_anything_once_the_manifest_is_replaced(
    inventories: Inventories, open_lister: OpenLister
) -> None:
    cursor = open_lister(inventories.write("CSV", [Row("a"), Row("b")]), page_size=1).page(None).cursor
    manifest = inventories.write("CSV", [Row("c"), Row("d")])
    with pytest.raises(ListingError, match="was replaced during the audit"):
        open_lister(manifest, page_size=1).page(cursor)


@pytest.mark.parametrize(
    "cursor",
    ["", "{}", "null", '{"after": "a"}', '{"inventory": "x", "row": -1}', '{"inventory": "x", "part": "0"}'],
)
def test_a_cursor_of_something_else_is_refused(
    inventories: Inventories, open_lister: OpenLister, cursor: str
) -> None:
    manifest = inventories.write("CSV", [Row("a")])
    with pytest.raises(ValueError, match="not a cursor"):
        open_lister(manifest).page(cursor)


def test_a_cursor_behind_the_end_is_refused(inventories: Inventories, open_lister: OpenLister) -> None:
    manifest = inventories.write("CSV", [Row("a"), Row("b")])
    cursor = open_lister(manifest, page_size=1).page(None).cursor
    assert cursor
    for place in ({"part": 1}, {"row": 2}, {"row": 1 << 70}):
        behind = json.dumps(json.loads(cursor) | place)
        with pytest.raises(ValueError, match="not a cursor"):
            open_lister(manifest).page(behind)


def test_an_inventory_is_in_no_order(inventories: Inventories, open_lister: OpenLister) -> None:
    assert open_lister(inventories.write("CSV")).ordered is False


# pyarrow is an extra


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pyarrow_is_not_imported_before_an_inventory_is_read() -> None:
    assert run("import sys, keyhole.intake.inventory.lister; print('pyarrow' in sys.modules)") == "False"


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.modules["pyarrow"] = None
from keyhole.intake.inventory.lister import InventoryLister
from keyhole.intake.errors import ListingError
from keyhole.sources.s3_uri import S3Uri
try:
    InventoryLister(None, S3Uri("b", "manifest.json"), Path({str(tmp_path)!r}), bucket="b").page(None)
except ListingError as error:
    print(error)
"""
    assert run(script) == (
        "reading an S3 Inventory requires pyarrow; run "
        "`pip install -c deploy/constraints.txt '.[inventory]'` in a clone of Keyhole"
    )
