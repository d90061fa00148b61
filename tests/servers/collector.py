"""A collector of OpenTelemetry: a real HTTP server that receives spans as protobuf (OTLP/HTTP)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.commands import until
from tests.servers.webhook_server import WebhookServer, webhook_server


@dataclass(frozen=True)
class Received:
    """A received span. Ids are hexadecimal; `parent` is empty for the first span of a trace."""

    name: str
    service: str
    trace: str
    id: str
    parent: str
    kind: int
    began: int
    ended: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool


class Collector:
    """The spans that a server received."""

    def __init__(self, server: WebhookServer) -> None:
        self.server = server
        self.url = server.url.partition("/hook")[0]

    def spans(self) -> list[Received]:
        """All spans that arrived so far."""
        with self.server.arrived:
            requests = list(self.server.received)
        assert {request.path for request in requests} <= {"/v1/traces"}
        return [span for request in requests for span in decoded(request.body)]

    def traces(self) -> dict[str, list[Received]]:
        """All spans that arrived so far, by the id of their trace."""
        spans = sorted(self.spans(), key=lambda span: span.began)
        return {trace: [span for span in spans if span.trace == trace] for trace in {s.trace for s in spans}}

    def trace_of(self, key: str, *names: str) -> list[Received]:
        """The trace of an object's key, when it contains spans with these names."""

        def found() -> list[Received] | None:
            for spans in self.traces().values():
                if any(span.attributes.get("aws.s3.key") == key for span in spans) and {
                    span.name for span in spans
                } >= set(names):
                    return spans
            return None

        spans: list[Received] = until(found)
        return spans


def decoded(body: bytes) -> Iterator[Received]:
    """Yield the spans of a request."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        about = {one.key: _value(one.value) for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    about["service.name"],
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {one.key: _value(one.value) for one in span.attributes},
                    [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _value(value: Any) -> Any:
    name = value.WhichOneof("value")
    if name == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, name)


@contextmanager
def collector(certificate: Path | None = None) -> Iterator[Collector]:
    """Run a collector on a free port. With a certificate (and its key in the same file), it uses TLS."""
    with webhook_server(certificate) as server:
        yield Collector(server)
