"""Receives the values that the metrics count. Without metrics, it does nothing and takes almost no time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from keyhole.reasons import Reason


class Phase(StrEnum):
    """A phase of the work on an object."""

    #: Waiting for responses of S3.
    S3 = "s3"
    #: The scan without the waits for S3.
    INSPECTION = "inspection"
    #: Writing the verdict to the sinks and to Redis.
    RECORDING = "recording"


class Outcome(StrEnum):
    """The outcome of a delivery of a verdict to a sink."""

    DELIVERED = "delivered"
    #: The delivery failed and will be repeated.
    FAILED = "failed"
    #: The delivery was given up.
    DEAD = "dead"


class Recorder:
    """A recorder that does nothing. `keyhole.metrics.counting` contains the recorder that counts."""

    #: Whether this recorder counts. If not, a caller need not compute values that only the recorder uses.
    counts = False

    def verdict(self, status: str, image_format: str | None) -> None:
        """Count a recorded verdict. `image_format` is `None` if no format was recognised."""

    def waited(self, seconds: float) -> None:
        """Record the time that a message waited in its queue."""

    def took(self, phase: Phase, seconds: float) -> None:
        """Record the time of a phase of the work on an object."""

    def requests(self, number: int, received_bytes: int = 0) -> None:
        """Count requests to S3, and bytes of objects that S3 sent."""

    def failures(self, errors: Mapping[Reason, int], retries: int) -> None:
        """Count failed requests to S3 by reason, and repeated requests."""

    def spent(self, dollars: float) -> None:
        """Add the estimated cost of requests to S3."""

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """Count an object as being scanned during the `with` block."""
        yield

    def events(self, counts: Mapping[str, int]) -> None:
        """Count the outcomes of messages and events that a listener received.

        `keyhole.intake.events.counters.NAMES` lists the outcomes; other names in `counts` are ignored.
        """

    def delivered(self, sink: str, outcome: Outcome) -> None:
        """Count a delivery of a verdict to a sink, for example `webhook`."""

    def audited(self, counts: Mapping[str, int]) -> None:
        """Count the objects of a page of an audit by their outcome; other names in `counts` are ignored."""

    def begin_process(self) -> None:
        """Prepare a forked process to count. Call this before the process is confined.

        Raises:
            OSError: The files for the counts cannot be created.
        """


_recorder = Recorder()


def recorder() -> Recorder:
    """Return the recorder of this process."""
    return _recorder


def use_recorder(new: Recorder) -> None:
    """Let this process and the processes that it forks record to `new`."""
    global _recorder  # noqa: PLW0603 - each process needs exactly one
    _recorder = new
