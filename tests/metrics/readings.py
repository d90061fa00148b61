"""Gauges with fixed values, instead of those of a Redis."""

from contextlib import nullcontext

from keyhole.metrics.gauges import StoreGauges
from keyhole.metrics.store_reader import Backlog, Reading

READING = Reading(
    undecided=3,
    workers=2,
    dead={"job": 1},
    audits=1,
    progress={"images": 0.5},
    unacknowledged={"keyhole.jobs": 4},
    idle={},
    owed={"webhook": 2},
    backlog=Backlog({"keyhole.jobs": 7}, {"keyhole.jobs": 1.5}),
)


def gauges(reading: Reading = READING) -> StoreGauges:
    """The gauges on a page, with these values."""
    return StoreGauges(lambda: reading, nullcontext)
