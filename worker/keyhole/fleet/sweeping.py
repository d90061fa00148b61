"""Starts a sweep every few seconds. A sweep finds work that was lost or is due, and publishes it again.

Every worker that consumes the housekeeping queue has a timer that publishes sweeps. A marker in Redis ensures
that all workers together publish only one sweep every few seconds.
"""

import logging
import threading
from typing import Any, Final

import redis
from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import bootsteps, current_app
from kombu.exceptions import OperationalError

from keyhole.fleet.forking import GATE
from keyhole.fleet.services import services
from keyhole.jobs.queues import HOUSEKEEPING

log = logging.getLogger(__name__)

#: Seconds between two sweeps, no matter how many workers there are.
EVERY: Final = 10
#: Seconds after which the task of a sweep expires. The worker that receives the task compares the expiry time
#: with its own clock, which can differ from the publisher's clock. So this time is long.
EXPIRES: Final = 600


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """The part of Celery's worker that publishes `keyhole.sweep` every ten seconds.

    It does not publish the task if another worker has just done so.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._timer: Any = None
        self._asking: threading.Thread | None = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer, if the worker consumes the housekeeping queue."""
        if HOUSEKEEPING in parent.app.amqp.queues.consume_from:
            self._timer = parent.timer.call_repeatedly(EVERY, self.ask)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ask(self) -> None:
        """Publish a sweep in a thread, because the event loop must not wait for Redis."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=publish_sweep, name="sweep", daemon=True)
            self._asking.start()


def publish_sweep() -> None:
    """Publish a sweep, unless another worker has published a sweep within the last few seconds."""
    try:
        with GATE.working():
            if services().ledger.claim_sweep(EVERY - 1):
                current_app.send_task("keyhole.sweep", queue=HOUSEKEEPING, expires=EXPIRES)
    except (redis.RedisError, OperationalError, AMQPError) as error:
        log.warning("a sweep could not be published: %s", error)
