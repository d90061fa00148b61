"""Whether this worker can use S3: asked when it starts, and again when its scans fail.

A node whose network or credentials are broken would take job after job and leave all of them undecided,
faster than healthy nodes scan. So a worker that cannot use S3 does not start, and one that no longer can
takes no work until it can again:

    a pool process: its breaker opens ──► a mark in shared memory
    the worker's main process: every few seconds, if the mark is new ──► one request to S3, in a thread
                               fails ──► consume no queue; ask again; succeeds ──► consume them again

Where S3 answers, though it fails for some bucket, that bucket's breakers are enough (`jobs.breaker`).
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

#: Seconds from one look at the mark to the next, and that one request to S3 may take.
EVERY, LONGEST_REQUEST = 5.0, 10.0
#: Requests of a worker that starts, and the seconds between them.
START_ATTEMPTS, START_PAUSE = 3, 2.0

#: What a request came to that was cut off.
UNANSWERED: Final = TransientError(
    Reason.NETWORK,
    f"no answer within {LONGEST_REQUEST:g} s; check KEYHOLE_S3_ENDPOINT_URL, the proxy and the firewall",
)
_NO_CREDENTIALS: Final = (
    "no credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or run where a role is attached"
)


class TroubleMark:
    """When a pool process last had trouble with S3, in memory that it shares with the main process."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))

    def set(self) -> None:
        """There is trouble now."""
        struct.pack_into("d", self._memory, 0, time.monotonic())

    @property
    def seconds_ago(self) -> float:
        """How long ago that was; infinite if never."""
        (at,) = struct.unpack_from("d", self._memory, 0)
        return time.monotonic() - at if at else float("inf")


#: Made before the pool is forked, so that all of its processes share it.
TROUBLE: Final = TroubleMark()


def why_unusable(endpoint_url: str | None, region: str | None, *, attempts: int = 1) -> str | None:
    """Why S3 cannot be used from here, in a sentence; `None` if it can.

    S3 is asked for a list of buckets. That it is denied is an answer, too. This process's usual way to S3 is
    not used, for what a process has used must not be forked.
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
    """Whether the server does not list buckets at all."""
    return http_status(error.response) in {405, 501}


class S3WatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """Takes no work while S3 cannot be used from here."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._consumer = parent
        self._timer: Any = None
        self._asking: threading.Thread | None = None
        self._answer: list[str | None] = []
        self._resting: tuple[str, ...] = ()

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer, when the worker takes from its queues."""
        self._timer = parent.timer.call_repeatedly(EVERY, self.look)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Ask S3 if there is reason to, and act on what it last answered. Runs on the worker's event loop."""
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
            log.error("this worker takes no work, for S3 cannot be used from here: %s", trouble)
            HEARTBEAT.status = f"it takes no work, for S3 cannot be used from here: {trouble}"
            for queue in self._resting:
                self._consumer.cancel_task_queue(queue)
        elif trouble is None and self._resting:
            log.warning("this worker takes work again, for S3 can be used again")
            HEARTBEAT.status = ""
            for queue in self._resting:
                self._consumer.add_task_queue(queue)
            self._resting = ()
