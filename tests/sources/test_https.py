"""Objects on web servers, against a real server with TLS: ranges, redirects, lies, private addresses."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from keyhole.api import scan_url
from keyhole.builders import qcow2, vdi
from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources import addresses, https_access
from keyhole.sources.https_access import CONNECT_SECONDS, HttpsAccess
from keyhole.sources.meter import Budget
from keyhole.sources.retries import RETRY_ATTEMPTS
from tests.servers.certificates import Authority, make_authority
from tests.servers.forward_proxy import forward_proxy
from tests.servers.origin import Handler, Origin, origin_server, redirect, status

QCOW2 = qcow2(1 << 30).to_bytes()
#: Needs ranges after the first.
VDI = vdi(1 << 30, allocated=2).to_bytes()
SECRET = "Yk3SecretSignature"
PRESIGNED = f"/image.qcow2?X-Amz-Credential=AKIAX&X-Amz-Signature={SECRET}"


@pytest.fixture(scope="module")
def _origin(authority: Authority) -> Iterator[Origin]:
    with origin_server(authority.sign("origin.example", "127.0.0.1")) as origin:
        yield origin


@pytest.fixture
def origin(_origin: Origin, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """A web server with TLS and a qcow2, whose CA Keyhole trusts. Retries do not wait."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    _origin.reset(QCOW2)
    with stamina.set_testing(True, attempts=RETRY_ATTEMPTS):
        yield _origin


@pytest.fixture
def access() -> Iterator[HttpsAccess]:
    opened = HttpsAccess(private=True, connections=4)
    yield opened
    opened.close()


def scanned(access: HttpsAccess, url: str, **budget: float) -> Report:
    return scan_url(access, url, ScanSettings(head_bytes=64 * 1024, budget=Budget(**budget)))  # type: ignore[arg-type]


def reasons(report: Report) -> list[str]:
    return [*report.reasons, str(report.details.get("error", ""))]


def test_it_is_read_by_ranges_and_named_by_its_url(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(VDI)

    report = scanned(access, origin.url("/a/b.vdi"))

    assert (report.status, report.format, report.size) == (Status.SAFE, "vdi", len(VDI))
    assert (report.target, report.bucket, report.key) == (origin.url("/a/b.vdi"), None, None)
    assert report.etag == origin.etag
    assert report.requests == len(origin.requests) >= 2
    assert report.bytes_read < len(VDI) / 2
    assert "if-range" not in origin.requests[0].headers
    assert {request.headers["if-range"] for request in origin.requests[1:]} == {origin.etag}
    assert all(request.headers["range"].startswith("bytes=") for request in origin.requests)
    assert all(request.headers["accept-encoding"] == "identity" for request in origin.requests)


def test_a_changed_object_is_read_again_from_its_beginning(origin: Origin, access: HttpsAccess) -> None:
    def replaced(handler: Handler) -> None:
        origin.content = VDI[:-1] + b"\1"
        handler.usual()

    origin.reset(VDI, Handler.usual, replaced)

    report = scanned(access, origin.url())

    assert (report.status, report.etag) == (Status.SAFE, origin.etag)


def test_an_object_that_keeps_changing_gets_no_verdict(origin: Origin, access: HttpsAccess) -> None:
    def other(handler: Handler) -> None:
        origin.content = origin.content[:-1] + bytes([len(origin.requests)])
        handler.usual()

    origin.reset(VDI, *[other] * 20)

    report = scanned(access, origin.url())

    assert reasons(report)[0] == "object_changed"


def test_without_an_etag_the_time_of_the_modification_is_the_version(
    origin: Origin, access: HttpsAccess
) -> None:
    origin.reset(VDI)
    origin.headers = {"ETag": "", "Last-Modified": "Fri, 01 May 2026 10:00:00 GMT"}

    def later(handler: Handler) -> None:
        origin.headers["Last-Modified"] = "Fri, 01 May 2026 10:00:01 GMT"
        handler.headers.replace_header("If-Range", origin.etag)
        handler.usual()

    origin.answers = [Handler.usual, later]

    report = scanned(access, origin.url())

    assert origin.requests[1].headers["if-range"] == "Fri, 01 May 2026 10:00:00 GMT"
    assert len(origin.requests) > 3  # the changed object was read from its beginning
    assert report.last_modified is not None
    assert report.last_modified.second == 1


def test_an_answer_to_if_range_need_not_repeat_the_time(origin: Origin, access: HttpsAccess) -> None:
    def later(handler: Handler) -> None:
        origin.headers = {"ETag": ""}
        assert handler.headers["If-Range"] == "Fri, 01 May 2026 10:00:00 GMT"
        handler.headers.replace_header("If-Range", origin.etag)
        handler.usual()

    origin.reset(VDI, Handler.usual, *[later] * 20)
    origin.headers = {"ETag": "", "Last-Modified": "Fri, 01 May 2026 10:00:00 GMT"}

    assert scanned(access, origin.url()).status is Status.SAFE


@pytest.mark.parametrize("stated", ["v\x1b[2J", "v" * 2000])
def test_a_version_that_a_server_made_up_is_in_no_report(
    origin: Origin, access: HttpsAccess, stated: str
) -> None:
    origin.headers = {"x-amz-version-id": stated}

    assert scanned(access, origin.url()).version_id is None


def test_an_object_without_a_version_is_read_in_one_piece(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(VDI)
    origin.headers = {"ETag": ""}

    report = scanned(access, origin.url())

    assert report.status is Status.SAFE
    assert ["range" in request.headers for request in origin.requests] == [True, False]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_without_ranges_is_read_in_one_piece(
    origin: Origin, access: HttpsAccess, chunked: bool
) -> None:
    origin.reset(VDI)
    origin.ranges, origin.chunked = False, chunked

    report = scanned(access, origin.url())

    assert (report.status, report.size, report.requests) == (Status.SAFE, len(VDI), 1)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_object_without_ranges_is_refused(origin: Origin, access: HttpsAccess, chunked: bool) -> None:
    origin.reset(VDI)
    origin.ranges, origin.chunked = False, chunked

    report = scanned(access, origin.url(), bytes=300_000)

    assert report.status is Status.UNREADABLE
    assert reasons(report)[0] == "range_ignored"
    assert "download the object" in reasons(report)[1]
    assert report.bytes_read <= 300_000 + 64 * 1024


def test_an_empty_object_is_empty(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(b"")

    assert scanned(access, origin.url()).reasons == ("empty",)


def test_redirects_are_followed_and_later_requests_go_to_the_last_url(
    origin: Origin, access: HttpsAccess
) -> None:
    origin.reset(VDI, redirect("/mirror/1", 301), redirect("b?token=x", 307))

    report = scanned(access, origin.url())

    assert report.status is Status.SAFE
    assert [request.path for request in origin.requests[:3]] == [
        "/image.qcow2",
        "/mirror/1",
        "/mirror/b?token=x",
    ]
    assert {request.path for request in origin.requests[2:]} == {"/mirror/b?token=x"}
    assert report.target == origin.url()
    assert report.requests == len(origin.requests)


def test_endless_redirects_end(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(QCOW2, *[redirect("/again")] * 50)

    report = scanned(access, origin.url())

    assert reasons(report)[0] == "request"
    assert len(origin.requests) == 6


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "https://[::1", "s3://bucket/key", "https://u:p@127.0.0.1/"]
)
def test_a_redirect_to_something_else_is_refused(origin: Origin, access: HttpsAccess, to: str) -> None:
    origin.reset(QCOW2, redirect(to))

    report = scanned(access, origin.url())

    assert reasons(report)[0] == "request"
    assert "u:p" not in report.model_dump_json()


def test_a_private_address_is_refused_before_a_request(origin: Origin) -> None:
    report = scanned(HttpsAccess(private=False, connections=1), origin.url())

    assert (report.status, *report.reasons) == (Status.UNREADABLE, "address_not_allowed")
    assert "127.0.0.1, which is not public; to allow it, use --allow-private" in reasons(report)[1]
    assert origin.requests == []


def test_a_redirect_to_a_private_address_is_refused(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address counts as public here; localhost has another address, which does not."""
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    port = origin.root.rpartition(":")[2]
    origin.reset(QCOW2, redirect(f"https://127.0.0.2:{port}/metadata"))

    report = scanned(HttpsAccess(private=False, connections=1), origin.url())

    assert report.reasons == (Reason.ADDRESS_NOT_ALLOWED,)
    assert len(origin.requests) == 1


def test_the_checked_address_is_the_one_to_which_it_connects(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second answer of DNS cannot lead elsewhere, because the name is resolved once for a connection."""
    port = int(origin.root.rpartition(":")[2])
    asked = []
    real = socket.getaddrinfo

    def answer(host: str, *given: Any, **options: Any) -> Any:
        if host != "origin.example":
            return real(host, *given, **options)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))]

    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(addresses.socket, "getaddrinfo", answer)

    report = scanned(HttpsAccess(private=False, connections=1), f"https://origin.example:{port}/a.qcow2")

    assert (report.status, asked) == (Status.SAFE, ["origin.example"])


def test_http_and_proxies_are_refused_unless_they_are_allowed(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = scanned(HttpsAccess(private=False, connections=1), "http://127.0.0.1/a.qcow2")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    proxied = scanned(HttpsAccess(private=False, connections=1), origin.url())

    assert [plain.reasons, proxied.reasons] == [(Reason.ADDRESS_NOT_ALLOWED,)] * 2
    assert "is not encrypted" in reasons(plain)[1]
    assert "NO_PROXY" in reasons(proxied)[1]


def test_a_proxy_that_is_allowed_is_used(
    origin: Origin, access: HttpsAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy(origin.root) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:p%40ss@"))
        report = scanned(access, "https://origin.example/a.qcow2")

    assert report.status is Status.SAFE
    assert set(proxy.asked) == {"origin.example:443"}
    assert proxy.authorizations


def test_a_password_stays_with_its_server(origin: Origin, access: HttpsAccess, authority: Authority) -> None:
    with origin_server(authority.sign("127.0.0.1")) as other:
        other.reset(VDI)
        origin.reset(QCOW2, redirect(other.url()))

        report = scanned(access, origin.url().replace("//", "//user:p%40ss@"))

        assert report.status is Status.SAFE
        assert origin.requests[0].headers["authorization"] == "Basic dXNlcjpwQHNz"
        assert other.requests
        assert not [request for request in other.requests if "authorization" in request.headers]
    assert report.target == origin.url().replace("//", "//***@")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "access_denied"),
        (403, "access_denied"),
        (404, "not_found"),
        (410, "not_found"),
        (418, "request"),
        (429, "slow_down"),
        (503, "server_error"),
        (304, "request"),
    ],
)
def test_a_refusal_is_explained(origin: Origin, access: HttpsAccess, code: int, reason: str) -> None:
    origin.reset(QCOW2, *[status(code)] * 10)

    assert reasons(scanned(access, origin.url()))[0] == reason


def test_a_failure_is_retried(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(QCOW2, status(503), status(429))

    report = scanned(access, origin.url())

    assert (report.status, report.requests) == (Status.SAFE, len(origin.requests))


def partial(stated: str, body: bytes) -> "list[object]":
    return [lambda handler: handler.answer(206, body, {"Content-Range": stated})] * 20


@pytest.mark.parametrize(
    ("stated", "length", "reason"),
    [
        ("bytes 512-1023/4096", 512, "wrong_range"),
        ("bytes 0-511/4096", 512, "wrong_range"),
        ("bytes 0-65535/*", 65536, "wrong_range"),
        (f"bytes 0-65535/{'9' * 5000}", 65536, "wrong_range"),
        ("\x1b[31mnonsense", 10, "wrong_range"),
        ("", 10, "wrong_range"),
        (f"bytes 0-65535/{10**18 - 1}", 100, "truncated_body"),
    ],
)
def test_a_lie_about_a_range_is_found(
    origin: Origin, access: HttpsAccess, stated: str, length: int, reason: str
) -> None:
    origin.reset(QCOW2)
    origin.answers = partial(stated, bytes(length))  # type: ignore[assignment]

    report = scanned(access, origin.url())

    assert reasons(report)[0] == reason
    assert "\x1b" not in report.model_dump_json()


def test_a_body_that_breaks_off_is_found(origin: Origin, access: HttpsAccess) -> None:
    def broken(handler: Handler) -> None:
        size = len(VDI)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-65535/{size}")
        handler.send_header("Content-Length", "65536")
        handler.end_headers()
        handler.wfile.write(bytes(1000))
        handler.close_connection = True

    origin.reset(VDI, *[broken] * 10)

    assert reasons(scanned(access, origin.url()))[0] == "truncated_body"


def test_a_server_that_stops_taking_if_range_is_read_without_it(origin: Origin, access: HttpsAccess) -> None:
    origin.reset(VDI, Handler.usual, lambda handler: handler.answer(200, VDI))

    report = scanned(access, origin.url())

    assert report.status is Status.SAFE
    assert "if-range" not in origin.requests[-1].headers


@pytest.mark.parametrize("when", ["headers", "body"])
def test_a_slow_server_cannot_exceed_the_seconds(origin: Origin, access: HttpsAccess, when: str) -> None:
    """It sends a byte from time to time without end, so no wait for bytes takes long."""

    def slow(handler: Handler) -> None:
        if when == "body":
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-65535/{len(VDI)}")
            handler.send_header("Content-Length", "65536")
            handler.end_headers()
        while not origin.stopping.wait(0.02):
            handler.wfile.write(b"H")
            handler.wfile.flush()

    origin.reset(VDI, *[slow] * 10)

    report = scanned(access, origin.url(), seconds=2)

    assert report.reasons == (Reason.NETWORK,)
    assert "within the seconds of the scan's budget" in reasons(report)[1]


def test_a_server_that_accepts_no_connection_cannot_exceed_the_seconds(
    origin: Origin, access: HttpsAccess
) -> None:
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):  # they fill the queue, and the system drops further requests
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())

        report = scanned(access, f"http://127.0.0.1:{server.getsockname()[1]}/a.qcow2", seconds=1)

    assert origin.requests == []
    assert report.reasons == (Reason.NETWORK,)
    assert "within the seconds of the scan's budget" in reasons(report)[1]
    assert report.elapsed_ms < 1000 * CONNECT_SECONDS  # which would end the wait otherwise


def test_content_encoding_is_not_decoded_but_compared(origin: Origin, access: HttpsAccess) -> None:
    origin.headers = {"Content-Encoding": "gzip"}

    report = scanned(access, origin.url())

    assert report.format == "qcow2"
    assert "format_mismatch" in report.reasons


def test_the_suffix_and_the_content_type_declare_a_format(origin: Origin, access: HttpsAccess) -> None:
    by_suffix = scanned(access, origin.url("/disk.vmdk?X-Amz-Signature=a"))
    origin.headers = {"x-amz-meta-disk_format": "raw"}
    by_metadata = scanned(access, origin.url())

    assert "the name ends in .vmdk" in by_suffix.findings[0].message
    assert by_metadata.status is Status.UNSAFE


def test_a_presigned_query_is_in_no_report_and_no_log(
    origin: Origin, access: HttpsAccess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")
    origin.reset(VDI, status(503), redirect(f"/other?X-Amz-Signature={SECRET}"))

    report = scanned(access, origin.url(PRESIGNED))
    refused = scanned(access, "https://127.0.0.1:1/" + PRESIGNED)

    assert origin.requests[0].path == PRESIGNED
    assert report.target == origin.url("/image.qcow2?***")
    told = report.model_dump_json() + refused.model_dump_json() + caplog.text
    assert SECRET not in told
    assert "AKIAX" not in told
    assert refused.reasons == (Reason.NETWORK,)
    assert "no connection" in reasons(refused)[1]
    assert "GET /image.qcow2?***" in caplog.text  # urllib3 did log the requests


def test_an_untrusted_certificate_is_refused_with_advice(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_authority(tmp_path, "other").file))

    report = scanned(HttpsAccess(private=True, connections=1), origin.url())

    assert reasons(report)[0] == "request"
    assert "set SSL_CERT_FILE to the CA's file" in reasons(report)[1]


def test_a_certificate_for_another_host_is_refused(
    origin: Origin, access: HttpsAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https_access, "resolve", lambda *_, **__: ["127.0.0.1"])

    report = scanned(access, origin.url().replace("127.0.0.1", "other.example"))

    assert reasons(report)[0] == "request"
    assert "not for this host" in reasons(report)[1]


def test_connections_are_used_again(origin: Origin, access: HttpsAccess) -> None:
    threads: set[int] = set()

    def noted(handler: Handler) -> None:
        threads.add(threading.get_ident())
        handler.usual()

    origin.reset(VDI, *[noted] * 20)

    for _ in range(3):
        assert scanned(access, origin.url()).status is Status.SAFE

    assert len(origin.requests) >= 6
    assert len(threads) == 1  # the server has a thread for each connection
