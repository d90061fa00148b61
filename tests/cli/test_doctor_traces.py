"""`keyhole doctor`: its finding about the collector of traces."""

import json

import pytest

from tests.cli.conftest import Keyhole
from tests.ports import free_port
from tests.servers.collector import collector
from tests.servers.webhook_server import status


def told(keyhole: Keyhole, **settings: str) -> tuple[str, str]:
    """The state and the message of the finding."""
    (found,) = [
        one
        for one in map(json.loads, keyhole("doctor", "--json", **settings).lines)
        if one["what"] == "traces"
    ]
    return found["state"], found["message"]


def test_a_collector_that_accepts_an_empty_request_is_well(keyhole: Keyhole) -> None:
    with collector() as receiver:
        url = receiver.url.replace("http://", "http://user:secret@")
        state, message = told(keyhole, KEYHOLE_TRACES="1", OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert receiver.spans() == []
    assert (state, message.endswith("/v1/traces accepts traces")) == ("ok", True)
    assert "secret" not in message


@pytest.mark.parametrize(("code", "why"), [(401, "401"), (404, "404")])
def test_a_collector_that_refuses_is_told_of(keyhole: Keyhole, code: int, why: str) -> None:
    with collector() as receiver:
        receiver.server.answers.append(status(code))
        state, message = told(keyhole, KEYHOLE_TRACES="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert (state, why in message) == ("bad", True)


def test_a_collector_that_is_down_is_told_of(keyhole: Keyhole) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    state, message = told(keyhole, KEYHOLE_TRACES="1", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert (state, "Connection refused" in message) == ("bad", True)


def test_a_protocol_that_keyhole_lacks_is_told_of(keyhole: Keyhole) -> None:
    state, message = told(keyhole, KEYHOLE_TRACES="1", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert (state, "http/protobuf" in message) == ("bad", True)
