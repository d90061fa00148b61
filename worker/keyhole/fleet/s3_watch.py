"""Checks whether this worker can use S3: when the worker starts, and when its scans fail.

If a worker's network is broken or its credentials are wrong, all its scans fail. A scan that fails ends
sooner than a scan that succeeds, so this worker would take most of the jobs. Therefore a worker that cannot
use S3 does not start. A running worker that cannot use S3 stops consuming its queues until it can use S3
again:

    a pool process: a circuit breaker opens ──► it sets a mark in shared memory
    the main process, every few seconds: the mark is new ──► a thread sends one request to S3
                        the request fails ──► consume no queues, and send a request every few seconds
                        the request succeeds ──► consume the queues again

If S3 answers, but fails for one bucket, the worker continues to consume its queues. The circuit breaker of
the bucket postpones the jobs of this bucket (`keyhole.jobs.breaker`).
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
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_metadata import http_status
from keyhole.sources.s3_refusal import explain

log = logging.getLogger(__name__)

#: Seconds between two checks of the mark, and the maximum number of seconds to wait for an answer from S3.
EVERY, LONGEST_REQUEST = 5.0, 10.0
#: The maximum number of requests that a starting worker sends, and the seconds between them.
START_ATTEMPTS, START_PAUSE = 3, 2.0

#: The error if a request times out.
UNANSWERED: Final = TransientError(
    Reason.NETWORK,
    f"no answer within {LONGEST_REQUEST:g} s; check KEYHOLE_S3_ENDPOINT_URL, the proxy and the firewall",
)
_NO_CREDENTIALS: Final = (
    "no credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or run where a role is attached"
)


class TroubleMark:
    """The time when a pool process last had trouble with S3.

    This time is stored in memory that the pool processes and the main process share.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))

    def set(self) -> None:
        """Record that there is trouble now."""
        struct.pack_into("d", self._memory, 0, time.monotonic())

    @property
    def seconds_ago(self) -> float:
        """Seconds since the last trouble; infinite if there was none."""
        (at,) = struct.unpack_from("d", self._memory, 0)
        return time.monotonic() - at if at else float("inf")


#: The mark of this worker. It is created before the pool processes are forked, so all processes share it.
TROUBLE: Final = TroubleMark()


def why_unusable(endpoint_url: str | None, region: str | None, *, attempts: int = 1) -> str | None:
    """Return a sentence that states why this host cannot use S3; `None` if it can use S3.

    The function sends a ListBuckets request. If S3 answers, the host can use S3, even if the answer is that
    access is denied. The function creates its own client. It must not use the client that all scans of a
    process share, because a process must not fork after it has used that client, and this process may fork
    later.

    Args:
        endpoint_url: The URL of the S3 endpoint; `None` for AWS.
        region: The region; `None` for the region of the AWS configuration.
        attempts: The maximum number of requests.
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
    """Return whether an error means that the S3 server does not support ListBuckets."""
    return http_status(error.response) in {405, 501}


class S3WatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """The part of Celery's worker that consumes no queues while this host cannot use S3."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._consumer = parent
        self._timer: Any = None
        self._asking: threading.Thread | None = None
        self._answer: list[str | None] = []
        self._resting: tuple[str, ...] = ()

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer when the worker begins to consume its queues."""
        self._timer = parent.timer.call_repeatedly(EVERY, self.look)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Stop or resume consuming, depending on the result of the last request to S3.

        If there was trouble, send another request. This method runs on the worker's event loop.
        """
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
