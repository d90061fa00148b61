"""The spans that OpenTelemetry's real SDK makes of the steps of a job."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from keyhole.jobs.job import ScanJob
from keyhole.reasons import Reason
from keyhole.scan.reporter import Target, failure
from keyhole.tracing.export import LONGEST_TEXT
from keyhole.tracing.spans import ChosenIds, SpanTracer, ids_of
from keyhole.tracing.tracer import Get

SENT_AT = 1_700_000_000.5
CAUSE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GET = Get("k", "bytes=0-9", 1_000, 3_000, 10, "obstore")
#: Keys with markup, a mark that reverses text, control characters, and the longest key.
HOSTILE = ("<script>alert(1)</script>", "a\u202eb", "a\x00\x1b[31mb\n", "k" * 1024)


class Site:
    """A tracer, and the spans that ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        ids = ChosenIds()
        limits = SpanLimits(max_attribute_length=LONGEST_TEXT)
        provider = TracerProvider(sampler, shutdown_on_exit=False, id_generator=ids, span_limits=limits)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = SpanTracer(provider, ids, version="1", system="redis", sent_at="sent_at")

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans by name."""
        spans = self._exporter.get_finished_spans()
        assert len({span.name for span in spans}) == len(spans)
        return {span.name: span for span in spans}


@pytest.fixture
def site() -> Site:
    return Site()


def job(key: str = "k", **about: str) -> ScanJob:
    return ScanJob(bucket="b", key=key, **about)


def attempted(site: Site, one: ScanJob, headers: dict[str, object] | None = None) -> None:
    """An attempt at a job in a worker."""
    with (
        site.tracer.message("e", headers or {}),
        site.tracer.attempt("e", one, queue="q", audit=None),
    ):
        on_get = site.tracer.on_get(one)
        if on_get is not None:
            on_get(GET._replace(key=one.key))


def test_processes_that_share_only_the_jobs_id_make_one_trace() -> None:
    one, listener, worker = job(), Site(), Site()
    listener.tracer.published([one], "q", 5)
    attempted(worker, one)

    first, attempt, get = listener.spans["send q"], worker.spans["process q"], worker.spans["S3.GetObject"]
    assert first.context.trace_id == attempt.context.trace_id == get.context.trace_id == ids_of(one.id)[0]
    assert first.parent is None
    assert first.start_time == 5
    assert attempt.parent is not None
    assert attempt.parent.span_id == first.context.span_id
    assert get.parent is not None
    assert get.parent.span_id == attempt.context.span_id
    assert (get.start_time, get.end_time) == (GET.began, GET.ended)


def test_two_jobs_have_different_traces(site: Site) -> None:
    one, other = job(), job()
    site.tracer.published([one], "q", 5)
    site.tracer.published([other], "r", 5)

    ids = {(span.context.trace_id, span.context.span_id) for span in site.spans.values()}
    assert ids == {ids_of(one.id), ids_of(other.id)}


def test_chosen_ids_are_used_once(site: Site) -> None:
    """A span that the thread begins later has ids of its own."""
    site.tracer.published([job()], "q", 5)
    with site.tracer._tracer.start_as_current_span("other"):
        pass
    assert site.spans["other"].context.trace_id != site.spans["send q"].context.trace_id


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_all_processes_sample_the_same_jobs(share: float) -> None:
    for _ in range(30):
        one = job()
        listener, worker = (
            Site(ParentBased(TraceIdRatioBased(share))),
            Site(ParentBased(TraceIdRatioBased(share))),
        )
        listener.tracer.published([one], "q", 5)
        attempted(worker, one)
        assert len(worker.spans) in {0, 2}
        assert bool(listener.spans) == bool(worker.spans)
        assert share == 0.5 or bool(worker.spans) == bool(share)


def test_the_worker_makes_the_first_span_if_the_sender_made_none(site: Site) -> None:
    one = job()
    attempted(site, one, {"sent_at": SENT_AT, "traceparent": CAUSE})

    first = site.spans["send q"]
    assert (first.context.trace_id, first.context.span_id) == ids_of(one.id)
    assert first.start_time == first.end_time == SENT_AT * 1e9
    for span in (first, site.spans["process q"]):
        assert [f"{link.context.trace_id:032x}" for link in span.links] == [CAUSE.split("-")[1]]


@pytest.mark.parametrize(
    "headers",
    [
        {"keyhole_traced": True, "sent_at": SENT_AT},
        {},
        {"sent_at": "soon"},
        {"sent_at": float("inf")},
        {"sent_at": float("nan")},
        {"sent_at": None},
        {"sent_at": [1]},
    ],
)
def test_the_worker_makes_no_first_span_if_the_sender_made_it_or_the_time_is_unknown(
    site: Site, headers: dict[str, object]
) -> None:
    attempted(site, job(), headers)
    assert "send q" not in site.spans


@pytest.mark.parametrize(
    "forged",
    ["", "00-0-0-00", CAUSE.upper() + "x", "ff" + CAUSE[2:], CAUSE * 1000, 5, None, "00-" + "0" * 52],
)
def test_an_invalid_trace_context_gives_no_link(site: Site, forged: object) -> None:
    attempted(site, job(), {"traceparent": forged})
    assert not site.spans["process q"].links


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_an_attribute_as_it_is(site: Site, key: str) -> None:
    attempted(site, job(key, version_id="v" * 1024))
    for name in ("process q", "S3.GetObject"):
        attributes = site.spans[name].attributes
        assert attributes is not None
        assert attributes["aws.s3.key"] == key


def test_a_text_that_utf8_cannot_encode_is_replaced(site: Site) -> None:
    """Otherwise the exporter would drop all spans that it sends together with this span."""
    one = ScanJob.model_construct(id="\ud800", bucket="b", key="\udcff", version_id="\ud800", other_key=None)
    attempted(site, one)
    site.tracer.notified(one.id, "webhook", 5, None)
    for span in site.spans.values():
        assert span.attributes
        "".join(str(value) for value in span.attributes.values()).encode()


def test_an_undecided_scan_and_a_failed_get_are_errors(site: Site) -> None:
    one = job()
    report = failure(Target("s3://b/k", "b", "k", None), Reason.SLOW_DOWN, "secret")
    with site.tracer.attempt("e", one, queue="q", audit="a"):
        on_get = site.tracer.on_get(one)
        assert on_get is not None
        on_get(GET._replace(failure="slow_down"))
        site.tracer.scanned(one.id, report, undecided=True)

    for name in ("process q", "S3.GetObject"):
        span = site.spans[name]
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "slow_down"
    assert site.spans["process q"].attributes["keyhole.audit.id"] == "a"  # type: ignore[index] # checked above


def test_an_error_leaves_its_type_but_not_its_text(site: Site) -> None:
    one = job()
    with (
        pytest.raises(ValueError, match="password"),
        site.tracer.attempt("e", one, queue="q", audit=None),
    ):
        raise ValueError("password")
    span = site.spans["process q"]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert "password" not in span.to_json()


def test_a_step_belongs_to_the_attempt(site: Site) -> None:
    one = job()
    with site.tracer.attempt("e", one, queue="q", audit=None):
        site.tracer.took(one.id, "write tags", 0.5)
        site.tracer.took(one.id, "record verdict", 1.5, "ConnectionError")
    attempt, tags, record = (site.spans[name] for name in ("process q", "write tags", "record verdict"))
    for span, seconds in ((tags, 0.5), (record, 1.5)):
        assert span.parent is not None
        assert span.parent.span_id == attempt.context.span_id
        assert span.start_time is not None
        assert span.end_time == span.start_time + round(seconds * 1e9)
    assert (tags.status.is_ok, record.status.is_ok) == (True, False)


def test_an_attempt_that_is_abandoned_ends_its_spans(site: Site) -> None:
    one = job()

    def attempt() -> Iterator[None]:
        with site.tracer.attempt("e", one, queue="q", audit=None):
            yield

    running = attempt()
    next(running)
    assert not site.spans
    del running
    assert site.spans.keys() == {"process q"}
    assert not site.tracer._open


def test_steps_outside_an_attempt_make_no_span(site: Site) -> None:
    """An audit records verdicts on archived objects without an attempt."""
    site.tracer.took("unknown", "write tags", 1)
    assert site.tracer.on_get(job()) is None
    assert not site.spans


def test_a_delivery_to_a_sink_belongs_to_the_trace_of_its_job(site: Site) -> None:
    one = job()
    site.tracer.notified(one.id, "webhook", 5, "failed")
    span = site.spans["notify webhook"]
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == ids_of(one.id)
    assert span.status.status_code is StatusCode.ERROR
