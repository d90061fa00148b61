"""The webhook, against a real HTTP server: signed, not redirected, bounded in time and bytes."""

import hmac
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyhole.results.sinks.delivery import DeliveryError
from keyhole.results.sinks.webhook import LONGEST_RETRY_AFTER, MOST_OF_ANSWER, Webhook
from keyhole.sources import addresses
from tests.e2e.commands import PATIENCE
from tests.ports import free_port
from tests.results.sinks.reports import EVENT
from tests.servers.certificates import Authority, make_authority
from tests.servers.webhook_server import Handler, WebhookServer, status, webhook_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def _server(authority: Authority) -> Iterator[WebhookServer]:
    with webhook_server(authority.sign("hooks.example", "127.0.0.1")) as server:
        yield server


@pytest.fixture
def server(_server: WebhookServer) -> WebhookServer:
    _server.received.clear()
    _server.answers.clear()
    return _server


@pytest.fixture
def webhook(server: WebhookServer, authority: Authority) -> Webhook:
    return open_webhook(server.url, authority.file)


def open_webhook(url: str, certificates: Path, **options: Any) -> Webhook:
    given = {"private": True, "certificates": str(certificates), "seconds": PATIENCE} | options
    return Webhook(url, SECRET, **given)


def error_of(webhook: Webhook) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        webhook.send(EVENT)
    return caught.value


def test_it_sends_the_event_as_a_structured_cloudevent(server: WebhookServer, webhook: Webhook) -> None:
    webhook.send(EVENT)

    (request,) = server.received
    assert request.path == "/hook?team=a"
    assert request.body == EVENT.body
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["host"] == server.url.split("/")[2]


def test_the_receiver_can_verify_the_signature(server: WebhookServer, webhook: Webhook) -> None:
    webhook.send(EVENT)

    (request,) = server.received
    signed = f"{EVENT.id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = hmac.digest(b64decode(SECRET.removeprefix("whsec_")), signed, "sha256")
    assert request.headers["webhook-signature"] == f"v1,{b64encode(expected).decode()}"
    assert request.headers["webhook-id"] == EVENT.id
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 599])
def test_after_these_statuses_it_is_sent_again(server: WebhookServer, webhook: Webhook, code: int) -> None:
    server.answers.append(status(code, b"not now"))

    error = error_of(webhook)

    assert not error.is_final
    assert error.reason == f"http_{code}"
    assert "not now" in str(error)


@pytest.mark.parametrize("code", [304, 400, 401, 404, 410, 422])
def test_after_all_others_it_is_not(server: WebhookServer, webhook: Webhook, code: int) -> None:
    server.answers.append(status(code))

    assert error_of(webhook).is_final


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: WebhookServer, webhook: Webhook, code: int) -> None:
    server.answers.append(status(code, location=server.url))

    error = error_of(webhook)

    assert error.is_final
    assert "KEYHOLE_WEBHOOK_URL" in str(error)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("86400", LONGEST_RETRY_AFTER),
        ("-1", 0),
        ("soon", 0),
        ("", 0),
        ("9" * 500, LONGEST_RETRY_AFTER),
    ],
)
def test_the_webhook_can_postpone_the_next_attempt(
    server: WebhookServer, webhook: Webhook, value: str, seconds: float
) -> None:
    server.answers.append(status(503, retry_after=value))

    assert error_of(webhook).retry_after == seconds


def test_it_can_also_state_a_date(server: WebhookServer, webhook: Webhook) -> None:
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    server.answers.append(status(429, retry_after=at))

    assert 90 < error_of(webhook).retry_after <= 100


def test_an_endless_body_is_read_only_to_its_limit(server: WebhookServer, webhook: Webhook) -> None:
    sent = 0

    def endless(handler: Handler) -> None:
        nonlocal sent
        handler.send_response(500)
        handler.end_headers()
        while not server.stopping.is_set():
            sent += handler.wfile.write(b"x" * 65536)

    server.answers.append(endless)

    error = error_of(webhook)

    assert error.reason == "http_500"
    assert len(str(error)) < MOST_OF_ANSWER
    assert sent < 64 * 2**20  # what the buffers of the two sockets hold


def test_the_body_of_a_good_answer_is_not_read(server: WebhookServer, webhook: Webhook) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.stopping.is_set():
            handler.wfile.write(b"x" * 65536)

    server.answers.append(endless)

    webhook.send(EVENT)


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 No\r\n\r\n"])
def test_a_slow_answer_ends_at_the_deadline(server: WebhookServer, authority: Authority, drip: bytes) -> None:
    """It would never end otherwise."""

    def slow(handler: Handler) -> None:
        handler.wfile.write(drip)
        while not server.stopping.wait(0.05):
            handler.wfile.write(b"x")

    server.answers.append(slow)

    error = error_of(open_webhook(server.url, authority.file, seconds=2.0))

    assert not error.is_final
    assert server.received


def test_a_server_that_refuses_the_connection_is_tried_again(authority: Authority) -> None:
    error = error_of(open_webhook(f"https://127.0.0.1:{free_port()}/", authority.file))

    assert (error.reason, error.is_final) == ("connection", False)


def test_a_server_that_hangs_up_is_tried_again(server: WebhookServer, webhook: Webhook) -> None:
    server.answers.append(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))

    error = error_of(webhook)

    assert (error.reason, error.is_final) == ("connection", False)


def test_the_certificate_must_be_trusted(server: WebhookServer, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path, "stranger")

    error = error_of(open_webhook(server.url, stranger.file))

    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert server.received == []


def _answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let each further resolution of a name answer with the next address. Return the resolved names."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if not host.endswith(".example"):
            return real(host, port, *args, **options)
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_the_certificate_must_be_for_the_name_and_not_for_the_address(
    server: WebhookServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer(monkeypatch, "127.0.0.1")
    port = server.url.split("/")[2].rpartition(":")[2]

    open_webhook(f"https://hooks.example:{port}/", authority.file).send(EVENT)
    error = error_of(open_webhook(f"https://other.example:{port}/", authority.file))

    assert "Hostname mismatch" in str(error)
    assert [request.headers["host"] for request in server.received] == [f"hooks.example:{port}"]


def test_a_name_is_resolved_once_so_it_cannot_be_rebound(
    server: WebhookServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer would lead to this server. The first one leads to an address that is checked."""
    asked = _answer(monkeypatch, "203.0.113.7", "127.0.0.1")
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "203.0.113.7")
    monkeypatch.setattr("keyhole.results.sinks.webhook.WAIT_SECONDS", 0.2)
    port = server.url.split("/")[2].rpartition(":")[2]

    error = error_of(open_webhook(f"https://hooks.example:{port}/", authority.file, private=False))

    assert error.reason == "connection"
    assert asked == ["hooks.example"]
    assert server.received == []


def test_a_private_address_is_refused_before_a_connection(
    server: WebhookServer, authority: Authority
) -> None:
    error = error_of(open_webhook(server.url, authority.file, private=False))

    assert (error.reason, error.is_final) == ("private_address", True)
    assert server.received == []


def test_no_proxy_is_used(
    server: WebhookServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")

    open_webhook(server.url, authority.file).send(EVENT)

    assert len(server.received) == 1


def test_the_path_which_can_contain_a_secret_is_in_no_message(
    server: WebhookServer, webhook: Webhook
) -> None:
    server.answers.append(status(500))

    assert "team" not in str(error_of(webhook))


def test_the_check_sends_nothing(server: WebhookServer, webhook: Webhook) -> None:
    assert "can be reached" in webhook.check()
    assert server.received == []


def test_without_tls_it_works_too() -> None:
    with webhook_server() as plain:
        open_webhook(plain.url, Path("/etc/ssl/certs/ca-certificates.crt")).send(EVENT)

        assert len(plain.received) == 1
