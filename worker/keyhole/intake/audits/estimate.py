"""Estimates the costs of an audit from a listing: the expected costs, and an upper limit.

The expected costs assume typical images. The upper limit assumes that every scan uses its full budget, and
that the tags of every object need the maximum number of requests. Neither estimate includes the cost of
retries beyond the budget, or of data transfer out of the region.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Final

from pydantic import BaseModel, ConfigDict

from keyhole.intake.audits.costs import USUAL_TAGS, TagRequests, cost_of_tags, usual_tags
from keyhole.intake.audits.prices import Prices
from keyhole.intake.listing import Listed

#: The maximum number of requests that `keyhole.results.tag_writer` sends for one object. The tag writer
#: writes tags up to four times. If the tag writer then finds that the object was replaced, it also reads the
#: tags again, removes Keyhole's tags, reads the tags once more, and checks the object once more.
MOST_TAGS: Final = TagRequests(reads=7, looks=7, writes=5)


class ClassTotals(BaseModel):
    """The number and the total size of the objects in one storage class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objects: int
    bytes: int
    #: The number of archived objects, which the audit cannot read.
    archived: int
    #: Whether the price table contains this class. If not, the estimate uses the highest prices in the table.
    priced: bool


class Spending(BaseModel):
    """The numbers of requests and bytes in an estimate, and their total cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: int
    gets: int
    #: The number of HEADs that check whether the object was replaced. The tag writer sends a HEAD before and
    #: after it writes tags.
    heads: int
    tag_reads: int
    tag_writes: int
    bytes_read: int
    dollars: float

    @property
    def requests(self) -> int:
        """The total number of requests."""
        return self.lists + self.gets + self.heads + self.tag_reads + self.tag_writes


class Estimate(BaseModel):
    """The estimate for an audit. `prices_date` and `region` are copied from the price table."""

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
        """The storage classes that the price table lacks.

        For these classes, the estimate uses the highest prices in the table.
        """
        return tuple(name for name, totals in self.classes.items() if not totals.priced)


@dataclass(slots=True)
class _Share:
    """The objects of one storage class. `read` is the expected number of bytes that scans read."""

    objects: int = 0
    bytes: int = 0
    archived: int = 0
    read: int = 0


class Estimator:
    """Adds up the expected costs of listed objects.

    Args:
        prices: The prices of requests.
        tags: Whether workers also write verdicts as tags.
        gets_per_object: The number of GETs of a typical scan.
        bytes_per_object: The number of bytes that a typical scan reads. If an object is smaller, the estimate
            uses the object's size instead.
        most_gets: The maximum number of GETs that the budget of a scan allows.
        most_bytes: The maximum number of bytes that the budget of a scan allows.
        owner: Whether the audit finds the owners of objects.
    """

    def __init__(
        self,
        prices: Prices,
        tags: bool,
        gets_per_object: float,
        bytes_per_object: int,
        most_gets: int,
        most_bytes: int,
        *,
        owner: bool = False,
    ) -> None:
        self._prices = prices
        self._usual_tags = usual_tags(tags=tags, owner=owner)
        self._most_tags = MOST_TAGS if tags else self._usual_tags
        self._gets_per_object = gets_per_object
        self._bytes_per_object = bytes_per_object
        self._most_gets = most_gets
        self._most_bytes = most_bytes
        self._lists = 0
        self._inventory_gets = 0
        self._checks = 0
        self._shares: dict[str, _Share] = {}
        self._fixes: Counter[str] = Counter()

    def listing(self, count: int, *, by_gets: bool = False) -> None:
        """Add a number of requests that list objects: GETs of an inventory, or LIST requests.

        The dry run sent these requests, and the audit would send the same number.
        """
        if by_gets:
            self._inventory_gets += count
        else:
            self._lists += count

    def check_tags(self, count: int) -> None:
        """Add a number of objects whose tags the audit itself would read.

        It would compare them with stored verdicts, or find the owners of objects that it does not scan.
        """
        self._checks += count

    def fix_tags(self, listed: Listed) -> None:
        """Add an object whose tags may have to be corrected. The estimate assumes that they have to be."""
        self._fixes[listed.storage_class] += 1

    def add(self, listed: Listed) -> None:
        """Add an object that the audit would scan. An archived object is counted, but causes no costs."""
        share = self._shares.setdefault(listed.storage_class, _Share())
        share.objects += 1
        share.bytes += listed.size
        if listed.archived:
            share.archived += 1
        else:
            share.read += min(listed.size, self._bytes_per_object)

    def result(self) -> Estimate:
        """Return the estimate for all objects that were added."""
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
                self._usual_tags,
                USUAL_TAGS,
            ),
            most=self._spending(
                {name: (share.objects - share.archived) * self._most_bytes for name, share in shares.items()},
                self._most_gets,
                self._most_tags,
                MOST_TAGS,
            ),
            prices_date=self._prices.date,
            region=self._prices.region,
        )

    def _spending(
        self, read: dict[str, int], gets_per_object: float, tags: TagRequests, per_fix: TagRequests
    ) -> Spending:
        """Compute the costs of an audit from the given numbers of requests per object.

        For each storage class, `read` contains the total number of bytes that the scans of its objects read.
        `tags` are the requests for the tags of a scanned object, and `per_fix` those that correct tags.
        """
        prices, fixes = self._prices, self._fixes.total()
        fixing = sum(n * cost_of_tags(prices, name, per_fix).dollars for name, n in self._fixes.items())
        dollars = self._lists * prices.list_request() + self._checks * prices.get_tagging() + fixing
        dollars += self._inventory_gets * prices.get("STANDARD", 0)
        for name, size in read.items():
            objects = self._shares[name].objects - self._shares[name].archived
            dollars += objects * gets_per_object * prices.get(name, 0) + prices.retrieval(name, size)
            dollars += objects * cost_of_tags(prices, name, tags).dollars
        scanned = sum(share.objects - share.archived for share in self._shares.values())
        return Spending(
            lists=self._lists,
            gets=round(scanned * gets_per_object) + self._inventory_gets,
            heads=scanned * tags.looks + fixes * per_fix.looks,
            tag_reads=scanned * tags.reads + fixes * per_fix.reads + self._checks,
            tag_writes=scanned * tags.writes + fixes * per_fix.writes,
            bytes_read=sum(read.values()),
            dollars=dollars,
        )
