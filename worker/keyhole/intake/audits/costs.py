"""Computes the requests and dollars that audits cost: estimates before a scan, and exact numbers after it."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from keyhole.intake.audits.prices import Prices
from keyhole.results.tag_writer import TagRequest

#: The numbers of GETs and bytes of a typical scan. Both numbers are a little higher than the averages in the
#: table of `keyhole docs cost` (2.6 GETs and 726 KiB), so that an estimate is too high rather than too low.
GETS_PER_OBJECT: Final = 3
BYTES_PER_OBJECT: Final = 896 * 1024


class TagRequests(NamedTuple):
    """The requests for tagging one object. `looks` are HEADs that check whether the object was replaced."""

    reads: int
    looks: int
    writes: int


#: The usual requests for the tags of one object. `keyhole.results.tag_writer` reads the tags, checks whether
#: the object was replaced, and writes the tags. Then it reads the tags and checks the object once more. (The
#: writer does not check versions, because a version cannot be replaced.)
USUAL_TAGS: Final = TagRequests(reads=2, looks=2, writes=1)
#: The request that finds an object's owner, if the worker does not write tags. (If it does, it reads the tags
#: anyway.)
OWNER_TAGS: Final = TagRequests(reads=1, looks=0, writes=0)
NO_TAGS: Final = TagRequests(0, 0, 0)


class Cost(NamedTuple):
    """A number of requests, and their price in dollars.

    The price includes the price of the bytes that were read.
    """

    requests: int
    dollars: float

    def plus(self, other: "Cost") -> Self:
        """Return the sum of two costs."""
        return self._replace(requests=self.requests + other.requests, dollars=self.dollars + other.dollars)


NOTHING: Final = Cost(0, 0)


def cost_of_listing(prices: Prices, count: int, *, by_gets: bool) -> Cost:
    """Return the cost of `count` requests that list objects: GETs of an inventory, or LIST requests."""
    return Cost(count, count * (prices.get("STANDARD", 0) if by_gets else prices.list_request()))


def cost_of_comparisons(prices: Prices, requests: int) -> Cost:
    """Return the cost of the requests that read tags to compare them or to find an owner."""
    return Cost(requests, requests * prices.get_tagging())


def usual_tags(*, tags: bool, owner: bool) -> TagRequests:
    """Return the usual requests for the tags of a scanned object.

    `tags` states whether the worker writes the verdict as tags, and `owner` whether it finds the object's
    owner.
    """
    if tags:
        return USUAL_TAGS
    return OWNER_TAGS if owner else NO_TAGS


def expected_cost(prices: Prices, storage_class: str, size: int, *, tags: bool, owner: bool = False) -> Cost:
    """Return the expected cost of scanning an object.

    Args:
        prices: The table of prices.
        storage_class: The name of the object's storage class in ListObjectsV2.
        size: The object's size in bytes.
        tags: Whether the worker also writes the verdict as tags.
        owner: Whether the worker also finds the object's owner.
    """
    asked = usual_tags(tags=tags, owner=owner)
    dollars = GETS_PER_OBJECT * prices.get(storage_class, 0)
    dollars += prices.retrieval(storage_class, min(size, BYTES_PER_OBJECT))
    return Cost(GETS_PER_OBJECT, dollars).plus(cost_of_tags(prices, storage_class, asked))


def cost_of_tags(prices: Prices, storage_class: str, requests: TagRequests = USUAL_TAGS) -> Cost:
    """Return the cost of writing an object's tags, by default with the usual requests."""
    dollars = requests.reads * prices.get_tagging() + requests.writes * prices.put_tagging()
    return Cost(sum(requests), dollars + requests.looks * prices.get(storage_class, 0))


def cost_of_scan(
    prices: Prices, storage_class: str, requests: int, bytes_read: int, tagging: Sequence[TagRequest]
) -> Cost:
    """Return the actual cost of a scan, including the requests that read and wrote the object's tags."""
    dollars = requests * prices.get(storage_class, 0) + prices.retrieval(storage_class, bytes_read)
    for request in tagging:
        match request:
            case TagRequest.WRITE:
                dollars += prices.put_tagging()
            case TagRequest.READ:
                dollars += prices.get_tagging()
            case TagRequest.LOOK:
                dollars += prices.get(storage_class, 0)
    return Cost(requests + len(tagging), dollars)
