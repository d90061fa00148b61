"""Estimates the costs of an audit from a listing: the expected costs, and an upper limit.

The expected costs are those of usual images. The upper limit has the full budget of a scan for every
object, and the most requests for its tags. Both leave out retries beyond the budget, and transfer out of
the region. The caller only adds objects that would be scanned.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from pydantic import BaseModel, ConfigDict

from keyhole.intake.audits.costs import USUAL_TAGS, TagRequests
from keyhole.intake.audits.prices import Prices
from keyhole.intake.listing import Listed

#: `keyhole.results.tag_writer` writes tags up to four times. If the object was replaced by then, it
#: reads the tags again, removes its own, reads them back and looks at the object.
MOST_TAGS: Final = TagRequests(reads=7, looks=7, writes=5)
NO_TAGS: Final = TagRequests(0, 0, 0)


class ClassTotals(BaseModel):
    """The objects of one storage class, and their bytes as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objects: int
    bytes: int
    #: How many of those objects must be restored first. They are not read.
    archived: int
    #: Whether the class has its own prices. If not, it gets the prices of the most expensive class.
    priced: bool


class Spending(BaseModel):
    """Requests, bytes read, and what all of it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: int
    gets: int
    #: HEADs, which find out whether the object was replaced before it gets its tags.
    heads: int
    tag_reads: int
    tag_writes: int
    bytes_read: int
    dollars: float

    @property
    def requests(self) -> int:
        """The number of all requests."""
        return self.lists + self.gets + self.heads + self.tag_reads + self.tag_writes


class Estimate(BaseModel):
    """The estimate of an audit. `prices_date` and `region` are those of the prices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objects: int
    bytes: int
    archived: int
    classes: dict[str, ClassTotals]
    expected: Spending
    most: Spending
    prices_date: date
    region: str

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Storage classes without prices, for which those of the most expensive class are used."""
        return tuple(name for name, totals in self.classes.items() if not totals.priced)


@dataclass(slots=True)
class _Share:
    """The objects of one storage class. `read` is the expected number of bytes."""

    objects: int = 0
    bytes: int = 0
    archived: int = 0
    read: int = 0


class Estimator:
    """Adds up what is listed.

    Args:
        prices: What requests cost.
        tags: Whether verdicts are written as tags, too.
        gets_per_object: GETs that a usual scan takes.
        bytes_per_object: Bytes that a usual scan reads, or fewer if the object is smaller.
        most_gets: GETs that a scan may take by its budget.
        most_bytes: Bytes that a scan may read by its budget.
    """

    def __init__(
        self,
        prices: Prices,
        tags: bool,
        gets_per_object: float,
        bytes_per_object: int,
        most_gets: int,
        most_bytes: int,
    ) -> None:
        self._prices = prices
        self._tags = tags
        self._gets_per_object = gets_per_object
        self._bytes_per_object = bytes_per_object
        self._most_gets = most_gets
        self._most_bytes = most_bytes
        self._lists = 0
        self._checks = 0
        self._shares: dict[str, _Share] = {}

    def lists(self, count: int) -> None:
        """Count LISTs that were made, and that the audit would make again."""
        self._lists += count

    def check_tags(self, count: int) -> None:
        """Count objects whose verdicts still stand, and whose tags would be compared with the verdicts."""
        self._checks += count

    def add(self, listed: Listed) -> None:
        """Add an object that would be scanned. An archived one is counted and not read."""
        share = self._shares.setdefault(listed.storage_class, _Share())
        share.objects += 1
        share.bytes += listed.size
        if listed.archived:
            share.archived += 1
        else:
            share.read += min(listed.size, self._bytes_per_object)

    def result(self) -> Estimate:
        """Return the estimate of all added objects."""
        shares = {name: self._shares[name] for name in sorted(self._shares)}
        return Estimate(
            objects=sum(share.objects for share in shares.values()),
            bytes=sum(share.bytes for share in shares.values()),
            archived=sum(share.archived for share in shares.values()),
            classes={
                name: ClassTotals(
                    objects=share.objects,
                    bytes=share.bytes,
                    archived=share.archived,
                    priced=self._prices.knows(name),
                )
                for name, share in shares.items()
            },
            expected=self._spending(
                {name: share.read for name, share in shares.items()},
                self._gets_per_object,
                USUAL_TAGS,
            ),
            most=self._spending(
                {name: (share.objects - share.archived) * self._most_bytes for name, share in shares.items()},
                self._most_gets,
                MOST_TAGS,
            ),
            prices_date=self._prices.date,
            region=self._prices.region,
        )

    def _spending(self, read: dict[str, int], gets_per_object: float, tags: TagRequests) -> Spending:
        """The costs of reading these bytes of each class, with `gets_per_object` requests per object."""
        prices, tags = self._prices, tags if self._tags else NO_TAGS
        dollars = self._lists * prices.list_request() + self._checks * prices.get_tagging()
        for name, size in read.items():
            objects = self._shares[name].objects - self._shares[name].archived
            asked = objects * (gets_per_object + tags.looks) * prices.get(name, 0)
            tagging = tags.reads * prices.get_tagging() + tags.writes * prices.put_tagging()
            dollars += asked + prices.retrieval(name, size) + objects * tagging
        scanned = sum(share.objects - share.archived for share in self._shares.values())
        return Spending(
            lists=self._lists,
            gets=round(scanned * gets_per_object),
            heads=scanned * tags.looks,
            tag_reads=scanned * tags.reads + self._checks,
            tag_writes=scanned * tags.writes,
            bytes_read=sum(read.values()),
            dollars=dollars,
        )
