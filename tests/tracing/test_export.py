"""Which variables are accepted, and what happens if the collector does not answer."""

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from keyhole.jobs.job import ScanJob
from keyhole.tracing.export import FILES, TracesError, check, start
from tests.e2e import commands
from tests.e2e.commands import environment
from tests.ports import free_port
from tests.servers.collector import collector
from tests.servers.webhook_server import Handler, status

#: The time limit of the exporter in a test: longer than all of the test takes on a busy machine.
EXPORTER_SECONDS = 60


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:password@collector.example:4318/otlp"},
        dict.fromkeys(("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_ENDPOINT", *FILES), ""),
    ],
)
def test_usual_variables_are_accepted(variables: Mapping[str, str]) -> None:
    check(variables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:99999999"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
    ],
)
def test_a_variable_with_which_nothing_could_be_sent_is_refused(name: str, value: str) -> None:
    with pytest.raises(TracesError, match=name):
        check({name: value})


def test_a_password_in_a_wrong_endpoint_is_not_shown() -> None:
    with pytest.raises(TracesError) as error:
        check({"OTEL_EXPORTER_OTLP_ENDPOINT": "user:password@collector"})
    assert "password" not in str(error.value)


def exported(monkeypatch: pytest.MonkeyPatch, url: str, jobs: int = 1) -> float:
    """Make spans, stop, and return how many seconds this took."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    began = time.monotonic()
    tracer = start("worker", version="1.2", system="redis", sent_at="sent_at")
    tracer.published([ScanJob(bucket="b", key="k") for _ in range(jobs)], "q", time.time_ns())
    tracer.stop(0.3)
    return time.monotonic() - began


def test_the_service_has_a_name_by_its_role_unless_a_variable_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector() as receiver:
        exported(monkeypatch, receiver.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "images")
        exported(monkeypatch, receiver.url)
        receiver.server.wait_for(2)
        assert [span.service for span in receiver.spans()] == ["keyhole-worker", "images"]


def test_a_collector_that_hangs_or_is_down_costs_no_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.sdk._shared_internal",
    ):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(EXPORTER_SECONDS))
    with collector() as receiver:

        def hang(_: Handler) -> None:
            receiver.server.stopping.wait(commands.PATIENCE)

        receiver.server.answers += [hang] * 9
        # More spans than the queue takes.
        assert exported(monkeypatch, receiver.url, jobs=5000) < EXPORTER_SECONDS
    for _ in range(3):
        assert exported(monkeypatch, f"http://127.0.0.1:{free_port()}") < EXPORTER_SECONDS
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    assert len(caplog.records) <= 2


def test_a_collector_that_refuses_the_spans_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        receiver.server.answers += [status(code) for code in (400, 401, 413)]
        for _ in range(3):
            exported(monkeypatch, receiver.url)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "Keyhole only supports http/protobuf"),
        ({"PYTHONPATH": "{hidden}"}, "run `pip install -c deploy/constraints.txt '.[otel]'` in a clone"),
    ],
)
@pytest.mark.slow
def test_a_command_says_in_one_line_why_it_cannot_make_traces(
    tmp_path: Path, valkey_url: str, settings: Mapping[str, str], message: str
) -> None:
    # Python then behaves as if OpenTelemetry was not installed.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    paths = {name: value.format(hidden=tmp_path) for name, value in settings.items()}
    env = environment(KEYHOLE_REDIS_URL=valkey_url, KEYHOLE_TRACES="1") | paths
    done = subprocess.run(
        [sys.executable, "-m", "keyhole", "submit", "s3://bucket/key"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
