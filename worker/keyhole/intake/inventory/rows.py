"""Filters the rows of an inventory by bucket and prefix, checks them, and converts them to a common schema.

An error names the first invalid row. Some fields of a row can be missing. If `IsLatest` is missing, the row
is treated as the current version. If `IsDeleteMarker` is missing, the row is treated as an object. If the
version id is missing, the row is the version `null`, which S3 creates while versioning is not enabled for the
bucket.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from keyhole.intake.inventory.formats import WANTED, Batch
from keyhole.intake.inventory.part import Conversion, FileFormat, PartError
from keyhole.intake.inventory.table import SCHEMA

#: The maximum length of a text, in bytes. This is S3's limit for keys, and all other texts are shorter.
MAX_TEXT_BYTES: Final = 1024
#: The first and the last time of Python's `datetime`, in microseconds since 1970.
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999
MICROSECONDS: Final = pa.timestamp("us", tz="UTC")


def wanted_rows(part: Conversion, batch: Batch, first: int) -> pa.RecordBatch:
    """Return the rows of a batch that match the conversion, with the schema `table.SCHEMA`.

    Args:
        part: The conversion, which states the bucket, the prefix and the versions.
        batch: The columns from `formats`.
        first: The number of the batch's first row, counted from 1.

    Raises:
        PartError: A row is invalid.
    """
    rows = _Rows(batch, first)
    rows.keep(pc.equal(rows.read("bucket", _name, "name of a bucket"), part.bucket))
    if "isdeletemarker" in rows:
        rows.keep(pc.invert(pc.fill_null(rows.read("isdeletemarker", _flag, "flag"), fill_value=False)))
    if "islatest" in rows and not part.versions:
        rows.keep(pc.fill_null(rows.read("islatest", _flag, "flag"), fill_value=True))
    keys = rows.read("key", _encoded_key if part.file_format == FileFormat.CSV else _name, "key of an object")
    below = pc.starts_with(keys, part.prefix)
    keys = keys.filter(below)
    rows.keep(below)
    nothing = pa.nulls(len(keys), pa.string())
    versions = rows.read("versionid", _text, "version's id") if part.versions else nothing
    columns = {
        "key": keys,
        "size": rows.read("size", _size, "number of bytes"),
        "etag": rows.read("etag", _text, "ETag") if "etag" in rows else nothing,
        "modified": (
            rows.read("lastmodifieddate", _time, "time")
            if "lastmodifieddate" in rows
            else pa.nulls(len(keys), pa.int64())
        ),
        "storage_class": (
            rows.read("storageclass", _text, "storage class") if "storageclass" in rows else nothing
        ),
        "version_id": pc.fill_null(versions, "null") if part.versions else nothing,
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


class _Rows:
    """The rows of a batch that have passed all filters so far, with their row numbers."""

    def __init__(self, batch: Batch, first: int) -> None:
        self._columns = {name: _plain(column) for name, column in batch.items()}
        self._numbers = pa.array(range(first, first + len(batch["bucket"])), pa.int64())

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def keep(self, wanted: pa.Array) -> None:
        """Remove the rows for which `wanted` is false."""
        self._columns = {name: column.filter(wanted) for name, column in self._columns.items()}
        self._numbers = self._numbers.filter(wanted)

    def read(self, name: str, convert: Callable[[pa.Array], pa.Array], kind: str) -> pa.Array:
        """Convert a column. If this fails, the error contains the number of the first invalid row."""
        column = self._columns[name]
        try:
            return convert(column)
        except (pa.ArrowException, ValueError):
            # If the column has no rows, the conversion failed because of the column's type, so the error
            # names no row.
            number = self._numbers[_first_bad(column, convert)].as_py() if len(column) else None
            raise PartError(f"{WANTED[name]} is not a valid {kind}", number) from None


def _first_bad(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    """Return the index of the first row that cannot be converted. The search is a bisection."""
    good, bad = 0, len(column)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(column.slice(good, middle - good))
        except (pa.ArrowException, ValueError):
            bad = middle
        else:
            good = middle
    return good


def _plain(column: pa.Array) -> pa.Array:
    """Convert a column with an extension type or a dictionary to a plain column."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        is_text(kind)
        for is_text in (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    )


def _text(column: pa.Array) -> pa.Array:
    """Convert text; empty text becomes null.

    Check that the text is UTF-8, because the Parquet reader does not check it.
    """
    if not _is_text(column.type):
        raise ValueError(column.type)
    text = column.cast(pa.binary())
    if pc.any(pc.greater(pc.binary_length(text), MAX_TEXT_BYTES)).as_py():
        raise ValueError("too long")
    text = text.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _name(column: pa.Array) -> pa.Array:
    """Convert text that must not be empty."""
    name = _text(column)
    if name.null_count:
        raise ValueError("empty")
    return name


def _encoded_key(column: pa.Array) -> pa.Array:
    """Convert keys in a CSV, which are encoded like web forms: a space is `+`, and a plus sign is `%2B`."""
    return _name(
        pa.array(
            [
                key and (unquote_to_bytes(key.replace(b"+", b" ")) if b"%" in key or b"+" in key else key)
                for key in column.cast(pa.binary()).to_pylist()
            ],
            pa.binary(),
        )
    )


def _size(column: pa.Array) -> pa.Array:
    if not (_is_text(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(column.type)
    size = (_text(column) if _is_text(column.type) else column).cast(pa.int64())
    if size.null_count or pc.any(pc.less(size, 0)).as_py():
        raise ValueError("none")
    return size


def _flag(column: pa.Array) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return column
    return _text(column).cast(pa.bool_())


def _time(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        # Nanoseconds are rounded down. With other units, the conversion can overflow, so the conversion is
        # checked.
        time = column.cast(MICROSECONDS, safe=column.type.unit != "ns")
    else:
        time = _text(column).cast(MICROSECONDS)
    time = time.cast(pa.int64())
    if pc.any(pc.or_(pc.less(time, FIRST_TIME), pc.greater(time, LAST_TIME))).as_py():
        raise ValueError("outside of Python's calendar")
    return time
