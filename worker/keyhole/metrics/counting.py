"""The recorder that counts with `prometheus_client`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from keyhole.intake.events import counters
from keyhole.metrics import table
from keyhole.metrics.recorder import Outcome, Phase, Recorder
from keyhole.metrics.table import Metric
from keyhole.reasons import Reason, Status

#: The upper bounds of the histograms' buckets, in seconds. If there is a backlog, a message can wait for
#: hours. A GET takes 10 to 100 ms, and a scan at most its budget.
WAIT_BUCKETS: Final = (0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14400)
SCAN_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: The value of the label `format` if no format was recognised.
NO_FORMAT: Final = "none"


class Known(NamedTuple):
    """The formats and the sinks of a process, which are values of labels."""

    formats: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()


NOTHING_KNOWN: Final = Known()


class CountingRecorder(Recorder):
    """Counts in memory, or in files that several processes share (`keyhole.metrics.processes`).

    Args:
        registry: The registry for the metrics; `None` if the counts are in files, because the page then reads
            the files.
        known: The counts that exist from the start, with the value 0. Prometheus sees no increase if a count
            appears with the value 1, so an alert would miss the first unsafe object of a format, or the first
            abandoned delivery to a sink.
    """

    counts = True

    def __init__(self, registry: CollectorRegistry | None, known: Known = NOTHING_KNOWN) -> None:
        self._registry = registry
        self._verdicts = self._counter(table.VERDICTS)
        for name in (*known.formats, NO_FORMAT):
            self._verdicts.labels(Status.UNSAFE.value, name)
        self._waits = self._histogram(table.QUEUE_WAIT, WAIT_BUCKETS)
        scans = self._histogram(table.SCAN, SCAN_BUCKETS)
        self._phases = {phase: scans.labels(phase.value) for phase in Phase}
        self._requests = self._counter(table.S3_REQUESTS)
        self._bytes = self._counter(table.S3_BYTES)
        self._errors = self._counter(table.S3_ERRORS)
        self._retries = self._counter(table.S3_RETRIES)
        self._cost = self._counter(table.S3_COST)
        self._in_flight = Gauge(
            table.IN_FLIGHT.name,
            table.IN_FLIGHT.help,
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._events = self._counter(table.EVENTS)
        self._deliveries = self._counter(table.DELIVERIES)
        for sink in known.sinks:
            for outcome in Outcome:
                self._deliveries.labels(sink, outcome.value)
        self._audited = self._counter(table.AUDIT_OBJECTS)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            metric.name,
            metric.help,
            metric.labels,
            buckets=buckets,
            registry=self._registry,
        )

    def verdict(self, status: str, image_format: str | None) -> None:
        """Count a recorded verdict."""
        self._verdicts.labels(status, image_format or NO_FORMAT).inc()

    def waited(self, seconds: float) -> None:
        """Record the time that a message waited in its queue."""
        self._waits.observe(seconds)

    def took(self, phase: Phase, seconds: float) -> None:
        """Record the time of a phase of the work on an object."""
        self._phases[phase].observe(seconds)

    def requests(self, number: int, received_bytes: int = 0) -> None:
        """Count requests to S3, and bytes of objects that S3 sent."""
        self._requests.inc(number)
        self._bytes.inc(received_bytes)

    def failures(self, errors: Mapping[Reason, int], retries: int) -> None:
        """Count failed requests to S3 by reason, and repeated requests."""
        for reason, number in errors.items():
            self._errors.labels(reason.value).inc(number)
        if retries:
            self._retries.inc(retries)

    def spent(self, dollars: float) -> None:
        """Add the estimated cost of requests to S3."""
        self._cost.inc(dollars)

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """Count an object as being scanned during the `with` block."""
        with self._in_flight.track_inprogress():
            yield

    def events(self, counts: Mapping[str, int]) -> None:
        """Count the outcomes of messages and events."""
        for outcome in counters.NAMES:
            if number := counts.get(outcome):
                self._events.labels(outcome).inc(number)

    def delivered(self, sink: str, outcome: Outcome) -> None:
        """Count a delivery of a verdict to a sink."""
        self._deliveries.labels(sink, outcome.value).inc()

    def audited(self, counts: Mapping[str, int]) -> None:
        """Count the objects of a page of an audit by their outcome."""
        for outcome in ("queued", "unchanged", "archived", "left_out"):
            if number := counts.get(outcome):
                self._audited.labels(outcome).inc(number)

    def begin_process(self) -> None:
        """Open the files of this process, and set the number of objects that it is scanning to 0.

        A killed process cannot reset this number, and the process that replaces it uses the same files.
        """
        self._in_flight.set(0)
