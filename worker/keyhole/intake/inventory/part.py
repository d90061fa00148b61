"""A part of an inventory: its format, how it is converted, and its errors."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: A part of 300,000 to 1,500,000 rows takes 110 to 135 MB, of which importing pyarrow takes 60.
MEMORY_BYTES: Final = 2 << 30
#: A million rows take two to four seconds.
CPU_SECONDS: Final = 3600


class FileFormat(StrEnum):
    """The formats of parts."""

    CSV = "csv"
    PARQUET = "parquet"
    ORC = "orc"


class PartError(Exception):
    """A part is invalid.

    Args:
        message: The problem, in words that fit after a colon.
        row: The number of the row, from 1.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion of a part to a table.

    Args:
        source: The downloaded and verified part.
        target: The file of the table, which does not exist yet.
        size: The length of the part in bytes, which limits the size of the table.
        file_format: The format of the part.
        columns: The columns of a CSV.
        bucket: The bucket whose objects are wanted; rows of others are left out.
        prefix: The prefix of wanted keys.
        versions: Whether all versions are wanted, not only the current ones.
    """

    source: str
    target: str
    size: int
    file_format: FileFormat
    columns: tuple[str, ...]
    bucket: str
    prefix: str
    versions: bool
