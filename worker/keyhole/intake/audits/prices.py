"""Reads the prices of S3 requests in dollars from a TOML file: the shipped file, or a file of the user.

A user's file must contain all prices, because it replaces the shipped file completely. `prices.toml`
documents the format, and contains the prices and their sources.
"""

from datetime import date
from functools import cached_property
from importlib import resources
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from keyhole.toml_files import parse_as, read_text

#: The number of bytes in a GB on S3's bill (S3's user guide, "Converting usage byte-hours to billed
#: GB-months").
GB: Final = 2**30

#: A price. A price of more than a million dollars, for a thousand requests or for a GB, must be a typing
#: error, so it is refused.
Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)]


class ClassPrices(BaseModel):
    """The prices, in dollars, for reading objects of one storage class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    get_per_1000: Dollars
    retrieval_per_gb: Dollars


class Prices(BaseModel):
    """A table of prices. All prices are in dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The date on which the prices were looked up, their region, and their source.
    date: date
    region: str = Field(min_length=1)
    source: str = Field(min_length=1)
    currency: Literal["USD"]
    list_per_1000: Dollars
    put_tagging_per_1000: Dollars
    get_tagging_per_1000: Dollars
    #: The prices for each storage class. The names of the classes are those in ListObjectsV2.
    classes: dict[str, ClassPrices] = Field(min_length=1)

    def knows(self, storage_class: str) -> bool:
        """Return whether the table contains a storage class.

        If not, the other methods use the highest prices in the table.
        """
        return storage_class in self.classes

    def get(self, storage_class: str, size: int) -> float:
        """Return the price of a GET that returns `size` bytes.

        A HEAD or a refused GET costs as much as a GET that returns 0 bytes.
        """
        return self._of(storage_class).get_per_1000 / 1000 + self.retrieval(storage_class, size)

    def retrieval(self, storage_class: str, size: int) -> float:
        """Return the price of reading `size` bytes, without the price of the requests."""
        return self._of(storage_class).retrieval_per_gb * size / GB

    def list_request(self) -> float:
        """Return the price of a LIST of up to 1,000 objects or versions."""
        return self.list_per_1000 / 1000

    def put_tagging(self) -> float:
        """Return the price of a PutObjectTagging."""
        return self.put_tagging_per_1000 / 1000

    def get_tagging(self) -> float:
        """Return the price of a GetObjectTagging."""
        return self.get_tagging_per_1000 / 1000

    def _of(self, storage_class: str) -> ClassPrices:
        return self.classes.get(storage_class, self._dearest)

    @cached_property
    def _dearest(self) -> ClassPrices:
        """The highest prices of all classes, so that the estimate for an unknown class is not too low."""
        known = self.classes.values()
        return ClassPrices(
            get_per_1000=max(prices.get_per_1000 for prices in known),
            retrieval_per_gb=max(prices.retrieval_per_gb for prices in known),
        )


def load_prices(path: str | None) -> Prices:
    """Return the prices in a file. If `path` is `None`, return the shipped prices.

    Raises:
        FileError: The file cannot be read, or is not valid.
    """
    if path is None:
        return parse_as(Prices, shipped_text(), "prices.toml")
    return parse_as(Prices, read_text(path, "cannot be read"), path)


def shipped_text() -> str:
    """Return the text of the shipped `prices.toml`, with its comments about sources."""
    return resources.files("keyhole.intake.audits").joinpath("prices.toml").read_text(encoding="utf-8")
