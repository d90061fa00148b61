"""Defines the conversion of a part, and the error for an invalid part. A part is one file of an inventory."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The memory limit of a conversion, in bytes. Parts with 300,000 to 1,500,000 rows need 110 to 135 MB,
#: including 60 MB for importing pyarrow.
MEMORY_BYTES: Final = 2 << 30
#: The limit of CPU time for a conversion, in seconds. A million rows need two to four seconds.
CPU_SECONDS: Final = 3600


class FileFormat(StrEnum):
    """The formats of parts."""

    CSV = "csv"
    PARQUET = "parquet"
    ORC = "orc"


class PartError(Exception):
    """The part is invalid.

    Args:
        message: A text that states the problem. Error messages show this text after a colon.
        row: The number of the invalid row, counted from 1.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion of a part to a table.

    Args:
        source: The path of the downloaded and verified part.
        target: The path of the table, which must not exist yet.
        size: The length of the part in bytes. The maximum size of the table is computed from this length.
        file_format: The format of the part.
        columns: The names of the columns, if the part is a CSV.
        bucket: Only rows of this bucket are converted.
        prefix: Only rows whose keys have this prefix are converted.
        versions: Whether to convert all versions, not only the current versions.
    """

    source: str
    target: str
    size: int
    file_format: FileFormat
    columns: tuple[str, ...]
    bucket: str
    prefix: str
    versions: bool
