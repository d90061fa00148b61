"""An audit's objects as Parquet, for queries over many objects.

The columns are those of the CSV, with types: sizes and counts int64, times UTC in microseconds, lists as
lists. A disk can be larger than an int64 holds: VMDK's header can claim 2**73 bytes. Then `virtual_size` is
null and `virtual_size_text` has the digits, which is null for all other disks. If both are null, the size is
unknown. The file's metadata has the audit itself as JSON, under `keyhole.audit`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, Final

from keyhole.errors import KeyholeError
from keyhole.intake.audits.audit import Audit, AuditedObject
from keyhole.reports.rows import Row, row_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are held in memory and written as one row group: tens of megabytes if all reports are long.
GROUP_ROWS: Final = 10_000
_INT64_MAX: Final = 2**63 - 1


class PyarrowMissingError(KeyholeError):
    """Parquet is written by pyarrow, which is not installed."""

    is_usage = True

    def __init__(self) -> None:
        super().__init__("Parquet needs pyarrow; install it with `pip install 'keyhole[inventory]'`")


def write_parquet(audit: Audit, objects: Iterable[AuditedObject], out: BinaryIO) -> None:
    """Write a row for each object, a row group at a time.

    Raises:
        PyarrowMissingError: pyarrow is not installed. Nothing was written.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and slower to import than most reports are to write
        from pyarrow import parquet  # noqa: PLC0415 - the same
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
        "how": text,
        "status_now": text,
    }
    return pa.schema(list(types.items()))


def _cells(row: Row) -> dict[str, object]:
    size = row.virtual_size
    large = size is not None and size > _INT64_MAX
    return row._asdict() | {
        "virtual_size": None if large else size,
        "virtual_size_text": str(size) if large else None,
    }
