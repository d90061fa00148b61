"""Gauges about all of Keyhole, which a process reads from Redis and from the broker for each page.

A page waits for the servers for at most `WAIT_SECONDS`. So the page always answers soon, even if Redis, the
broker or the name server does not. If Redis does not answer, the page has `keyhole_store_up 0` and none of
the other gauges. If the broker is another server and does not answer, the numbers of messages are missing.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyhole.metrics import table
from keyhole.metrics.background import Background
from keyhole.metrics.store_reader import Backlog, Reading, oldest_seconds
from keyhole.metrics.table import Metric

#: The longest time, in seconds, for which a page waits for the gauges.
WAIT_SECONDS: Final = 2.0


class StoreGauges(Collector):
    """The gauges on the page.

    Args:
        read: Reads the gauges from Redis.
        guard: Each thread reads in a `with guard()` block.
        read_broker: If the broker is another server, reads the lengths of its queues.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        guard: Callable[[], AbstractContextManager[None]],
        read_broker: Callable[[], Backlog] | None = None,
    ) -> None:
        self._store = Background("Redis", read, guard)
        self._broker = None if read_broker is None else Background("the broker", read_broker, guard)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        until = time.monotonic() + WAIT_SECONDS
        self._store.begin()
        if self._broker is not None:
            self._broker.begin()
        reading = self._store.value(until)
        yield _gauge(table.STORE_UP, {(): float(reading is not None)})
        if reading is None:
            return
        backlog = reading.backlog if self._broker is None else self._broker.value(until)
        if backlog is not None:
            yield _gauge(table.QUEUE_MESSAGES, _by_label(backlog.messages))
        # Without the broker, the ledger still has the ages.
        ages = reading.idle if backlog is None else oldest_seconds(backlog, reading)
        yield _gauge(table.QUEUE_OLDEST, _by_label(ages))
        yield _gauge(table.QUEUE_UNACKNOWLEDGED, _by_label(reading.unacknowledged))
        yield _gauge(table.UNDECIDED, {(): reading.undecided})
        yield _gauge(table.DEAD, _by_label(reading.dead))
        yield _gauge(table.OWED, _by_label(reading.owed))
        yield _gauge(table.WORKERS, {(): reading.workers})
        yield _gauge(table.AUDITS, {(): reading.audits})
        yield _gauge(table.AUDIT_PROGRESS, _by_label(reading.progress))


def _by_label(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(label,): value for label, value in values.items()}


def _gauge(metric: Metric, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
