"""The tracer that makes spans with OpenTelemetry, and sends them in a thread.

Spans wait in a bounded queue, so that no scan waits for the collector. If the queue is full, or if the
collector does not answer, spans are lost.

The names of spans and attributes follow OpenTelemetry's semantic conventions (messaging, AWS S3). Names that
the conventions lack begin with `keyhole.`.
"""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from keyhole.tracing.tracer import TRACED, TRACEPARENT, Get, OnGet, Scanned, Traced, Tracer

#: The most codes of reasons in an attribute.
MOST_REASONS: Final = 50
#: The length of a valid `traceparent` is 55. Later versions can be longer.
_LONGEST_PARENT: Final = 128
_PROPAGATOR: Final = TraceContextTextMapPropagator()

Attributes = Mapping[str, str | bool | int | float | tuple[str, ...]]


class ChosenIds(RandomIdGenerator):
    """Generates random ids, except for the spans whose ids the thread has chosen with `choose`."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    def choose(self, trace_id: int, span_id: int) -> None:
        """Use these ids for the next span of this thread. This span must have no parent."""
        self._chosen.ids = [span_id, trace_id]

    def generate_trace_id(self) -> int:
        """Return the id of a trace."""
        return self._next() or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the id of a span. The SDK calls this after `generate_trace_id`."""
        return self._next() or super().generate_span_id()

    def _next(self) -> int | None:
        ids: list[int] = getattr(self._chosen, "ids", [])
        return ids.pop() if ids else None


class _Message(NamedTuple):
    """What the spans of a message's jobs need from the message.

    `sent` is when the message was sent, in nanoseconds since 1970. It is `None` if the first spans of the
    message's jobs are made already.
    """

    links: tuple[Link, ...]
    sent: int | None


class SpanTracer(Tracer):
    """Makes spans.

    Args:
        provider: The SDK's provider of tracers, with its exporter.
        ids: The generator of ids that `provider` uses.
        version: The version of Keyhole.
        system: The messaging system of the broker, for example `redis`.
        sent_at: The name of the message header with the time at which a message was sent.
    """

    traces = True

    def __init__(
        self, provider: TracerProvider, ids: ChosenIds, *, version: str, system: str, sent_at: str
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("keyhole", version)
        self._ids = ids
        self._system = system
        self._sent_at = sent_at
        self._messages: dict[str, _Message] = {}
        #: The spans of the running attempts, by the ids of their jobs.
        self._open: dict[str, Span] = {}

    def published(
        self, jobs: Iterable[Traced], queue: str, began: int, *, causes: Mapping[str, str] | None = None
    ) -> None:
        """Make the first spans of jobs that were published."""
        for job in jobs:
            cause = _link((causes or {}).get(job.id))
            self._first_span(job, queue, began, None, () if cause is None else (cause,))

    @contextmanager
    def message(self, entry_id: str, headers: Mapping[str, Any]) -> Iterator[None]:
        """Link the spans of the message's jobs with the trace of the program that submitted them."""
        link = _link(headers.get(TRACEPARENT))
        sent = None
        if not headers.get(TRACED):
            with suppress(KeyError, TypeError, ValueError, OverflowError):
                sent = int(float(headers[self._sent_at]) * 1e9)
        self._messages[entry_id] = _Message(() if link is None else (link,), sent)
        try:
            yield
        finally:
            self._messages.pop(entry_id, None)

    @contextmanager
    def attempt(self, entry_id: str, job: Traced, *, queue: str, audit: str | None) -> Iterator[None]:
        """Make the span of an attempt at a job."""
        message = self._messages.get(entry_id, _Message((), None))
        if message.sent is not None:
            self._first_span(job, queue, message.sent, message.sent, message.links)
        span = self._tracer.start_span(
            f"process {queue}",
            self._job_context(job.id),
            SpanKind.CONSUMER,
            self._about(job, queue, "process")
            | {"messaging.message.id": entry_id}
            | ({} if audit is None else {"keyhole.audit.id": audit}),
            message.links,
        )
        self._open[job.id] = span
        try:
            with _ending(span):
                yield
        finally:
            self._open.pop(job.id, None)

    def took(self, job_id: str, step: str, seconds: float, failure: str | None = None) -> None:
        """Make the span of a step of the attempt at a job."""
        attempt = self._open.get(job_id)
        if attempt is None:
            return
        parent = set_span_in_context(attempt, Context())
        ended = time.time_ns()
        span = self._tracer.start_span(step, parent, start_time=ended - round(seconds * 1e9))
        if failure is not None:
            _fail(span, failure)
        span.end(ended)

    def on_get(self, job: Traced) -> OnGet | None:
        """Return a function that makes the span of a GET."""
        attempt = self._open.get(job.id)
        if attempt is None or not attempt.is_recording():
            return None
        parent = set_span_in_context(attempt, Context())

        def make(get: Get) -> None:
            span = self._tracer.start_span(
                "S3.GetObject",
                parent,
                SpanKind.CLIENT,
                {
                    "rpc.system.name": "aws-api",
                    "rpc.method": "S3/GetObject",
                    "aws.s3.bucket": encodable(job.bucket),
                    "aws.s3.key": encodable(get.key),
                    "http.request.header.range": (get.range,),
                    "http.response.body.size": get.received,
                    "keyhole.s3.client": get.client,
                },
                start_time=get.began,
            )
            if get.failure is not None:
                _fail(span, get.failure)
            span.end(get.ended)

        return make

    def scanned(self, job_id: str, report: Scanned, *, undecided: bool) -> None:
        """Add the result of the scan to the span of the attempt."""
        attempt = self._open.get(job_id)
        if attempt is None:
            return
        facts: Attributes = {
            "keyhole.status": str(report.status),
            "keyhole.reasons": tuple(str(reason) for reason in report.reasons[:MOST_REASONS]),
            "keyhole.format": report.format or "none",
            "keyhole.s3.requests": report.requests,
            "keyhole.s3.received_bytes": report.bytes_read,
        }
        attempt.set_attributes(facts)
        if undecided:
            _fail(attempt, str(next(iter(report.reasons), "undecided")))

    def notified(self, job_id: str, sink: str, began: int, failure: str | None) -> None:
        """Make the span of sending a verdict to a sink."""
        span = self._tracer.start_span(
            f"notify {sink}",
            self._job_context(job_id),
            SpanKind.PRODUCER,
            {"keyhole.sink": sink, "keyhole.job.id": encodable(job_id)},
            start_time=began,
        )
        if failure is not None:
            _fail(span, failure)
        span.end()

    def stop(self, seconds: float) -> None:
        """Send the spans that wait, but return after at most `seconds` seconds."""
        # The SDK's own time limit is half a minute.
        thread = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        thread.start()
        thread.join(seconds)

    def _first_span(
        self, job: Traced, queue: str, began: int, ended: int | None, links: tuple[Link, ...]
    ) -> None:
        self._ids.choose(*ids_of(job.id))
        span = self._tracer.start_span(
            f"send {queue}",
            Context(),
            SpanKind.PRODUCER,
            self._about(job, queue, "send"),
            links,
            start_time=began,
        )
        span.end(ended)

    def _job_context(self, job_id: str) -> Context:
        """Return the context in which the first span of a job is the current span.

        Other processes make the first span. So ask the sampler, whose decision follows from the trace's id,
        whether they record it.
        """
        trace_id, span_id = ids_of(job_id)
        decision = self._provider.sampler.should_sample(Context(), trace_id, "send").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        first = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(first), Context())

    def _about(self, job: Traced, queue: str, operation: str) -> dict[str, str]:
        facts = {
            "messaging.system": self._system,
            "messaging.destination.name": queue,
            "messaging.operation.type": operation,
            "messaging.operation.name": operation,
            "keyhole.job.id": encodable(job.id),
            "aws.s3.bucket": encodable(job.bucket),
            "aws.s3.key": encodable(job.key),
        }
        return facts if job.version_id is None else facts | {"keyhole.version_id": encodable(job.version_id)}


def ids_of(job_id: str) -> tuple[int, int]:
    """Return the ids of a job's trace and of the trace's first span."""
    digest = hashlib.sha256(b"keyhole trace " + job_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def encodable(text: str) -> str:
    """Return a text without lone surrogates. With such a character, the exporter would drop a whole batch."""
    return text.encode("utf-8", "replace").decode()


def _link(traceparent: object) -> Link | None:
    """Return a link to the span that a `traceparent` names; `None` if the value is invalid."""
    if not isinstance(traceparent, str) or len(traceparent) > _LONGEST_PARENT:
        return None
    context = _PROPAGATOR.extract({TRACEPARENT: traceparent}, Context())
    cause = get_current_span(context).get_span_context()
    return Link(cause) if cause.is_valid else None


@contextmanager
def _ending(span: Span) -> Iterator[None]:
    """End a span with the `with` block. Record only the type of an error, because its text may be secret."""
    try:
        yield
    except BaseException as error:
        _fail(span, type(error).__name__)
        raise
    finally:
        span.end()


def _fail(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))
