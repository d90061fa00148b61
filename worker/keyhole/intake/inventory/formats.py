"""The rows of a part in CSV, Parquet or ORC, batch by batch, with its columns under one name each.

A column has the same name in every format once `_` and case are left out: `LastModifiedDate` of a CSV is
`last_modified_date` of the others, and `ETag` is `e_tag`. Columns that nobody wants are not read.

What a part makes of its bytes is bounded, for a few can say that there are billions of rows. The most
regular keys take 2.3 bytes a row in a CSV, 15 times less than its text; 0.4 in a Parquet, by the best of its
encodings, which S3 does not use.
"""

import zlib
from collections.abc import Iterator, Mapping
from gzip import GzipFile
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, dataset, orc, parquet

from keyhole.intake.inventory.part import Conversion, FileFormat, PartError

#: A part's columns by their names here.
Batch = Mapping[str, pa.Array]

REQUIRED: Final = {"bucket": "Bucket", "key": "Key", "size": "Size"}
WANTED: Final = REQUIRED | {
    "versionid": "VersionId",
    "islatest": "IsLatest",
    "isdeletemarker": "IsDeleteMarker",
    "lastmodifieddate": "LastModifiedDate",
    "etag": "ETag",
    "storageclass": "StorageClass",
}

BATCH_ROWS: Final = 8192
#: A row of a CSV must fit in here. Its longest columns, a key and an access control list, take some KiB.
BLOCK_BYTES: Final = 1 << 20
#: So much may come of any part, and so much more for each of its bytes.
FREE_BYTES, BYTES_PER_BYTE = 64 << 20, 100
FREE_ROWS, ROWS_PER_BYTE = 1_000_000, 4


def batches(part: Conversion) -> Iterator[Batch]:
    """The rows of a part, in its order.

    Raises:
        PartError: It is not what it should be.
    """
    read = {FileFormat.CSV: _csv, FileFormat.PARQUET: _parquet, FileFormat.ORC: _orc}[part.file_format]
    most = FREE_ROWS + ROWS_PER_BYTE * part.size
    rows = 0
    for batch in read(part):
        rows += len(batch["bucket"])
        if rows > most:
            raise PartError(f"it has more than {most} rows in {part.size} bytes, which no inventory has")
        yield batch


def _csv(part: Conversion) -> Iterator[Batch]:
    names = _chosen(part.columns, part)
    misfits: list[Any] = []

    def misfit(row: Any) -> str:  # noqa: ANN401 - pyarrow has no types
        misfits.append(row)
        return "error"

    with (
        Path(part.source).open("rb") as file,
        _Unpacked(file, FREE_BYTES + BYTES_PER_BYTE * part.size) as unpacked,
    ):
        text = BufferedReader(unpacked, BLOCK_BYTES)
        if not text.peek(1):
            return
        try:
            reader = csv.open_csv(
                pa.PythonFile(text, mode="r"),
                read_options=csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=part.columns
                ),
                parse_options=csv.ParseOptions(
                    newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=misfit
                ),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(names.values(), pa.binary()),
                    include_columns=list(names.values()),
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield {name: batch.column(column) for name, column in names.items()}
        except pa.ArrowInvalid as error:
            if misfits:
                (row, *_) = misfits
                raise PartError(
                    f"it has {row.actual_columns} columns where the manifest names {row.expected_columns}",
                    row.number,
                ) from error
            if "straddling" in str(error):
                raise PartError(f"it has a row of more than {BLOCK_BYTES} bytes") from error
            raise


class _Unpacked(RawIOBase):
    """What gzip packed, up to a limit."""

    def __init__(self, file: Any, most: int) -> None:  # noqa: ANN401 - any file
        self._gzip = GzipFile(fileobj=file)
        self._most = most
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as io has it
        try:
            length = self._gzip.readinto(buffer)
        except (OSError, EOFError, zlib.error) as error:
            raise PartError(f"it is not a complete gzip file: {error}") from error
        self._read += length
        if self._read > self._most:
            raise PartError(f"it unpacks to more than {self._most} bytes, which no inventory does")
        return length


def _parquet(part: Conversion) -> Iterator[Batch]:
    with parquet.ParquetFile(
        part.source, memory_map=False, buffer_size=BLOCK_BYTES, pre_buffer=False
    ) as file:
        names = _chosen(file.schema_arrow.names, part)
        rows = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(names.values()), use_threads=False):
            rows += batch.num_rows
            yield {name: batch.column(column) for name, column in names.items()}
        _all_there(rows, file.metadata.num_rows)


def _orc(part: Conversion) -> Iterator[Batch]:
    fragment = dataset.OrcFileFormat().make_fragment(pa.OSFile(part.source))
    names = _chosen(fragment.physical_schema.names, part)
    rows = 0
    for batch in fragment.to_batches(columns=list(names.values()), batch_size=BATCH_ROWS, use_threads=False):
        rows += batch.num_rows
        yield {name: batch.column(column) for name, column in names.items()}
    _all_there(rows, orc.ORCFile(part.source).nrows)


def _all_there(rows: int, stated: int) -> None:
    if rows != stated:
        raise PartError(f"it says that it has {stated} rows, and has {rows}")


def _chosen(columns: list[str] | tuple[str, ...], part: Conversion) -> dict[str, str]:
    """The columns that are wanted, by their names here.

    Raises:
        PartError: One that is needed is missing, or one is there twice.
    """
    names: dict[str, str] = {}
    for column in columns:
        name = column.replace("_", "").lower()
        if name in names:
            raise PartError(f"it has two columns {column}")
        if name in WANTED:
            names[name] = column
    for name, column in REQUIRED.items():
        if name not in names:
            raise PartError(f"it has no column {column}; add the field to the inventory's configuration")
    if part.versions and "versionid" not in names:
        raise PartError(
            "it lists current versions alone; configure the inventory to list all, or ask for no versions"
        )
    return names
