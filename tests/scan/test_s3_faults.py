"""The report on each fault of S3: every fault has a status and a reason."""

import gc
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from botocore.awsrequest import AWSResponse
from urllib3.exceptions import ProtocolError

from keyhole.api import scan_s3
from keyhole.builders import Image, gpt_disk, mbr_disk, qcow2, vdi, vmdk_sparse
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.scanner import MAX_STARTS
from keyhole.scan.settings import ScanSettings
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate, s3_access
from tests.servers.request import Request
from tests.servers.scripted_s3 import (
    BUCKET,
    Answer,
    Fault,
    ScriptedS3,
    break_off,
    ignore_range,
    refusal,
    refuse,
    right,
    send_too_much,
    state,
    without_length,
)

KEY = "image"
GIB = 1 << 30

#: The connection's buffers fill before a server notices that the client has stopped reading.
BUFFERED_BYTES = 8 << 20

Scan = Callable[..., Report]


@pytest.fixture
def scan(scripted_access: S3Access) -> Scan:
    """Scans the only object of these tests."""

    def scan_it(version_id: str | None = None) -> Report:
        return scan_s3(scripted_access, BUCKET, KEY, version_id, ScanSettings())

    return scan_it


SSE_C = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided."
)

LASTING = [
    pytest.param(refuse(404, "NoSuchKey"), Status.UNREADABLE, "not_found", id="NoSuchKey"),
    pytest.param(refuse(404, "NoSuchBucket"), Status.UNREADABLE, "not_found", id="NoSuchBucket"),
    pytest.param(refuse(404, "NoSuchVersion"), Status.UNREADABLE, "not_found", id="NoSuchVersion"),
    pytest.param(refuse(403, "AccessDenied"), Status.UNREADABLE, "access_denied", id="AccessDenied"),
    pytest.param(refuse(403, "InvalidObjectState"), Status.UNREADABLE, "archived", id="InvalidObjectState"),
    pytest.param(refuse(405, "MethodNotAllowed"), Status.UNREADABLE, "delete_marker", id="405"),
    pytest.param(
        refuse(404, "NoSuchKey", x_amz_delete_marker="true"),
        Status.UNREADABLE,
        "delete_marker",
        id="404 with x-amz-delete-marker",
    ),
    pytest.param(refuse(400, "InvalidRequest", SSE_C), Status.UNREADABLE, "customer_key", id="SSE-C"),
    pytest.param(refuse(400, "ExpiredToken"), Status.FAILED, "credentials", id="ExpiredToken"),
    pytest.param(refuse(403, "InvalidAccessKeyId"), Status.FAILED, "credentials", id="InvalidAccessKeyId"),
    pytest.param(refuse(403, "SignatureDoesNotMatch"), Status.FAILED, "credentials", id="bad signature"),
    pytest.param(refuse(403, "RequestTimeTooSkewed"), Status.FAILED, "clock", id="RequestTimeTooSkewed"),
    pytest.param(refuse(500, "InternalError"), Status.FAILED, "server_error", id="500"),
    pytest.param(refuse(502, "BadGateway"), Status.FAILED, "server_error", id="502"),
    pytest.param(refuse(503, "ServiceUnavailable"), Status.FAILED, "server_error", id="503"),
    pytest.param(refuse(503, "SlowDown"), Status.FAILED, "slow_down", id="SlowDown"),
    pytest.param(refuse(429, "TooManyRequests"), Status.FAILED, "slow_down", id="429"),
    pytest.param(refuse(400, "RequestTimeout"), Status.FAILED, "server_error", id="RequestTimeout"),
    pytest.param(refuse(400, "Novelty"), Status.FAILED, "request", id="an unknown code"),
    pytest.param(refuse(301, "PermanentRedirect"), Status.FAILED, "request", id="a redirect to nowhere"),
    pytest.param(
        refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"),
        Status.FAILED,
        "request",
        id="a redirect in a circle",
    ),
    pytest.param(break_off(1000), Status.FAILED, "truncated_body", id="a body that breaks off"),
    pytest.param(
        state(Content_Range="bytes 512-66047/1000000"), Status.FAILED, "wrong_range", id="another range"
    ),
    pytest.param(state(Content_Range=None), Status.FAILED, "wrong_range", id="206 without a range"),
]


@pytest.mark.parametrize(("fault", "status", "reason"), LASTING)
def test_a_lasting_fault_has_its_status_and_reason(
    scripted: ScriptedS3, scan: Scan, fault: Fault, status: Status, reason: str
) -> None:
    scripted.put(KEY, qcow2(GIB))
    scripted.script(then=fault)
    report = scan()
    assert (report.status, report.reasons) == (status, (reason,))


@pytest.mark.parametrize("fault", [pytest.param(row.values[0], id=row.id) for row in LASTING])
def test_a_lasting_fault_costs_a_bounded_number_of_gets_and_all_are_counted(
    scripted: ScriptedS3, scan: Scan, fault: Fault
) -> None:
    scripted.put(KEY, qcow2(GIB))
    scripted.script(then=fault)
    report = scan()
    assert {request.method for request in scripted.requests} == {"GET"}
    assert report.requests == len(scripted.requests) <= RETRY_ATTEMPTS + 1


@pytest.mark.parametrize("failures", [1, 2, RETRY_ATTEMPTS])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(refuse(500, "InternalError"), id="500"),
        pytest.param(refuse(502, "BadGateway"), id="502"),
        pytest.param(refuse(503, "SlowDown"), id="SlowDown"),
        pytest.param(refuse(400, "RequestTimeout"), id="RequestTimeout"),
        pytest.param(break_off(0), id="no body"),
        pytest.param(break_off(1000), id="a body that breaks off"),
        pytest.param(state(Content_Range="bytes 512-66047/1000000"), id="another range"),
    ],
)
def test_a_fault_that_passes_is_retried(
    scripted: ScriptedS3, scan: Scan, fault: Fault, failures: int
) -> None:
    scripted.put(KEY, qcow2(GIB))
    scripted.script(*[fault] * failures)
    report = scan()
    assert (report.status, report.virtual_size) == (Status.SAFE, GIB)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_header_that_makes_no_sense_is_a_servers_error(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.put(KEY, qcow2(GIB))
    scripted.script(then=state(Last_Modified="yesterday"))
    report = scan()
    assert (report.status, report.reasons) == (Status.FAILED, ("server_error",))
    gc.collect()  # botocore drops such an answer without closing it, and Python warns


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_refusal_whose_connection_is_reset_is_the_networks_fault(
    scripted: ScriptedS3, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(_: AWSResponse) -> bytes:
        raise ProtocolError("Connection broken: Connection reset by peer")

    scripted.put(KEY, qcow2(GIB))
    scripted.script(then=refuse(503, "SlowDown"))
    monkeypatch.setattr(AWSResponse, "content", property(reset))
    report = scan()
    assert (report.status, report.reasons) == (Status.FAILED, ("network",))
    gc.collect()  # botocore drops such an answer without closing it, and Python warns


def test_denied_says_that_the_object_may_be_missing(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.script(then=refuse(403, "AccessDenied"))
    assert "missing" in str(scan().details["error"])


def test_an_unknown_refusal_is_told_in_the_servers_words(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.script(then=refuse(400, "Novelty", "not on a Sunday"))
    assert "400 Novelty: not on a Sunday" in str(scan().details["error"])


def test_a_bucket_in_another_region_is_read_there_and_the_way_counted(scripted: ScriptedS3) -> None:
    # Given a bucket in another region, about which both clients get an answer
    scripted.put(KEY, qcow2(GIB))
    elsewhere = refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    scripted.script(
        then=lambda request, answer: (
            answer if "/eu-west-1/" in request.headers["authorization"] else elsewhere(request, answer)
        )
    )
    with s3_access(scripted.url) as access:
        # When two of its objects are scanned
        first, second = (scan_s3(access, BUCKET, KEY, None, ScanSettings()) for _ in range(2))
    # Then the first object's requests find the region, the second's use it, and all requests are counted
    assert first.status is second.status is Status.SAFE
    assert first.requests == second.requests + 2
    assert first.requests + second.requests == len(scripted.requests)
    assert {request.headers["user-agent"] for request in scripted.requests[3:]} == {"keyhole"}


# A server that ignores Range


@pytest.fixture
def scan_first(scripted: ScriptedS3) -> Iterator[Scan]:
    """Scans the object with a client that has sent no request to the server yet."""
    with s3_access(scripted.url) as access:
        yield lambda: scan_s3(access, BUCKET, KEY, None, ScanSettings())


def test_a_server_that_heeded_ranges_before_and_ignores_one_is_at_fault(
    scripted: ScriptedS3, scan: Scan
) -> None:
    # Given a server that has answered a range correctly
    scripted.put(KEY, gpt_disk(500 * GIB))
    assert scan().status is Status.SAFE
    scripted.script(then=ignore_range)
    # Then the report states nothing about the object
    report = scan()
    assert (report.status, report.reasons) == (Status.FAILED, ("wrong_range",))


def test_a_range_that_is_ignored_once_is_asked_for_again(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.put(KEY, gpt_disk(500 * GIB))
    assert scan().status is Status.SAFE
    scripted.script(right, ignore_range, ignore_range)
    assert scan().status is Status.SAFE


def test_a_small_object_is_read_though_the_server_ignores_range(
    scripted: ScriptedS3, scan_first: Scan
) -> None:
    scripted.put(KEY, gpt_disk(2 << 20))
    scripted.script(then=ignore_range)
    report = scan_first()
    assert (report.status, report.virtual_size) == (Status.SAFE, 2 << 20)


def test_a_short_object_is_read_to_its_end_though_the_server_ignores_range(
    scripted: ScriptedS3, scan_first: Scan
) -> None:
    scripted.put(KEY, Image.of(8 << 20, vdi(GIB).pieces))
    scripted.script(then=ignore_range)
    assert scan_first().status is Status.SAFE
    assert scripted.bytes_sent < 2 * BUFFERED_BYTES


#: A qcow2 whose header, at byte 48, states that its refcount table is far away.
FAR_TABLE = Image.of(500 * GIB, qcow2(GIB).pieces).patched(48, (400 * GIB).to_bytes(8, "big"))


@pytest.mark.parametrize("image", [gpt_disk(500 * GIB), FAR_TABLE], ids=["at its end", "in its middle"])
def test_an_object_is_not_read_to_what_lies_far_behind_though_the_server_ignores_range(
    scripted: ScriptedS3, scan_first: Scan, image: Image
) -> None:
    scripted.put(KEY, image)
    scripted.script(then=ignore_range)
    report = scan_first()
    assert (report.status, report.reasons) == (Status.UNREADABLE, ("range_ignored",))
    assert scripted.bytes_sent < BUFFERED_BYTES


def test_an_object_of_unknown_length_is_not_read_though_the_server_ignores_range(
    scripted: ScriptedS3, scan_first: Scan
) -> None:
    scripted.put(KEY, mbr_disk(500 * GIB))
    scripted.script(then=without_length)
    report = scan_first()
    assert (report.status, report.reasons) == (Status.UNREADABLE, ("range_ignored",))
    assert scripted.bytes_sent < BUFFERED_BYTES


def test_a_range_that_is_answered_with_far_more_is_read_no_further(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.put(KEY, gpt_disk(500 * GIB))
    scripted.script(then=send_too_much)
    report = scan()
    assert report.status is Status.SAFE
    assert scripted.bytes_sent < BUFFERED_BYTES


# An object that changes


def replacing(scripted: ScriptedS3, image: Image, answer: Callable[[Request], Answer]) -> Fault:
    """Replace the object that is being read, and then answer."""

    def fault(request: Request, _: Answer) -> Answer:
        scripted.put(KEY, image)
        return answer(request)

    return fault


def unpinned(scripted: ScriptedS3) -> Callable[[Request], Answer]:
    """The answers of a server that does not support If-Match."""

    def answer(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name != "if-match"}
        return scripted.right_answer(replace(request, headers=headers))

    return answer


def test_an_object_replaced_between_two_reads_is_scanned_anew(scripted: ScriptedS3, scan: Scan) -> None:
    # Given an object that is replaced after the first read
    scripted.put(KEY, gpt_disk(GIB))
    scripted.script(right, replacing(scripted, gpt_disk(2 * GIB), scripted.right_answer))
    # When it is scanned
    report = scan()
    # Then the report is only about the new object
    assert (report.status, report.virtual_size, report.size) == (Status.SAFE, 2 * GIB, 2 * GIB)
    assert report.etag == scripted.put(KEY, gpt_disk(2 * GIB))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(gpt_disk(GIB), gpt_disk(2 * GIB), id="by a longer one"),
        pytest.param(gpt_disk(GIB), gpt_disk(GIB).patched(GIB // 2, b"new"), id="by one as long"),
        pytest.param(
            vmdk_sparse(10 * GIB, allocated=4), qcow2(GIB // 32, cluster_bits=9), id="by one that ends before"
        ),
        pytest.param(gpt_disk(GIB), Image(0), id="by an empty one"),
    ],
)
def test_a_replaced_object_is_noticed_though_the_server_ignores_if_match(
    scripted: ScriptedS3, scan: Scan, before: Image, after: Image
) -> None:
    # Given a server that ignores If-Match, and an object that is replaced after the first read
    scripted.put(KEY, before)
    answer = unpinned(scripted)
    scripted.script(right, replacing(scripted, after, answer), then=lambda request, _: answer(request))
    # When it is scanned
    report = scan()
    # Then the report is only about the new object
    assert (report.etag, report.size) == (scripted.put(KEY, after), after.size)
    assert report.status is (Status.SAFE if after.size else Status.UNRECOGNIZED)


def test_an_object_replaced_under_every_scan_is_inconclusive(scripted: ScriptedS3, scan: Scan) -> None:
    # Given an object that is replaced after every second request
    scripted.put(KEY, gpt_disk(GIB))
    scripted.script(
        then=lambda request, answer: refusal(412, "PreconditionFailed") if request.if_match else answer
    )
    # When it is scanned
    report = scan()
    # Then the scan started a few times, and the report states nothing about the content
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("object_changed",))
    assert sum(request.if_match is None for request in scripted.requests) == MAX_STARTS
    assert report.virtual_size is None


# Versions


def test_a_learned_version_that_may_not_be_read_by_its_id_is_pinned_by_its_etag(
    scripted: ScriptedS3, scan: Scan
) -> None:
    # Given a version that can be read without its version id but not with it
    etag = scripted.put(KEY, gpt_disk(GIB), version_id="v1")
    scripted.script(
        then=lambda request, answer: refusal(403, "AccessDenied") if request.version_id else answer
    )
    # When it is scanned
    report = scan()
    # Then it is read without the id, and all reads are of one object
    assert (report.status, report.version_id, report.etag) == (Status.SAFE, "v1", etag)
    assert scripted.requests[-1].if_match == etag


def test_a_given_version_that_may_not_be_read_is_denied(scripted: ScriptedS3, scan: Scan) -> None:
    scripted.put(KEY, gpt_disk(GIB), version_id="v1")
    scripted.script(
        then=lambda request, answer: refusal(403, "AccessDenied") if request.version_id else answer
    )
    report = scan(version_id="v1")
    assert (report.status, report.reasons) == (Status.UNREADABLE, ("access_denied",))
    assert {request.version_id for request in scripted.requests} == {"v1"}


# No connection to the server


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"AWS_REGION": "us-east-1"}, id="none"),
        pytest.param({"AWS_ACCESS_KEY_ID": "half"}, id="half of them"),
    ],
)
def test_without_credentials_a_scan_fails_before_it_asks(
    scripted: ScriptedS3, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    isolate(monkeypatch, **variables)
    access = S3Access(endpoint_url=scripted.url, region="us-east-1", connections=1)
    report = scan_s3(access, BUCKET, KEY, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("credentials",))
    assert not scripted.requests


def test_a_profile_that_does_not_exist_is_a_matter_of_credentials(
    scripted: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, AWS_PROFILE="nope")
    access = S3Access(endpoint_url=scripted.url, region="us-east-1", connections=1)
    report = scan_s3(access, BUCKET, KEY, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("credentials",))
    assert "nope" in str(report.details["error"])


def test_an_endpoint_that_is_no_url_fails_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **CREDENTIALS)
    access = S3Access(endpoint_url="localhost:9000", region="us-east-1", connections=1)
    report = scan_s3(access, BUCKET, KEY, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("request",))


@pytest.mark.usefixtures("scripted")
def test_a_server_that_is_not_there_is_a_failure_of_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    with s3_access(f"http://127.0.0.1:{port}") as access:
        report = scan_s3(access, BUCKET, KEY, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("network",))
    assert report.requests == RETRY_ATTEMPTS + 1


def test_a_bucket_that_can_have_no_such_name_fails_the_request(
    scripted: ScriptedS3, scripted_access: S3Access
) -> None:
    report = scan_s3(scripted_access, "no bucket", KEY, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("request",))
    assert not scripted.bytes_sent
