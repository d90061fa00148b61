"""Requests and dollars that an audit's work takes: expected before it is done, and counted afterwards."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from keyhole.intake.audits.prices import Prices
from keyhole.results.tag_writer import TagRequest

#: GETs and bytes of a usual scan: the averages of the table in `keyhole docs cost`, rounded up (2.5 and
#: 824 KiB).
GETS_PER_OBJECT: Final = 3
BYTES_PER_OBJECT: Final = 896 * 1024


class TagRequests(NamedTuple):
    """Requests that it takes to tag one object."""

    reads: int
    looks: int
    writes: int


#: `keyhole.results.tag_writer` reads, looks whether the object is the same, writes, reads back, looks again.
#: (It need not look at a version.)
USUAL_TAGS: Final = TagRequests(reads=2, looks=2, writes=1)


class Cost(NamedTuple):
    """Requests, and the dollars for them and for the bytes that they read."""

    requests: int
    dollars: float

    def plus(self, other: "Cost") -> Self:
        """Return the sum of two costs."""
        return self._replace(requests=self.requests + other.requests, dollars=self.dollars + other.dollars)


NOTHING: Final = Cost(0, 0)


def cost_of_lists(prices: Prices, count: int) -> Cost:
    """Return what LIST requests cost."""
    return Cost(count, count * prices.list_request())


def cost_of_comparisons(prices: Prices, requests: int) -> Cost:
    """Return the cost of the requests that compare tags with a verdict."""
    return Cost(requests, requests * prices.get_tagging())


def expected_cost(prices: Prices, storage_class: str, size: int, *, tags: bool) -> Cost:
    """Return what a usual scan of an object costs.

    Args:
        prices: The table of prices.
        storage_class: The object's class, by its name in ListObjectsV2.
        size: The object's size in bytes.
        tags: Whether the verdict is written as tags, too.
    """
    dollars = GETS_PER_OBJECT * prices.get(storage_class, 0)
    dollars += prices.retrieval(storage_class, min(size, BYTES_PER_OBJECT))
    if not tags:
        return Cost(GETS_PER_OBJECT, dollars)
    dollars += USUAL_TAGS.reads * prices.get_tagging() + USUAL_TAGS.writes * prices.put_tagging()
    dollars += USUAL_TAGS.looks * prices.get(storage_class, 0)
    return Cost(GETS_PER_OBJECT + sum(USUAL_TAGS), dollars)


def cost_of_scan(
    prices: Prices, storage_class: str, requests: int, bytes_read: int, tagging: Sequence[TagRequest]
) -> Cost:
    """Return what a scan cost, with the requests that wrote its tags."""
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
