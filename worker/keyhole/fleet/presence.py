"""Records every few seconds that this worker takes work (`keyhole.jobs.presence`)."""

import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import redis
from celery import bootsteps

from keyhole.fleet.forking import GATE
from keyhole.fleet.services import services
from keyhole.jobs.presence import BEAT_SECONDS, Presence

log = logging.getLogger(__name__)


class PresenceStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """The part of Celery's worker that records its presence while it consumes queues."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._consumer = parent
        self._timer: Any = None
        self._beating: threading.Thread | None = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer when the worker begins to consume its queues."""
        self.beat()
        self._timer = parent.timer.call_repeatedly(BEAT_SECONDS, self.beat)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Record that this worker takes no more work. If Redis fails, the record expires."""
        with suppress(redis.RedisError):
            Presence(services().redis).leave(parent.hostname)

    def beat(self) -> None:
        """Record the presence in a thread, because the event loop must not wait for Redis.

        A worker that cannot use S3 consumes no queues, and is not present.
        """
        if self._queues and (self._beating is None or not self._beating.is_alive()):
            self._beating = threading.Thread(target=self._beat, name="presence", daemon=True)
            self._beating.start()

    @property
    def _queues(self) -> Iterable[str]:
        """The names of the queues that this worker consumes."""
        queues: Mapping[str, object] = self._consumer.app.amqp.queues.consume_from
        return queues.keys()

    def _beat(self) -> None:
        try:
            with GATE.working():
                ours = services()
                Presence(ours.redis).beat(
                    self._consumer.hostname, ours.ruleset, ours.settings.sinks, list(self._queues)
                )
        except redis.RedisError as error:
            log.debug("the presence of this worker could not be recorded: %s", error)
