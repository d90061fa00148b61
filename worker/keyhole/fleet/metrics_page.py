"""Serves the page of metrics of a worker, a listener or a scheduler, if the settings name a port."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from billiard.process import current_process
from celery import Celery

from keyhole import __version__
from keyhole.errors import KeyholeError
from keyhole.fleet.forking import GATE
from keyhole.inspectors.catalogue import NAMES
from keyhole.settings import Settings

if TYPE_CHECKING:
    from keyhole.metrics.gauges import StoreGauges

#: The longest wait, in seconds, for one response of Redis or of the broker.
ANSWER_SECONDS: Final = 1.0
#: The slot of a process that is not a pool process (`keyhole.metrics.processes`).
MAIN: Final = "main"
#: The role whose processes fork processes that also count.
WORKER: Final = "worker"


class MetricsPortError(KeyholeError):
    """The page of metrics cannot be served."""

    is_usage = True


@contextmanager
def metrics_served(app: Celery, settings: Settings, *, role: str) -> Iterator[None]:
    """Serve the page of metrics during the `with` block, if `KEYHOLE_METRICS_PORT` is set.

    Args:
        app: The configured Celery application.
        settings: The settings, which name a Redis.
        role: The role of this process: worker, listener or scheduler. The page of a worker also contains the
            metrics of its pool processes.

    Raises:
        MetricsPortError: The address cannot be used.
    """
    if settings.metrics_port is None:
        yield
        return
    # Import prometheus_client only if metrics are on.
    from keyhole.metrics.counting import Known  # noqa: PLC0415
    from keyhole.metrics.page import metrics_page  # noqa: PLC0415

    page = metrics_page(
        (settings.metrics_host, settings.metrics_port),
        _gauges(app, settings),
        version=__version__,
        role=role,
        guard=GATE.working,
        known=Known(NAMES, tuple(sink for sink in settings.sinks if sink != "redis")),
        slot=_slot if role == WORKER else None,
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(page)
        except OSError as error:
            raise MetricsPortError(
                f"metrics cannot be served at {settings.metrics_host}:{settings.metrics_port} "
                f"({error.strerror or error}); change KEYHOLE_METRICS_PORT or KEYHOLE_METRICS_HOST"
            ) from error
        yield


def _slot() -> str:
    """Return the number of this pool process. The process that replaces it gets the same number."""
    index = getattr(current_process(), "index", None)
    return MAIN if index is None else str(index)


def _gauges(app: Celery, settings: Settings) -> "StoreGauges":
    from keyhole.fleet.gauge_sources import gauge_sources  # noqa: PLC0415 - as above
    from keyhole.metrics.gauges import StoreGauges  # noqa: PLC0415 - as above

    read, read_broker = gauge_sources(app, settings, answer_seconds=ANSWER_SECONDS)
    return StoreGauges(read, GATE.working, read_broker)
