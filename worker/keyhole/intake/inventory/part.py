"""A part of an inventory: how it is written, what is to be made of it, and what may be wrong with it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: A part takes 110 to 135 MB, be it of 300,000 rows or of 1,500,000; importing pyarrow is 60 of them.
MEMORY_BYTES: Final = 2 << 30
#: A million rows take two to four seconds.
CPU_SECONDS: Final = 3600


class FileFormat(StrEnum):
    """How parts are written."""

    CSV = "csv"
    PARQUET = "parquet"
    ORC = "orc"


class PartError(Exception):
    """A part that is not what it should be.

    Args:
        message: What is wrong with it, in words that fit behind a colon.
        row: Where, counted from 1.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to make of a part.

    Args:
        source: The part, as it was downloaded and verified.
        target: Where the table is written; it does not exist yet.
        size: The part's length in bytes, by which what comes of it is bounded.
        file_format: How the part is written.
        columns: The columns of a CSV.
        bucket: The bucket whose objects are wanted; rows of others are left out.
        prefix: How wanted keys begin.
        versions: Whether all versions are wanted, not the current ones.
    """

    source: str
    target: str
    size: int
    file_format: FileFormat
    columns: tuple[str, ...]
    bucket: str
    prefix: str
    versions: bool
