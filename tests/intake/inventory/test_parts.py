"""Parts in a folder: verified before they are read, one at a time, by any number of processes."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import csv

from keyhole.intake.errors import ListingError
from keyhole.intake.inventory import download, parts
from keyhole.intake.inventory.parts import FORGOTTEN_SECONDS
from keyhole.intake.listing import Listed
from keyhole.sources.errors import UnreadableError
from tests.intake.inventory.conftest import OpenLister
from tests.intake.inventory.inventories import (
    CHANGED,
    FORMATS,
    Inventories,
    Row,
    csv_part,
    digest,
    in_orc,
    in_parquet,
)
from tests.servers.recorded_moto import RecordedMoto
from tests.slow import slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ListAll = Callable[..., list[Listed]]


def refused(call: Callable[[], object], match: str) -> ListingError:
    with pytest.raises(ListingError, match=match) as raised:
        call()
    return raised.value


def names(folder: Path) -> list[str]:
    """The suffixes of the files in a folder."""
    return sorted(path.suffix for path in folder.iterdir())


# Downloads


def test_a_part_is_downloaded_by_range_each_pinned_to_the_first(
    inventories: Inventories, listed: ListAll, recorded: RecordedMoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RANGE_BYTES", 100)
    rows = [Row(f"{number}") for number in range(20)]
    manifest = inventories.write("Parquet", rows)
    recorded.requests.clear()
    assert len(listed(manifest)) == 20
    _, _, *gets = recorded.requests
    assert len(gets) > 5
    assert [get.range for get in gets[:2]] == ["bytes=0-99", "bytes=100-199"]
    assert gets[0].if_match is None
    assert len({get.if_match for get in gets[1:]}) == 1
    assert gets[1].if_match is not None


def test_a_part_with_another_md5_is_refused(
    inventories: Inventories, listed: ListAll, s3: "S3Client"
) -> None:
    manifest = inventories.write("CSV", [Row("a")], [Row("b")])
    key = s3.list_objects_v2(Bucket=manifest.bucket)["Contents"][-1]["Key"]
    (key,) = [key for key in keys_in(s3, manifest.bucket) if "part-1" in key]
    body = bytearray(s3.get_object(Bucket=manifest.bucket, Key=key)["Body"].read())
    body[-1] ^= 1
    s3.put_object(Bucket=manifest.bucket, Key=key, Body=bytes(body))
    error = refused(lambda: listed(manifest), "does not have the MD5 that the manifest states")
    assert str(error).startswith(f"part 2 of 2 (s3://{manifest.bucket}/{key}): ")


def keys_in(s3: "S3Client", bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]


@pytest.mark.parametrize("change", [-1, 1])
def test_a_part_of_another_size_is_refused(inventories: Inventories, listed: ListAll, change: int) -> None:
    body = csv_part([Row("a")])
    file = {"key": "part", "size": len(body) + change, "MD5checksum": digest(body)}
    inventories.s3.put_object(Bucket=inventories.destination, Key="part", Body=body)
    manifest = inventories.write_parts("CSV", files=[file])
    refused(lambda: listed(manifest), f"bytes long, but the manifest states {len(body) + change}")


def test_a_missing_part_is_named(inventories: Inventories, listed: ListAll) -> None:
    file = {"key": "gone", "size": 1, "MD5checksum": "0" * 32}
    manifest = inventories.write_parts("CSV", files=[file])
    with pytest.raises(UnreadableError, match=f"s3://{manifest.bucket}/gone: the object does not exist"):
        listed(manifest)


def test_a_part_is_read_from_the_manifests_bucket_whatever_its_key_is(
    inventories: Inventories, listed: ListAll, recorded: RecordedMoto
) -> None:
    file = {"key": "../other/part?versionId=1", "size": 1, "MD5checksum": "0" * 32}
    manifest = inventories.write_parts("CSV", files=[file])
    recorded.requests.clear()
    with pytest.raises(UnreadableError):
        listed(manifest)
    assert {request.bucket for request in recorded.requests} == {manifest.bucket}
    assert recorded.requests[-1].key == file["key"]


def test_whatever_a_part_is_called_an_error_can_be_printed(inventories: Inventories, listed: ListAll) -> None:
    file = {"key": "\x1b[31m\r\nred", "size": 1, "MD5checksum": "0" * 32}
    manifest = inventories.write_parts("CSV", files=[file])
    with pytest.raises(UnreadableError) as raised:
        listed(manifest)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("file_format", [FORMATS[0], *map(slow, FORMATS[1:])])
def test_an_error_names_part_and_row(inventories: Inventories, listed: ListAll, file_format: str) -> None:
    manifest = inventories.write(file_format, [Row("a")], [Row("b"), Row("c", size=-1)])
    error = refused(lambda: listed(manifest), "Size is not a valid number of bytes")
    assert str(error).startswith(f"part 2 of 2 (s3://{manifest.bucket}/")
    assert "), row 2: Size" in str(error)


def test_a_part_for_which_there_is_no_room_is_not_downloaded(
    inventories: Inventories, listed: ListAll, recorded: RecordedMoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = inventories.write("CSV", [Row("a")])
    monkeypatch.setattr(parts, "RESERVE_BYTES", 1 << 60)
    recorded.requests.clear()
    refused(
        lambda: listed(manifest),
        r"has too little space for its \d+ bytes: \d+ bytes are free, and \d+ bytes must stay free",
    )
    assert all(request.key.rpartition("/")[2].startswith("manifest.") for request in recorded.requests)


# The folder


def test_the_folder_and_what_lies_in_it_are_for_their_owner_alone(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    open_lister(inventories.write("CSV", [Row("a"), Row("b")]), page_size=1).page(None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_there_is_one_part_at_a_time_and_nothing_at_the_end(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    lister = open_lister(inventories.write("CSV", [Row("a")], [Row("b")], [Row("c")]))
    page, seen = lister.page(None), []
    while page.cursor is not None:
        (table,) = folder.glob("*.arrow")
        seen.append(table.name)
        assert names(folder) == [".arrow", ".lock"]
        page = lister.page(page.cursor)
    assert len(set(seen)) == 2
    assert names(folder) == []


def test_a_part_that_is_refused_leaves_nothing_behind(
    inventories: Inventories, listed: ListAll, folder: Path
) -> None:
    manifest = inventories.write("CSV", [Row("a", size=-1)])
    refused(lambda: listed(manifest), "Size")
    assert names(folder) == [".lock"]


def test_what_a_killed_process_left_is_removed_by_the_next(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    manifest = inventories.write("CSV", [Row("a")], [Row("b")])
    first = open_lister(manifest).page(None)
    (table,) = folder.glob("*.arrow")
    stem = table.name.partition(".")[0]
    for suffix in (".download", ".unfinished"):
        (folder / f"{stem}{suffix}").write_bytes(b"half")
    assert open_lister(manifest).page(first.cursor).objects[0].key == "b"
    assert names(folder) == []


def test_what_nobody_has_used_for_a_week_is_removed(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    folder.mkdir(mode=0o700)
    old, young, foreign = (folder / name for name in ("a.00000.arrow", "b.00000.arrow", "notes.txt"))
    for path in (old, young, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - FORGOTTEN_SECONDS - 1))
    open_lister(inventories.write("CSV", [Row("a"), Row("b")]), page_size=1).page(None)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_a_table_that_is_in_use_is_not_forgotten(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    lister = open_lister(inventories.write("CSV", [Row("a"), Row("b"), Row("c")]), page_size=1)
    first = lister.page(None)
    (table,) = folder.glob("*.arrow")
    os.utime(table, (0, 0))
    lister.page(first.cursor)
    assert table.stat().st_mtime > FORGOTTEN_SECONDS


def test_a_folder_that_cannot_be_used_is_named(
    inventories: Inventories, open_lister: OpenLister, folder: Path
) -> None:
    folder.write_text("a file")
    refused(
        lambda: open_lister(inventories.write("CSV", [Row("a")])).page(None),
        f"{folder} cannot be used for the inventory's parts: ",
    )


def test_a_damaged_table_is_named(inventories: Inventories, open_lister: OpenLister, folder: Path) -> None:
    manifest = inventories.write("CSV", [Row("a"), Row("b")])
    cursor = open_lister(manifest, page_size=1).page(None).cursor
    (table,) = folder.glob("*.arrow")
    table.write_bytes(b"damaged")
    refused(lambda: open_lister(manifest).page(cursor), f"{table} is damaged .*; remove it")


def test_a_link_in_place_of_a_file_is_not_followed(
    inventories: Inventories, open_lister: OpenLister, folder: Path, tmp_path: Path
) -> None:
    manifest = inventories.write("CSV", [Row("a"), Row("b")])
    open_lister(manifest, page_size=1).page(None)
    (lock,) = folder.glob("*.lock")
    (table,) = folder.glob("*.arrow")
    lock.unlink()
    table.unlink()
    precious = tmp_path / "precious"
    lock.symlink_to(precious)
    refused(lambda: open_lister(manifest).page(None), "cannot be used")
    assert not precious.exists()


# Several processes


def test_listers_with_one_folder_do_not_clash(
    inventories: Inventories, listed: ListAll, folder: Path
) -> None:
    # Given an inventory of two parts
    wanted = ["a", "b", "c", "d"]
    manifest = inventories.write("CSV", [Row("a"), Row("b")], [Row("c"), Row("d")])
    # When two processes list it at the same time, and each removes files that the other might read
    with ThreadPoolExecutor(2) as pool:
        listings = list(pool.map(lambda size: listed(manifest, page_size=size), [1, 1000]))
    # Then each lists all objects
    assert [[found.key for found in listing] for listing in listings] == [wanted] * 2
    assert names(folder) == []


def test_two_that_want_the_same_part_make_it_once(
    inventories: Inventories, open_lister: OpenLister, recorded: RecordedMoto
) -> None:
    manifest = inventories.write("CSV", [Row(str(number)) for number in range(10)])
    recorded.requests.clear()
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda _: open_lister(manifest, page_size=5).page(None), range(4)))
    assert len({page.objects for page in pages}) == 1
    assert [request.key for request in recorded.requests if "/data/" in request.key] == [
        f"inventories/{inventories.source}/daily/data/part-0.csv"
    ]


@pytest.mark.slow
def test_other_wishes_have_other_tables(inventories: Inventories, open_lister: OpenLister) -> None:
    manifest = inventories.write("CSV", [Row("a/1"), Row("a/2"), Row("b/1"), Row("b/2")])
    wishes = [{"prefix": ""}, {"prefix": "a/"}, {"prefix": "b/"}]
    found = [open_lister(manifest, page_size=1, **wish).page(None).objects[0].key for wish in wishes]
    assert found == ["a/1", "a/1", "b/1"]


# Memory

SCRIPT = """
import resource, sys
from pathlib import Path
from tests.servers.access import s3_access
from keyhole.intake.inventory.lister import InventoryLister
from keyhole.sources.s3_uri import parse_s3_uri

url, manifest, bucket, folder = sys.argv[1:]
with s3_access(url) as access:
    lister = InventoryLister(access.client, parse_s3_uri(manifest), Path(folder), bucket=bucket)
    page = lister.page(None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = len(page.objects)
    while page.cursor is not None:
        page = lister.page(page.cursor)
        count += len(page.objects)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(count, after - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def large_part(file_format: str, bucket: str, count: int) -> bytes:
    """A part of many rows, written faster than row by row."""
    columns = {
        "bucket": pa.array([bucket]).take(pa.array([0] * count)),
        "key": pa.array([f"images/tenant-{number % 97}/{number:064}" for number in range(count)]),
        "size": pa.array(range(count)),
        "last_modified_date": pa.array([CHANGED]).cast(pa.timestamp("ms")).take(pa.array([0] * count)),
        "e_tag": pa.array([digest(b"%d" % number) for number in range(count)]),
        "storage_class": pa.array(["STANDARD"]).take(pa.array([0] * count)),
        "is_multipart_uploaded": pa.array([False]).take(pa.array([0] * count)),
    }
    table = pa.table(columns)
    if file_format != "CSV":
        return {"Parquet": in_parquet, "ORC": in_orc}[file_format](table)
    text = io.BytesIO()
    times = pa.array(["2026-05-01T12:00:00.000Z"]).take(pa.array([0] * count))
    table = table.set_column(3, "last_modified_date", times)
    csv.write_csv(table, text, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return gzip.compress(text.getvalue(), 1)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_memory_does_not_grow_with_a_part(
    inventories: Inventories, moto_url: str, tmp_path: Path, file_format: str
) -> None:
    # Given a part of 300,000 rows, which needs 60 MB as texts
    count = 300_000
    manifest = inventories.write_parts(file_format, large_part(file_format, inventories.source, count))
    # When it is listed, page by page
    arguments = [moto_url, str(manifest), inventories.source, os.fspath(tmp_path / "parts")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed, grown, converting = map(int, done.stdout.split())
    # Then neither this process nor the converting child stores the part. Importing pyarrow alone needs 60 MiB
    assert listed == count
    assert grown < 32 * 1024
    assert converting < 200 * 1024
