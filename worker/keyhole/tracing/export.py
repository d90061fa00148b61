"""Starts the tracer of a process, by the standard variables of OpenTelemetry (`OTEL_*`)."""

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from requests import Session

from keyhole.errors import KeyholeError
from keyhole.tracing.spans import ChosenIds, SpanTracer

#: The longest text of an attribute, unless a variable sets another limit. A key has at most 1,024 bytes.
LONGEST_TEXT: Final = 1024
#: Seconds between two log lines of the exporter. Without this limit, it would log every few seconds while the
#: collector does not answer.
LOG_SECONDS: Final = 60.0
#: The only protocol that Keyhole supports.
PROTOCOL: Final = "http/protobuf"
#: Variables that name files of the exporter.
FILES: Final = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}{name}"
    for signal in ("", "TRACES_")
    for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
)
#: The loggers of the exporter and of its queue.
_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)
_LENGTH_LIMITS: Final = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")


class TracesError(KeyholeError):
    """Traces cannot be sent with these settings."""

    is_usage = True


class _Seldom(logging.Filter):
    """Lets a logger log a line at most every `LOG_SECONDS`, as a warning."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log this line."""
        now = time.monotonic()
        if record.levelno < logging.WARNING or now < self._next:
            return False
        self._next = now + LOG_SECONDS
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class _Kept(logging.Handler):
    """Keeps the errors that the exporter logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of the error, or the whole line if it contains no error."""
        values = record.args if isinstance(record.args, tuple) else ()
        error = next((value for value in values if isinstance(value, Exception)), None)
        self.lines.append(record.getMessage().rstrip(".") if error is None else str(error))


class _Session(Session):
    """A session for which a certificate of OpenTelemetry's variables comes before other variables.

    By default, requests prefers the variables `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE`.
    """

    def merge_environment_settings(
        self,
        url: Any,  # noqa: ANN401 - requests has no types
        proxies: Any,  # noqa: ANN401 - as above
        stream: Any,  # noqa: ANN401 - as above
        verify: Any,  # noqa: ANN401 - as above
        cert: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Return the options of a request."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


def check(variables: Mapping[str, str]) -> None:
    """Check the variables of the exporter.

    Raises:
        TracesError: A variable has a value with which no traces can be sent.
    """
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if variables.get(name, PROTOCOL) not in {"", PROTOCOL}:
            raise TracesError(f"{name} is set to {variables[name]!r}; Keyhole only supports {PROTOCOL}")
    if variables.get("OTEL_TRACES_EXPORTER", "otlp") not in {"", "otlp"}:
        raise TracesError(
            f"OTEL_TRACES_EXPORTER is set to {variables['OTEL_TRACES_EXPORTER']!r}; Keyhole only supports "
            "otlp; to turn traces off, unset KEYHOLE_TRACES"
        )
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        value = variables.get(name)
        if value and not _is_url(value):
            # Do not print the value, because it can contain a password.
            raise TracesError(f"{name} is not a URL such as http://collector:4318")
    for name in FILES:
        if variables.get(name) and not os.access(variables[name], os.R_OK):
            raise TracesError(f"{name} names {variables[name]}, which cannot be read")


def endpoint(variables: Mapping[str, str]) -> str:
    """Return the URL of the collector."""
    whole = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    return whole or f"{base.removesuffix('/')}/v1/traces"


def why_refused(seconds: float) -> str | None:
    """Send a request without spans. Return why the collector does not accept it; `None` if it does.

    Args:
        seconds: The time limit of the request.
    """
    kept = _Kept()
    logger = logging.getLogger(_LOGGERS[0])
    before = logger.level, logger.propagate, logger.disabled
    logger.addHandler(kept)
    logger.setLevel(logging.WARNING)
    logger.propagate = logger.disabled = False
    try:
        result = OTLPSpanExporter(session=_Session(), timeout=seconds).export(())
    finally:
        logger.removeHandler(kept)
        logger.setLevel(before[0])
        logger.propagate, logger.disabled = before[1:]
    return None if result is SpanExportResult.SUCCESS else (kept.lines or ["it did not answer"])[0]


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def start(role: str, *, version: str, system: str, sent_at: str) -> SpanTracer:
    """Return a tracer, and start the thread that sends its spans. Call this after the fork.

    Args:
        role: The role of the process, for example `worker`.
        version: The version of Keyhole.
        system: See `SpanTracer`.
        sent_at: See `SpanTracer`.
    """
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Seldom) for known in logger.filters):
            logger.addFilter(_Seldom())
    ids = ChosenIds()
    limited = any(os.environ.get(name) for name in _LENGTH_LIMITS)
    provider = TracerProvider(
        resource=_resource(role, version),
        # At the end of the process, the SDK would wait for the collector for half a minute.
        shutdown_on_exit=False,
        id_generator=ids,
        span_limits=SpanLimits() if limited else SpanLimits(max_attribute_length=LONGEST_TEXT),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_Session())))
    return SpanTracer(provider, ids, version=version, system=system, sent_at=sent_at)


def _resource(role: str, version: str) -> Resource:
    """Return the description of this process. Values of `OTEL_*` variables come before Keyhole's values."""
    own = {
        SERVICE_VERSION: version,
        SERVICE_INSTANCE_ID: f"{socket.gethostname()}:{os.getpid()}",
        "keyhole.role": role,
    }
    found = Resource.create()
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: f"keyhole-{role}"}))
    return Resource(own).merge(found)
