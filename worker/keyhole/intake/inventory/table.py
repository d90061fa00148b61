"""Writes and reads tables. A table is a converted part in a file, and its rows can be read in any order.

The file has Arrow's IPC format without compression. All batches except the last have `BATCH_ROWS` rows, so
row N is in batch N / `BATCH_ROWS` (rounded down; both are counted from 0). The file is not mapped into
memory, because the kernel kills a process that reads beyond the end of a mapped file that was truncated. So
this module reads the file with system calls.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
from pyarrow import ipc

from keyhole.intake.inventory.part import PartError

#: The number of rows in a batch. A batch takes about 150 KB. It has slightly more rows than a page of a
#: listing, so the rows of a page are in at most two batches.
BATCH_ROWS: Final = 1024
#: The space on the disk, in bytes, that must stay free for other programs.
RESERVE_BYTES: Final = 256 << 20

#: `modified` is in microseconds since 1970, UTC. Missing values are null.
SCHEMA: Final = pa.schema(
    {
        "key": pa.string(),
        "size": pa.int64(),
        "etag": pa.string(),
        "modified": pa.int64(),
        "storage_class": pa.string(),
        "version_id": pa.string(),
    }
)


class TableWriter:
    """Writes a table to a new file.

    Args:
        path: The path of the file, which must not exist yet.
        most: The maximum size of the file in bytes.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._rest = SCHEMA.empty_table()
        self.rows = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._writer = ipc.new_file(pa.PythonFile(self._file, mode="w"), SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is not None:
                return  # after an error, leave the table incomplete: the disk may be full
            self._writer.write_table(self._rest)
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())  # a renamed table must be complete even after a power failure

    def write(self, rows: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        """Add a batch of rows with the schema `SCHEMA`.

        Raises:
            PartError: The table becomes too large, or the disk has too little free space.
        """
        self.rows += rows.num_rows
        table = pa.concat_tables([self._rest, pa.Table.from_batches([rows])]).combine_chunks()
        whole = table.num_rows - table.num_rows % BATCH_ROWS
        self._writer.write_table(table.slice(0, whole), max_chunksize=BATCH_ROWS)
        self._rest = table.slice(whole)
        if self._file.tell() > self._most:
            raise PartError(f"its table exceeds {self._most} bytes, too large for a genuine inventory")
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < RESERVE_BYTES:
            raise PartError(f"{self._path.parent} has too little free space; free some space")


def read_rows(path: Path, first: int, count: int) -> tuple[list[dict[str, Any]], int]:
    """Return up to `count` rows, starting with row `first` (counted from 0), and the total number of rows.

    Raises:
        OSError: The table does not exist.
        pyarrow.ArrowException: The table is damaged.
    """
    with pa.OSFile(os.fspath(path), "rb") as file, ipc.open_file(file) as table:
        batches = table.num_record_batches
        total = (batches - 1) * BATCH_ROWS + table.get_batch(batches - 1).num_rows if batches else 0
        found: list[dict[str, Any]] = []
        for number in range(first // BATCH_ROWS, batches):
            skipped = max(0, first - number * BATCH_ROWS)
            wanted = table.get_batch(number).slice(skipped, count - len(found))
            found += wanted.to_pylist()
            if len(found) == count:
                break
    return found, total
