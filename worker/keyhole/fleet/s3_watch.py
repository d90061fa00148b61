"""Checks whether this worker can use S3, when it starts and when its scans fail.

A node with a broken network or wrong credentials would take job after job and leave all of them undecided,
faster than healthy nodes scan. So a worker that cannot use S3 does not start, and a running worker that
cannot use it takes no work until it can again:

    a pool process: a circuit breaker opens ──► sets a mark in shared memory
    the worker's main process: every few seconds, if the mark is new ──► one request to S3, in a thread
                               it fails ──► consume no queue, ask again; it succeeds ──► consume them again

If S3 answers but fails for one bucket, the circuit breaker of that bucket is enough (`jobs.breaker`).
"""

import logging
import mmap
import struct
import threading
import time
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from celery import bootsteps

from keyhole.fleet.forking import GATE
from keyhole.fleet.loop_watch import HEARTBEAT
from keyhole.fleet.services import services
from keyhole.reasons import Reason
from keyhole.sources.deadline import deadline
from keyhole.sources.errors import ConfigurationError, SourceError, TransientError, UnreadableError
from keyhole.sources.s3 import S3Access
from keyhole.sources.s3_metadata import http_status
from keyhole.sources.s3_refusal import explain

log = logging.getLogger(__name__)

#: Seconds between two checks of the mark, and the longest time of a request to S3.
EVERY, LONGEST_REQUEST = 5.0, 10.0
#: The requests of a starting worker, and the seconds between them.
START_ATTEMPTS, START_PAUSE = 3, 2.0

#: The error of a request that timed out.
UNANSWERED: Final = TransientError(
    Reason.NETWORK,
    f"no answer within {LONGEST_REQUEST:g} s; check KEYHOLE_S3_ENDPOINT_URL, the proxy and the firewall",
)
_NO_CREDENTIALS: Final = (
    "no credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or run where a role is attached"
)


class TroubleMark:
    """The time of a pool process's last trouble with S3, in memory that it shares with the main process."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))

    def set(self) -> None:
        """Set the time to now."""
        struct.pack_into("d", self._memory, 0, time.monotonic())

    @property
    def seconds_ago(self) -> float:
        """Seconds since the last trouble; infinite if there was none."""
        (at,) = struct.unpack_from("d", self._memory, 0)
        return time.monotonic() - at if at else float("inf")


#: Made before the pool is forked, so that all of its processes share it.
TROUBLE: Final = TroubleMark()


def why_unusable(endpoint_url: str | None, region: str | None, *, attempts: int = 1) -> str | None:
    """Return why S3 cannot be used from here, in a sentence; `None` if it can.

    The request is ListBuckets. A denial shows that S3 can be used. The request has a client of its own: a
    process must not fork after it has used the shared one.
    """
    for attempt in range(attempts):
        if attempt:
            time.sleep(START_PAUSE)
        trouble = _ask(S3Access(endpoint_url=endpoint_url, region=region, connections=1))
        if not isinstance(trouble, TransientError):
            break
    return None if trouble is None else str(trouble)


def _ask(access: S3Access) -> SourceError | None:
    try:
        if access.credentials_from is None:
            return ConfigurationError(Reason.CREDENTIALS, _NO_CREDENTIALS)
        client = access.client
    except SourceError as error:
        return error
    try:
        with deadline(LONGEST_REQUEST) as timer:
            client.list_buckets(MaxBuckets=1)
    except (ClientError, BotoCoreError, HTTPClientError, ValueError) as error:
        found = UNANSWERED if timer.expired else explain(error)
        answered = isinstance(error, ClientError) and (
            isinstance(found, UnreadableError) or found.reason == Reason.REQUEST or _is_unsupported(error)
        )
        return None if answered else found
    finally:
        client.close()
    return None


def _is_unsupported(error: ClientError) -> bool:
    """Whether the server has no ListBuckets."""
    return http_status(error.response) in {405, 501}


class S3WatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """Stops consuming while S3 cannot be used from here."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._consumer = parent
        self._timer: Any = None
        self._asking: threading.Thread | None = None
        self._answer: list[str | None] = []
        self._resting: tuple[str, ...] = ()

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer when the worker consumes its queues."""
        self._timer = parent.timer.call_repeatedly(EVERY, self.look)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Ask S3 if there was trouble, and act on its last answer. This runs on the worker's event loop."""
        if self._answer:
            self._act(self._answer.pop())
        asking = self._asking is not None and self._asking.is_alive()
        if not asking and (self._resting or TROUBLE.seconds_ago < 2 * EVERY):
            self._asking = threading.Thread(target=self._ask, name="s3-watch", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        settings = services().settings
        with GATE.working():
            self._answer.append(why_unusable(settings.s3_endpoint_url, settings.s3_region))

    def _act(self, trouble: str | None) -> None:
        if trouble is not None and not self._resting:
            self._resting = tuple(self._consumer.app.amqp.queues.consume_from)
            log.error("this worker takes no work, because S3 cannot be used from here: %s", trouble)
            HEARTBEAT.status = f"it takes no work, because S3 cannot be used from here: {trouble}"
            for queue in self._resting:
                self._consumer.cancel_task_queue(queue)
        elif trouble is None and self._resting:
            log.warning("this worker takes work again: S3 can be used again")
            HEARTBEAT.status = ""
            for queue in self._resting:
                self._consumer.add_task_queue(queue)
            self._resting = ()
