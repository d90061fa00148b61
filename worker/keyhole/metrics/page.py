"""Counts the metrics of a process, and serves them together with the gauges."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from prometheus_client import CollectorRegistry, disable_created_metrics, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyhole.metrics import table
from keyhole.metrics.counting import NOTHING_KNOWN, CountingRecorder, Known
from keyhole.metrics.gauges import StoreGauges
from keyhole.metrics.processes import FileRecorder, FilesCollector, process_files
from keyhole.metrics.recorder import Recorder, use_recorder
from keyhole.metrics.server import served


class _Build(Collector):
    def __init__(self, version: str, role: str) -> None:
        self._labels = (version, role)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(table.BUILD.name, table.BUILD.help, labels=table.BUILD.labels)
        family.add_metric(self._labels, 1)
        yield family


@contextmanager
def metrics_page(
    place: tuple[str, int],
    gauges: StoreGauges,
    *,
    version: str,
    role: str,
    guard: Callable[[], AbstractContextManager[None]],
    known: Known = NOTHING_KNOWN,
    slot: Callable[[], str] | None = None,
) -> Iterator[int]:
    """Count the metrics of this process, and serve them, during the `with` block. Yield the port.

    Args:
        place: The address and the port to listen on; port 0 for a free port.
        gauges: The gauges that are read from Redis.
        version: The version of Keyhole.
        role: The role of this process: worker, listener or scheduler.
        guard: See `keyhole.metrics.server.served`.
        known: See `CountingRecorder`.
        slot: Returns the slot of the calling process, if this process forks processes that also count;
            otherwise `None`.

    Raises:
        OSError: The address cannot be used, or the private folder cannot be created.
    """
    # Without this call, prometheus_client would add a gauge with the time of creation for each counter of a
    # single process.
    disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus_client's
    registry = CollectorRegistry()
    registry.register(gauges)
    registry.register(_Build(version, role))
    counting: Recorder
    with ExitStack() as stack:
        if slot is None:
            counting = CountingRecorder(registry, known)
        else:
            before = values.ValueClass
            files = stack.enter_context(process_files(slot))
            stack.callback(setattr, values, "ValueClass", before)
            counting = FileRecorder(files, known)
            registry.register(FilesCollector(files))
        port = stack.enter_context(served(*place, registry, guard))
        use_recorder(counting)
        stack.callback(use_recorder, Recorder())
        yield port
