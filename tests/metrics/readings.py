"""Gauges with fixed values, instead of those of a Redis."""

from contextlib import nullcontext

from keyhole.metrics.gauges import Reading, StoreGauges

READING = Reading(
    undecided=3,
    workers=2,
    dead={"job": 1},
    audits=1,
    progress={"images": 0.5},
    unacknowledged={"keyhole.jobs": 4},
    messages={"keyhole.jobs": 7},
    oldest={"keyhole.jobs": 1.5},
)


def gauges(reading: Reading = READING) -> StoreGauges:
    """The gauges on a page, with these values."""
    return StoreGauges(lambda: reading, nullcontext)
