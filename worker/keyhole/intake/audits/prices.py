"""The prices of S3 requests in dollars, from a TOML file: the shipped one, or the user's own.

A file of one's own is whole: it takes nothing from the one that is shipped. What the prices are, where they
come from, and how a file looks, is in `prices.toml`.
"""

from datetime import date
from functools import cached_property
from importlib import resources
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from keyhole.toml_files import parse_as, read_text

#: S3 bills by GB of so many bytes: "Converting usage byte-hours to billed GB-months" in its user guide.
GB: Final = 2**30

#: A thousand requests or a GB for a million dollars is a typing error.
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
    #: By storage class, as ListObjectsV2 names them.
    classes: dict[str, ClassPrices] = Field(min_length=1)

    def knows(self, storage_class: str) -> bool:
        """Whether a class has prices of its own. Others have those of the most expensive class."""
        return storage_class in self.classes

    def get(self, storage_class: str, size: int) -> float:
        """A GET that answers so many bytes; of no byte: also a HEAD, or a GET that is refused."""
        return self._of(storage_class).get_per_1000 / 1000 + self.retrieval(storage_class, size)

    def retrieval(self, storage_class: str, size: int) -> float:
        """The price of reading so many bytes, without that of the requests."""
        return self._of(storage_class).retrieval_per_gb * size / GB

    def list_request(self) -> float:
        """A LIST, of up to 1,000 objects or versions."""
        return self.list_per_1000 / 1000

    def put_tagging(self) -> float:
        """A PutObjectTagging."""
        return self.put_tagging_per_1000 / 1000

    def get_tagging(self) -> float:
        """A GetObjectTagging."""
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
    """The prices of a file; those that are shipped if there is none.

    Raises:
        FileError: It cannot be read, or is not valid.
    """
    if path is None:
        return parse_as(Prices, shipped_text(), "prices.toml")
    return parse_as(Prices, read_text(path, "cannot be read"), path)


def shipped_text() -> str:
    """The shipped prices as they are written, their sources in comments."""
    return resources.files("keyhole.intake.audits").joinpath("prices.toml").read_text(encoding="utf-8")
