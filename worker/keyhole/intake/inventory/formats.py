"""Reads the rows of a part in CSV, Parquet or ORC, batch by batch.

The names of the columns are the same for all three formats.

In the parts themselves, the names of a column differ in underscores and case: `LastModifiedDate` in a CSV is
`last_modified_date` in Parquet and ORC, and `ETag` is `e_tag`. Unused columns are not read.

A malicious part of a few bytes can state that it contains billions of rows. So this module limits the number
of rows and the size of the unpacked data. A larger part may have more rows and more unpacked data. The parts
that S3 writes stay below these limits. In a compressed CSV with very regular keys, a row takes 2.3 bytes,
which is 1/15 of the row's uncompressed text. In a Parquet file with the best encoding, which S3 does not use,
a row can take 0.4 bytes.
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

#: The columns of a part, by name. The names are in lower case and have no underscores.
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
#: The maximum length of a row in a CSV, in bytes. The longest columns, which are the key and the access
#: control list, take a few KiB.
BLOCK_BYTES: Final = 1 << 20
#: The limits of a part: it may have FREE_BYTES unpacked bytes, and BYTES_PER_BYTE more for each byte of its
#: file. It may have FREE_ROWS rows, and ROWS_PER_BYTE more for each byte of its file.
FREE_BYTES, BYTES_PER_BYTE = 64 << 20, 100
FREE_ROWS, ROWS_PER_BYTE = 1_000_000, 4


def batches(part: Conversion) -> Iterator[Batch]:
    """Yield the rows of a part in their order in the file.

    Raises:
        PartError: The part is invalid.
    """
    read = {FileFormat.CSV: _csv, FileFormat.PARQUET: _parquet, FileFormat.ORC: _orc}[part.file_format]
    most = FREE_ROWS + ROWS_PER_BYTE * part.size
    rows = 0
    for batch in read(part):
        rows += len(batch["bucket"])
        if rows > most:
            raise PartError(
                f"it has more than {most} rows in {part.size} bytes, too many for a genuine inventory"
            )
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
                    f"it has {row.actual_columns} columns, but the manifest names {row.expected_columns}",
                    row.number,
                ) from error
            if "straddling" in str(error):
                raise PartError(f"it has a row with more than {BLOCK_BYTES} bytes") from error
            raise


class _Unpacked(RawIOBase):
    """Reads the unpacked data of a gzip file, and raises an error if the data exceed a size limit."""

    def __init__(self, file: Any, most: int) -> None:  # noqa: ANN401 - any file
        self._gzip = GzipFile(fileobj=file)
        self._most = most
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - the same signature as in io
        try:
            length = self._gzip.readinto(buffer)
        except (OSError, EOFError, zlib.error) as error:
            raise PartError(f"it is not a complete gzip file: {error}") from error
        self._read += length
        if self._read > self._most:
            raise PartError(f"it unpacks to more than {self._most} bytes, too large for a genuine inventory")
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
        raise PartError(f"it states that it has {stated} rows, but it has {rows}")


def _chosen(columns: list[str] | tuple[str, ...], part: Conversion) -> dict[str, str]:
    """Return the columns to read, as a dictionary that maps the names in `WANTED` to the names in the part.

    Raises:
        PartError: A required column is missing, or two columns have the same name.
    """
    names: dict[str, str] = {}
    for column in columns:
        name = column.replace("_", "").lower()
        if name in names:
            raise PartError(f"it has two columns with the name {column}")
        if name in WANTED:
            names[name] = column
    for name, column in REQUIRED.items():
        if name not in names:
            raise PartError(f"it has no column {column}; add the field to the inventory's configuration")
    if part.versions and "versionid" not in names:
        raise PartError(
            "it lists only current versions; configure the inventory to list all versions, or run the audit "
            "without versions"
        )
    return names
