"""A part as a table of the needed columns: the same from every format. A hostile part is an error."""

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.intake.inventory import formats
from keyhole.intake.inventory.child import write_table
from keyhole.intake.inventory.formats import BLOCK_BYTES, FREE_ROWS
from keyhole.intake.inventory.part import Conversion, FileFormat, PartError
from keyhole.intake.inventory.table import BATCH_ROWS, read_rows
from tests.intake.inventory.inventories import (
    ALL,
    CHANGED,
    CURRENT,
    FORMATS,
    Row,
    csv_part,
    in_orc,
    in_parquet,
)
from tests.intake.inventory.inventories import part as written
from tests.intake.inventory.inventories import table as tabled

BUCKET = "images"
MICROSECOND = 1_000_000

Convert = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def conversion(tmp_path: Path) -> Callable[..., Conversion]:
    """The conversion of a part."""

    def of(file_format: str, body: bytes, columns: tuple[str, ...] = CURRENT, **wanted: Any) -> Conversion:
        source, target = tmp_path / "part", tmp_path / "table"
        source.write_bytes(body)
        target.unlink(missing_ok=True)
        options = {"bucket": BUCKET, "prefix": "", "versions": False} | wanted
        chosen = FileFormat(file_format.lower())
        return Conversion(os.fspath(source), os.fspath(target), len(body), chosen, columns, **options)

    return of


@pytest.fixture
def converted(conversion: Callable[..., Conversion]) -> Convert:
    """The rows of a part's table, converted in this process."""

    def convert_it(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        part = conversion(*arguments, **options)
        count = write_table(part)
        rows, total = read_rows(Path(part.target), 0, 1 << 30)
        assert len(rows) == total == count
        return rows

    return convert_it


def row(key: str = "a", **fields: Any) -> Row:
    return Row(key, bucket=BUCKET, **fields)


# A law

ANY_ROW = st.builds(
    Row,
    key=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12),
    bucket=st.sampled_from([BUCKET, "others"]),
    version_id=st.none() | st.text("abcXYZ012._-", min_size=1, max_size=8),
    is_latest=st.booleans(),
    is_delete_marker=st.booleans(),
    size=st.integers(0, (1 << 63) - 1),
    last_modified_date=st.none()
    | st.datetimes(datetime(1970, 1, 1), datetime(2261, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis adds the zone
        lambda time: time.replace(microsecond=0)
    ),
    e_tag=st.none() | st.text("0123456789abcdef-", min_size=1, max_size=8),
    storage_class=st.none() | st.sampled_from(["STANDARD", "GLACIER"]),
)


# Each example overwrites the part.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_ROW, max_size=6), st.booleans(), st.text(max_size=1), st.permutations(ALL))
def test_every_format_says_the_same(
    converted: Convert, rows: list[Row], versions: bool, prefix: str, columns: list[str]
) -> None:
    expected = [
        {
            "key": told.key,
            "size": told.size,
            "etag": told.e_tag,
            "modified": told.last_modified_date and round(told.last_modified_date.timestamp()) * MICROSECOND,
            "storage_class": told.storage_class,
            "version_id": (told.version_id or "null") if versions else None,
        }
        for told in rows
        if told.bucket == BUCKET
        and told.key.startswith(prefix)
        and not told.is_delete_marker
        and (versions or told.is_latest)
    ]
    for chosen in FORMATS:
        body = written(chosen, rows, columns)
        assert converted(chosen, body, tuple(columns), versions=versions, prefix=prefix) == expected


@pytest.mark.parametrize("count", [0, 1, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 10 * BATCH_ROWS])
@pytest.mark.parametrize("file_format", FORMATS)
def test_any_rows_of_a_table_can_be_read(
    conversion: Callable[..., Conversion], file_format: str, count: int
) -> None:
    part = conversion(file_format, written(file_format, [row(str(number)) for number in range(count)]))
    assert write_table(part) == count
    for first in {0, 1, BATCH_ROWS - 1, BATCH_ROWS, count // 2, max(0, count - 1), count}:
        for most in (1, BATCH_ROWS, 3000):
            rows, total = read_rows(Path(part.target), first, most)
            assert [found["key"] for found in rows] == [str(n) for n in range(count)][first : first + most]
            assert total == count


def test_a_table_is_for_its_owner_alone(conversion: Callable[..., Conversion]) -> None:
    part = conversion("CSV", csv_part([row()]))
    write_table(part)
    assert Path(part.target).stat().st_mode & 0o777 == 0o600


def test_a_table_is_not_written_over_another_file(conversion: Callable[..., Conversion]) -> None:
    part = conversion("CSV", csv_part([row()]))
    Path(part.target).write_text("precious")
    with pytest.raises(FileExistsError):
        write_table(part)
    assert Path(part.target).read_text() == "precious"


# CSV


def lines(*texts: str | bytes, end: bytes = b"\n") -> bytes:
    return gzip.compress(
        end.join([text if isinstance(text, bytes) else text.encode() for text in texts] + [b""])
    )


THREE = ("Bucket", "Key", "Size")


@pytest.mark.parametrize(
    "body",
    [
        lines("images,a,1", "images,b,2"),
        lines('"images","a","1"', '"images","b","2"'),
        lines("images,a,1", "images,b,2", end=b"\r\n"),
        lines("images,a,1") + lines("images,b,2"),
        gzip.compress(b"images,a,1\nimages,b,2"),
    ],
    ids=["bare", "quoted", "CRLF", "two members", "no end of line"],
)
def test_a_csv_is_read_however_it_is_written(converted: Convert, body: bytes) -> None:
    assert [(found["key"], found["size"]) for found in converted("CSV", body, THREE)] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a+b%2Bc%25.img", "a b+c%.img"),
        ("a%20b%2bc%25.img", "a b+c%.img"),
        ("a%2Fb", "a/b"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("caf%C3%A9", "caf\u00e9"),
        ("caf\u00e9", "caf\u00e9"),
        ("a%0Ab", "a\nb"),
        ("a%00b", "a\x00b"),
    ],
)
def test_a_key_of_a_csv_is_decoded_once(converted: Convert, text: str, key: str) -> None:
    (found,) = converted("CSV", lines(f"images,{text},1"), THREE)
    assert found["key"] == key


@pytest.mark.parametrize(
    ("text", "modified"),
    [
        ("2026-05-01T12:00:00.000Z", CHANGED),
        ("2026-05-01T12:00:00Z", CHANGED),
        ("2026-05-01T14:00:00+02:00", CHANGED),
        ("", None),
    ],
)
def test_a_time_of_a_csv_is_read(converted: Convert, text: str, modified: datetime | None) -> None:
    body = lines(f"images,a,1,{text}")
    (found,) = converted("CSV", body, (*THREE, "LastModifiedDate"))
    assert found["modified"] == (modified and modified.timestamp() * MICROSECOND)


GOOD = "images,a,1,2026-05-01T12:00:00Z,true,false,e"
COLUMNS = ("Bucket", "Key", "Size", "LastModifiedDate", "IsLatest", "IsDeleteMarker", "ETag")

BAD_LINES = [
    ("images,a,1", "it has 3 columns, but the manifest names 7"),
    (f"{GOOD},x", "it has 8 columns, but the manifest names 7"),
    ("", "Bucket is not a valid name of a bucket"),
    (GOOD.replace(",a,", ",,"), "Key is not a valid key of an object"),
    (GOOD.replace(",a,", f",{'k' * 1025},"), "Key is not a valid key of an object"),
    (GOOD.replace(",a,", ",%FF,"), "Key is not a valid key of an object"),
    (GOOD.replace(",1,", ",,"), "Size is not a valid number of bytes"),
    (GOOD.replace(",1,", ",-1,"), "Size is not a valid number of bytes"),
    (GOOD.replace(",1,", ",1.5,"), "Size is not a valid number of bytes"),
    (GOOD.replace(",1,", ",9223372036854775808,"), "Size is not a valid number of bytes"),
    (GOOD.replace("12:00:00Z", "noon"), "LastModifiedDate is not a valid time"),
    (GOOD.replace("2026-05", "2026-13"), "LastModifiedDate is not a valid time"),
    (
        GOOD.replace("2026-05-01T12:00:00Z", "9999-12-31T23:59:59-01:00"),
        "LastModifiedDate is not a valid time",
    ),
    (GOOD.replace("true", "yes"), "IsLatest is not a valid flag"),
    (GOOD.replace("false", "-"), "IsDeleteMarker is not a valid flag"),
    (GOOD[:-1] + "e" * 1025, "ETag is not a valid ETag"),
    (GOOD.replace("images", "i" * 1025), "Bucket is not a valid name of a bucket"),
]


@pytest.mark.parametrize(("line", "match"), BAD_LINES)
@pytest.mark.parametrize("before", [0, 1, 20_000])
def test_the_first_line_that_makes_no_sense_is_named(
    converted: Convert, line: str, match: str, before: int
) -> None:
    with pytest.raises(PartError, match=f"^{match}$") as raised:
        converted("CSV", lines(*[GOOD] * before, line, GOOD, line), COLUMNS)
    assert raised.value.row == before + 1


def test_a_line_that_is_not_wanted_may_say_anything(converted: Convert) -> None:
    odd = GOOD.replace("images", "others").replace(",1,", ",x,")
    assert converted("CSV", lines(odd), COLUMNS) == []


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (("Bucket", "Key"), "no column Size; add the field"),
        (("Bucket", "Size"), "no column Key"),
        (("Key", "Size"), "no column Bucket"),
        (("Bucket", "Key", "Size", "key"), "two columns with the name key"),
        (("Bucket", "Size", "Key", "KEY"), "two columns with the name KEY"),
        ((), "no column Bucket"),
    ],
)
def test_columns_that_are_missing_or_there_twice_are_named(
    converted: Convert, columns: tuple[str, ...], match: str
) -> None:
    with pytest.raises(PartError, match=match):
        converted("CSV", lines("images,a,1"), columns)


# CSV, hostile


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"images,a,1\n", "not a complete gzip file"),
        (csv_part([row()])[:-9], "not a complete gzip file"),
        (csv_part([row()]) + b"trailing", "not a complete gzip file"),
        (csv_part([row()])[:12] + b"\xff" * 30, "not a complete gzip file"),
        (lines("a" * 2 * BLOCK_BYTES), f"a row with more than {BLOCK_BYTES} bytes"),
        (lines('"' + "\n" * 2 * BLOCK_BYTES), f"a row with more than {BLOCK_BYTES} bytes|has 1 columns"),
    ],
    ids=["not packed", "cut off", "goes on", "damaged", "a long line", "a quote that does not end"],
)
def test_a_csv_that_is_none_is_refused(converted: Convert, body: bytes, match: str) -> None:
    with pytest.raises(PartError, match=match):
        converted("CSV", body)


def bomb(line: bytes, megabytes: int) -> bytes:
    """Many lines, compressed as much as possible."""
    packer = zlib.compressobj(9, wbits=31)
    piece = line * (1_000_000 // len(line))
    return b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()


def test_a_part_that_unpacks_to_too_much_is_refused(
    converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FREE_BYTES", 1 << 20)
    body = bomb(b"others,%s,1\n" % (b"a" * 500), 20)
    assert len(body) * 300 < 20_000_000
    with pytest.raises(PartError, match=r"unpacks to more than \d+ bytes, too large for a genuine inventory"):
        converted("CSV", body, THREE)


@pytest.mark.parametrize("line", [b"\n", b"others,a,1\n"])
def test_a_part_with_too_many_rows_is_refused(
    converted: Convert, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(formats, "FREE_ROWS", 1000)
    with pytest.raises(PartError, match=r"more than \d+ rows in \d+ bytes|Bucket is not a valid name"):
        converted("CSV", bomb(line, 8), THREE)


# Parquet and ORC

BINARY = [pytest.param("Parquet", in_parquet, id="Parquet"), pytest.param("ORC", in_orc, id="ORC")]


def columned(**columns: Any) -> pa.Table:
    """A table of one row with changed columns. `None` removes a column."""
    right = {
        "bucket": pa.array([BUCKET]),
        "key": pa.array(["a"]),
        "size": pa.array([1]),
    }
    return pa.table({name: column for name, column in (right | columns).items() if column is not None})


@pytest.mark.parametrize(("file_format", "pack"), BINARY)
@pytest.mark.parametrize(
    ("column", "match"),
    [
        ({"key": None}, "no column Key"),
        ({"size": None}, "no column Size; add the field"),
        ({"Key": pa.array(["b"])}, "two columns with the name Key"),
        ({"key": pa.array([1])}, "Key is not a valid key of an object"),
        ({"key": pa.array([None], pa.string())}, "Key is not a valid key of an object"),
        ({"key": pa.array([""])}, "Key is not a valid key of an object"),
        ({"key": pa.array([b"\xff"])}, "Key is not a valid key of an object"),
        ({"key": pa.array([{"x": 1}])}, "Key is not a valid key of an object"),
        ({"key": pa.array(["k" * 1025])}, "Key is not a valid key of an object"),
        ({"size": pa.array([1.5])}, "Size is not a valid number of bytes"),
        ({"size": pa.array([-1])}, "Size is not a valid number of bytes"),
        ({"size": pa.array([None], pa.int64())}, "Size is not a valid number of bytes"),
        ({"size": pa.array(["x"])}, "Size is not a valid number of bytes"),
        ({"bucket": pa.array([True])}, "Bucket is not a valid name of a bucket"),
        ({"is_latest": pa.array([1])}, "IsLatest is not a valid flag"),
        ({"last_modified_date": pa.array([True])}, "LastModifiedDate is not a valid time"),
        ({"e_tag": pa.array([[1]])}, "ETag is not a valid ETag"),
    ],
)
def test_a_column_that_makes_no_sense_is_named(
    converted: Convert, file_format: str, pack: Callable[..., bytes], column: dict[str, Any], match: str
) -> None:
    with pytest.raises(PartError, match=match):
        converted(file_format, pack(columned(**column)))


@pytest.mark.parametrize(("file_format", "pack"), BINARY)
def test_a_column_of_no_use_is_named_though_no_row_is_wanted(
    converted: Convert, file_format: str, pack: Callable[..., bytes]
) -> None:
    body = pack(columned(bucket=pa.array(["others"]), size=pa.array([1.5])))
    with pytest.raises(PartError, match="Size is not a valid number of bytes") as raised:
        converted(file_format, body)
    assert raised.value.row is None


@pytest.mark.parametrize(("file_format", "pack"), BINARY)
def test_of_many_rows_the_first_that_makes_no_sense_is_named(
    converted: Convert, file_format: str, pack: Callable[..., bytes]
) -> None:
    rows = [row(str(number)) for number in range(20_000)]
    rows[100] = replace(rows[100], bucket="others", size=-1)
    rows[12_344] = replace(rows[12_344], size=-1)
    with pytest.raises(PartError, match="Size") as raised:
        converted(file_format, pack(tabled(rows)))
    assert raised.value.row == 12_345


@pytest.mark.parametrize(
    ("unit", "value", "microseconds"),
    [
        ("s", 1, 1_000_000),
        ("ms", 1, 1000),
        ("us", 1, 1),
        ("ns", 1999, 1),
        ("ns", -(1 << 63), -9_223_372_036_854_776),
        ("ms", -62_135_596_800_000, -62_135_596_800_000_000),
    ],
)
def test_times_of_any_unit_are_read(converted: Convert, unit: str, value: int, microseconds: int) -> None:
    for zone in (None, "UTC", "Asia/Tokyo"):
        time = pa.array([value]).cast(pa.timestamp(unit, tz=zone))
        # Arrow stores its schema in the file, so these types come back
        body = in_parquet(columned(last_modified_date=time), store_schema=True)
        (found,) = converted("Parquet", body)
        assert abs(found["modified"] - microseconds) <= 1


@pytest.mark.parametrize(("unit", "value"), [("ms", 1 << 62), ("us", 1 << 62), ("s", 253_402_300_800)])
def test_times_that_no_calendar_has_are_refused(converted: Convert, unit: str, value: int) -> None:
    time = pa.array([value]).cast(pa.timestamp(unit))
    with pytest.raises(PartError, match="LastModifiedDate is not a valid time"):
        converted("Parquet", in_parquet(columned(last_modified_date=time), store_schema=True))


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_of_any_type_are_read(converted: Convert, kind: Any) -> None:
    body = in_parquet(columned(key=pa.array(["a"]).cast(kind)), store_schema=True)
    (found,) = converted("Parquet", body)
    assert found["key"] == "a"


def test_a_parquet_of_more_rows_than_bytes_can_hold_is_refused(
    converted: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FREE_ROWS", 1000)
    many = 1_000_000
    same = pa.table({"bucket": [BUCKET] * many, "key": ["a"] * many, "size": pa.array([1] * many)})
    body = in_parquet(same)
    assert len(body) < 100_000
    with pytest.raises(PartError, match=r"more than \d+ rows in \d+ bytes"):
        converted("Parquet", body)
    assert FREE_ROWS >= 1_000_000
