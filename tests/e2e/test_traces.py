"""Real processes send the trace of an object to a real OTLP receiver; a broken receiver delays no verdict."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyhole.builders import qcow2
from keyhole.reasons import Status
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.e2e.event_queue import Queue, listening
from tests.intake.events.aws_messages import message, record
from tests.servers.certificates import Authority
from tests.servers.collector import Collector, Received, collector
from tests.servers.webhook_server import Handler

pytestmark = pytest.mark.slow

UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
KEY = "uploads/<script>\u202ea b+c.qcow2"
CAUSE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
TRACEPARENT = f"00-{CAUSE[0]}-{CAUSE[1]}-01"


@pytest.fixture
def receiver(authority: Authority) -> Iterator[Collector]:
    """A collector that uses TLS. So the confined processes must be able to read the authority's file."""
    with collector(authority.sign("127.0.0.1")) as running:
        yield running


@pytest.fixture
def site(faulty_site: Site, authority: Authority) -> Site:
    """A site whose processes trust the collector."""
    faulty_site.held.release()
    env = faulty_site.env | {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.file)}
    return replace(faulty_site, env=env)


def traced(site: Site, url: str, **variables: object) -> Site:
    """The site with traces."""
    settings = {
        "KEYHOLE_TRACES": "true",
        "KEYHOLE_CONFINE": "required",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    } | {name: str(value) for name, value in variables.items()}
    return replace(site, env=site.env | settings)


def shape(spans: list[Received]) -> dict[str, str]:
    """The name of each span's parent, by the span's name."""
    names = {span.id: span.name for span in spans}
    return {span.name: names.get(span.parent, "") for span in spans}


def test_an_event_gives_one_whole_trace(site: Site, receiver: Collector, tmp_path: Path) -> None:
    site = traced(site, receiver.url)
    queue, bucket = Queue(site), site.bucket()
    site.s3.put_object(Bucket=bucket, Key=KEY, Body=UNSAFE)
    with (
        commands.worker(site.env, site.log, concurrency=2),
        listening(site, queue.url, tmp_path / "log"),
    ):
        queue.send(message(record(KEY, bucket=bucket)), traceparent=TRACEPARENT)
        spans = receiver.trace_of(KEY, "send keyhole.events", "process keyhole.events")

    # The trace is whole, and it is the only one.
    assert shape(spans) == {
        "send keyhole.events": "",
        "process keyhole.events": "send keyhole.events",
        "S3.GetObject": "process keyhole.events",
        "record verdict": "process keyhole.events",
        "write tags": "process keyhole.events",
    }
    assert len(receiver.traces()) == 1
    first, attempt, get, *_ = spans
    assert [span.name for span in spans[:3]] == [
        "send keyhole.events",
        "process keyhole.events",
        "S3.GetObject",
    ]
    assert first.service == "keyhole-listener"
    assert {span.service for span in spans[1:]} == {"keyhole-worker"}
    assert first.links == [CAUSE]
    assert first.attributes["messaging.system"] == "redis"
    assert attempt.attributes["aws.s3.bucket"] == bucket
    assert attempt.attributes["keyhole.status"] == Status.UNSAFE
    assert attempt.attributes["keyhole.reasons"] == ["backing_file"]
    assert get.attributes["http.response.body.size"] == len(UNSAFE)
    assert not any(span.failed for span in spans)
    # The spans of the attempt lie within it.
    assert all(attempt.began <= span.began <= span.ended <= attempt.ended for span in spans[2:])
    # The worker stopped within seconds, and logged no error.
    assert b'"level": "error"' not in site.log.read_bytes()


def test_a_job_of_a_program_without_traces_has_a_whole_trace(site: Site, receiver: Collector) -> None:
    """The program passes its own trace on in a header, as Celery's instrumentation does."""
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=UNSAFE)
    program = (
        "from keyhole.tasks import scan\n"
        f"scan.apply_async(['s3://{bucket}/a.qcow2'], headers={{'traceparent': {TRACEPARENT!r}}})"
    )
    assert commands.python(program, env=site.env).returncode == 0
    with commands.worker(traced(site, receiver.url).env, site.log):
        spans = receiver.trace_of("a.qcow2", "process keyhole.jobs")

    assert shape(spans)["process keyhole.jobs"] == "send keyhole.jobs"
    assert shape(spans)["send keyhole.jobs"] == ""
    assert [span.links for span in spans if span.name.endswith("keyhole.jobs")] == [[CAUSE], [CAUSE]]


def test_a_collector_that_does_not_answer_delays_no_verdict(site: Site, receiver: Collector) -> None:
    def hang(_: Handler) -> None:
        receiver.server.stopping.wait(commands.PATIENCE)

    receiver.server.answers += [hang] * 100
    patience = {"OTEL_EXPORTER_OTLP_TIMEOUT": 60}
    site = traced(site, receiver.url, OTEL_BSP_MAX_QUEUE_SIZE=8, OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4, **patience)
    bucket = site.bucket()
    keys = [f"{number}.qcow2" for number in range(40)]
    for key in keys:
        site.s3.put_object(Bucket=bucket, Key=key, Body=UNSAFE)
    with commands.worker(site.env, site.log) as process:
        done = commands.keyhole(
            "submit", "--wait", "--json", *(f"s3://{bucket}/{key}" for key in keys), env=site.env
        )
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        assert [report["status"] for report in reports] == [Status.UNSAFE] * len(keys), done.stderr
        receiver.server.wait_for(1)
        process.terminate()
        assert process.wait(commands.PATIENCE) == 0
    lines = [json.loads(line) for line in site.log.read_bytes().splitlines()]
    assert 1 <= sum(line["logger"].startswith("opentelemetry") for line in lines) <= 4
