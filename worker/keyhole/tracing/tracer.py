"""Receives the steps of the work on an object, for traces. Without traces, it does nothing.

The spans of a trace:

    send <queue>                 where the job is accepted: a listener, `submit`, an audit
      ├── process <queue>        an attempt at the job, in a worker
      │     ├── S3.GetObject     a GET
      │     ├── write tags
      │     └── record verdict   writing the verdict to the tags and to Redis
      └── notify <sink>          sending the verdict to a sink

All processes derive the ids of the trace and of its first span from the job's id. So the message of a job
needs no field for them, and each job of a batch has its own trace.
"""
# ruff: noqa: ARG002 - the class `Tracer` does nothing

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple, Protocol


class Traced(Protocol):
    """A job. Each job has a trace."""

    @property
    def id(self) -> str:
        """The id of the job."""

    @property
    def bucket(self) -> str:
        """The bucket of the object."""

    @property
    def key(self) -> str:
        """The key of the object."""

    @property
    def version_id(self) -> str | None:
        """The version of the object; `None` for the current version."""


class Scanned(Protocol):
    """The result of a scan."""

    @property
    def status(self) -> str:
        """The status."""

    @property
    def reasons(self) -> Sequence[str]:
        """The codes of the reasons for the status."""

    @property
    def format(self) -> str | None:
        """The name of the format; `None` if no format was recognised."""

    @property
    def requests(self) -> int:
        """The number of requests to S3."""

    @property
    def bytes_read(self) -> int:
        """The number of bytes that S3 sent."""


class Get(NamedTuple):
    """A GET of a range of an object.

    Args:
        key: The key of the object.
        range: The header `Range`.
        began: When the GET began, in nanoseconds since 1970.
        ended: When the GET ended, in the same unit.
        received: The number of received bytes.
        client: The library that sent the request.
        failure: A code for the reason why the GET failed; `None` if it succeeded.
    """

    key: str
    range: str
    began: int
    ended: int
    received: int
    client: str
    failure: str | None = None


#: The message header that states that the first spans of the message's jobs are made. A program that submits
#: jobs usually makes no spans, so the worker makes the first spans of these jobs.
TRACED: Final = "keyhole_traced"
#: The message header with the trace context of the program that submitted the jobs (W3C Trace Context).
TRACEPARENT: Final = "traceparent"
#: Called with each GET.
OnGet = Callable[[Get], object]


class Tracer:
    """A tracer that does nothing. `keyhole.tracing.spans` contains the tracer that makes spans."""

    #: Whether this tracer makes spans. If not, a caller need not compute values that only the tracer uses.
    traces = False

    def published(
        self, jobs: Iterable[Traced], queue: str, began: int, *, causes: Mapping[str, str] | None = None
    ) -> None:
        """Make the first spans of jobs that were published.

        Args:
            jobs: The jobs.
            queue: The queue of their messages.
            began: When the work on them began, in nanoseconds since 1970.
            causes: The `traceparent` of the message that led to a job, by the job's id. The span is linked
                with the trace of that message.
        """

    def message(self, entry_id: str, headers: Mapping[str, Any]) -> AbstractContextManager[object]:
        """Return a context for the work on the message of an entry. `headers` are the message's headers.

        A scan must not wait for a tracer that does nothing, so call this method only if `traces` is true.
        """
        return nullcontext()

    def attempt(
        self, entry_id: str, job: Traced, *, queue: str, audit: str | None
    ) -> AbstractContextManager[object]:
        """Return a context for an attempt at a job. Call this method only if `traces` is true."""
        return nullcontext()

    def took(self, job_id: str, step: str, seconds: float, failure: str | None = None) -> None:
        """Make the span of a step of the attempt at a job. The step ends now, and took this many seconds.

        `failure` is a code for the reason why the step failed; `None` if it succeeded.
        """

    def on_get(self, job: Traced) -> OnGet | None:
        """Return a function to call with each GET of an attempt; `None` if there is no need to call it."""
        return None

    def scanned(self, job_id: str, report: Scanned, *, undecided: bool) -> None:
        """Add the result of the scan to the span of the attempt at a job."""

    def notified(self, job_id: str, sink: str, began: int, failure: str | None) -> None:
        """Make the span of sending a verdict to a sink. `failure` is a code, or `None`."""

    def stop(self, seconds: float) -> None:
        """Send the spans that wait, but return after at most `seconds` seconds."""


_tracer = Tracer()


def tracer() -> Tracer:
    """Return the tracer of this process."""
    return _tracer


def use_tracer(new: Tracer) -> None:
    """Let this process use the tracer `new`."""
    global _tracer  # noqa: PLW0603 - each process needs exactly one
    _tracer = new
