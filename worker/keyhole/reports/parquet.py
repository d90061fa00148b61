"""Writes the objects of an audit as Parquet, for queries over many objects.

The file has the columns of the CSV, and the additional column `virtual_size_text`. The columns have types:
sizes and counts are int64, times are UTC in microseconds, and `reasons`, `content` and `findings` are lists
of strings. A virtual size can be too large for an int64, because a VMDK header can state up to 2**73 bytes.
In this case, `virtual_size` is null, and `virtual_size_text` contains the number as text. If the size fits
into an int64, `virtual_size_text` is null. If both columns are null, the virtual size is unknown. The file's
metadata contain the audit as JSON, with the key `keyhole.audit`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, Final

from keyhole.errors import KeyholeError
from keyhole.intake.audits.audit import Audit, AuditedObject
from keyhole.reports.rows import Row, row_of
from keyhole.suggestions import how_to_install

if TYPE_CHECKING:
    import pyarrow as pa

#: The number of rows that are collected in memory and then written as one row group. If all reports are long,
#: the rows of one group need tens of megabytes.
GROUP_ROWS: Final = 10_000
_INT64_MAX: Final = 2**63 - 1


class PyarrowMissingError(KeyholeError):
    """The library pyarrow, which writes Parquet, is not installed."""

    is_usage = True

    def __init__(self) -> None:
        super().__init__(f"Parquet needs pyarrow; run {how_to_install('inventory')}")


def write_parquet(audit: Audit, objects: Iterable[AuditedObject], out: BinaryIO) -> None:
    """Write a row for each object to `out`.

    Raises:
        PyarrowMissingError: pyarrow is not installed. Nothing was written.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and importing it takes longer than writing most reports
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError as error:
        raise PyarrowMissingError from error

    schema = _schema(pa).with_metadata({"keyhole.audit": audit.model_dump_json(ensure_ascii=True)})
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in _groups(row_of(audited) for audited in objects):
            writer.write_batch(pa.RecordBatch.from_pylist([_cells(row) for row in rows], schema))


def _groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while group := list(islice(rows, GROUP_ROWS)):
        yield group


def _schema(pa: ModuleType) -> "pa.Schema":
    text, count, time = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
    texts = pa.list_(text)
    types = {
        "status": text,
        "reasons": texts,
        "bucket": text,
        "key": text,
        "version_id": text,
        "etag": text,
        "size": count,
        "last_modified": time,
        "format": text,
        "subformat": text,
        "virtual_size": count,
        "virtual_size_text": text,
        "content": texts,
        "wholeness": text,
        "findings": texts,
        "requests": count,
        "bytes_read": count,
        "scanned_at": time,
        "ruleset": text,
        "waived": texts,
        "how": text,
        "status_now": text,
        "owner": text,
        "owner_unknown": text,
    }
    return pa.schema(list(types.items()))


def _cells(row: Row) -> dict[str, object]:
    size = row.virtual_size
    large = size is not None and size > _INT64_MAX
    return row._asdict() | {
        "virtual_size": None if large else size,
        "virtual_size_text": str(size) if large else None,
    }
