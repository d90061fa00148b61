"""The prices of S3 requests in dollars, from a TOML file: the shipped one, or the user's own.

A user's file must be complete: it takes nothing from the shipped one. `prices.toml` shows the prices, their
sources, and the form of a file.
"""

from datetime import date
from functools import cached_property
from importlib import resources
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from keyhole.toml_files import parse_as, read_text

#: The bytes of a GB on S3's bill: "Converting usage byte-hours to billed GB-months" in its user guide.
GB: Final = 2**30

#: A price above a million dollars, for a thousand requests or a GB, is a typing error.
Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)]


class ClassPrices(BaseModel):
    """The prices of reads in one storage class, in dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    get_per_1000: Dollars
    retrieval_per_gb: Dollars


class Prices(BaseModel):
    """A table of prices. Its methods are in dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: When they were looked up, for which region, and where.
    date: date
    region: str = Field(min_length=1)
    source: str = Field(min_length=1)
    currency: Literal["USD"]
    list_per_1000: Dollars
    put_tagging_per_1000: Dollars
    get_tagging_per_1000: Dollars
    #: Prices by storage class. The names are those of ListObjectsV2.
    classes: dict[str, ClassPrices] = Field(min_length=1)

    def knows(self, storage_class: str) -> bool:
        """Whether a class has its own prices. Others get the prices of the most expensive class."""
        return storage_class in self.classes

    def get(self, storage_class: str, size: int) -> float:
        """The price of a GET that returns `size` bytes; with 0, also of a HEAD or a refused GET."""
        return self._of(storage_class).get_per_1000 / 1000 + self.retrieval(storage_class, size)

    def retrieval(self, storage_class: str, size: int) -> float:
        """The price of reading `size` bytes, without the price of the requests."""
        return self._of(storage_class).retrieval_per_gb * size / GB

    def list_request(self) -> float:
        """The price of a LIST of up to 1,000 objects or versions."""
        return self.list_per_1000 / 1000

    def put_tagging(self) -> float:
        """The price of a PutObjectTagging."""
        return self.put_tagging_per_1000 / 1000

    def get_tagging(self) -> float:
        """The price of a GetObjectTagging."""
        return self.get_tagging_per_1000 / 1000

    def _of(self, storage_class: str) -> ClassPrices:
        return self.classes.get(storage_class, self._dearest)

    @cached_property
    def _dearest(self) -> ClassPrices:
        """The highest price of each kind over all classes, so that no estimate is too low."""
        known = self.classes.values()
        return ClassPrices(
            get_per_1000=max(prices.get_per_1000 for prices in known),
            retrieval_per_gb=max(prices.retrieval_per_gb for prices in known),
        )


def load_prices(path: str | None) -> Prices:
    """Return the prices of a file; without a file, the shipped ones.

    Raises:
        FileError: It cannot be read, or is not valid.
    """
    if path is None:
        return parse_as(Prices, shipped_text(), "prices.toml")
    return parse_as(Prices, read_text(path, "cannot be read"), path)


def shipped_text() -> str:
    """The shipped prices as they are written, their sources in comments."""
    return resources.files("keyhole.intake.audits").joinpath("prices.toml").read_text(encoding="utf-8")
