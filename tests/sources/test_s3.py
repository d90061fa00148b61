"""Ranges of an object in moto's S3, and the object to which they belong."""

from collections.abc import Callable
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import stamina

from keyhole.api import scan_s3
from keyhole.builders import gpt_disk
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources import retries as retries_module
from keyhole.sources.errors import ObjectChangedError, TransientError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.retries import RETRY_ATTEMPTS, RETRY_SECONDS
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_obstore import ObstoreRefusedError
from keyhole.sources.s3_route import STRIKES
from tests.servers.access import CREDENTIALS, isolate, s3_access
from tests.servers.recorded_moto import RecordedMoto
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, refuse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = bytes(range(256)) * 40
#: A key that obstore reads, and a key that only boto3 can read.
KEYS = ["image", "images//image"]

Open = Callable[..., S3Source]


@pytest.fixture(params=KEYS, ids=["obstore", "boto3"])
def key(request: pytest.FixtureRequest) -> str:
    """A key for each of the two clients in turn."""
    key: str = request.param
    return key


@pytest.fixture
def put(s3: "S3Client", bucket: str, key: str) -> Callable[[bytes], str | None]:
    """Puts the object, and returns its version id."""

    def put_it(body: bytes) -> str | None:
        return s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId")

    return put_it


@pytest.fixture
def source(recorded_access: S3Access, bucket: str, key: str) -> Open:
    """Opens the object, or a version of it."""

    def open_it(version_id: str | None = None) -> S3Source:
        return S3Source(recorded_access, bucket, key, version_id=version_id, meter=Meter(Budget()))

    return open_it


@pytest.fixture
def versioned(s3: "S3Client", bucket: str) -> None:
    """Enable versioning for the bucket."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1), (0, 512), (1000, 512), (len(BODY) - 1, 1), (0, len(BODY))]
)
def test_a_range_is_read(put: Callable[[bytes], None], source: Open, offset: int, length: int) -> None:
    put(BODY)
    assert source().read(offset, length) == BODY[offset : offset + length]


def test_a_range_that_ends_behind_the_object_ends_with_it(put: Callable[[bytes], None], source: Open) -> None:
    put(BODY)
    assert source().read(100, 1 << 20) == BODY[100:]


def test_an_empty_object_is_read_as_nothing(put: Callable[[bytes], None], source: Open) -> None:
    put(b"")
    empty = source()
    assert empty.read(0, 512) == b""
    assert empty.identity
    assert empty.identity.size == 0


def test_an_empty_object_is_unrecognized_and_its_etag_known(
    put: Callable[[bytes], None], recorded_access: S3Access, s3: "S3Client", bucket: str, key: str
) -> None:
    put(b"")
    report = scan_s3(recorded_access, bucket, key, None, ScanSettings())
    assert (report.status, report.reasons, report.size) == (Status.UNRECOGNIZED, ("empty",), 0)
    assert report.etag == s3.head_object(Bucket=bucket, Key=key)["ETag"]


def test_an_empty_object_takes_two_requests(
    put: Callable[[bytes], None], recorded_access: S3Access, recorded: RecordedMoto, bucket: str, key: str
) -> None:
    """S3 refuses the range, and its refusal states no ETag. The second request has no range."""
    put(b"")
    recorded.requests.clear()
    report = scan_s3(recorded_access, bucket, key, None, ScanSettings())
    assert [(request.method, request.range is None) for request in recorded.requests] == [
        ("GET", False),
        ("GET", True),
    ]
    assert (report.requests, report.bytes_read, report.reasons) == (2, 0, ("empty",))


def test_empty_objects_do_not_make_keyhole_give_up_obstore(
    recorded_access: S3Access, s3: "S3Client", bucket: str
) -> None:
    """Some programs store an empty object for each folder."""
    for number in range(STRIKES):
        s3.put_object(Bucket=bucket, Key=f"empty{number}", Body=b"")
        assert scan_s3(recorded_access, bucket, f"empty{number}", None, ScanSettings()).size == 0
    assert recorded_access.route(bucket).store is not None


def test_a_range_that_is_refused_although_there_are_bytes_is_requested_again(
    scripted: ScriptedS3, scripted_access: S3Access
) -> None:
    """The object was empty during the first request, or the server refused the range by mistake."""
    scripted.put("image", BODY)
    scripted.script(refuse(416, "InvalidRange"))
    image = S3Source(scripted_access, BUCKET, "image", version_id=None, meter=Meter(Budget()))
    assert image.read(0, 512) == BODY[:512]


@pytest.mark.parametrize(
    ("text", "is_about_range"),
    [
        ("GET http://s3/b/k in 1ms - Server returned non-2xx status code: 416 Range Not Satisfiable: ", True),
        (
            "GET http://s3/b/k in 1ms - Server returned non-2xx status code: 503 : x-2xx status code: 416 ",
            False,
        ),
        ("GET http://s3/b/non-2xx%20status%20code:%20416%20 in 1ms - timeout", False),
        ("", False),
    ],
)
def test_the_status_of_a_refusal_is_the_servers(text: str, *, is_about_range: bool) -> None:
    assert ObstoreRefusedError(text).is_about_range is is_about_range


def test_before_the_first_read_it_is_not_known_which_object_it_is(source: Open) -> None:
    assert source().identity is None


def test_the_first_read_tells_which_object_it_is(
    put: Callable[[bytes], None], source: Open, s3: "S3Client", bucket: str, key: str
) -> None:
    put(BODY)
    image = source()
    image.read(0, 512)
    stated = s3.head_object(Bucket=bucket, Key=key)
    assert image.identity
    assert image.identity.size == len(BODY)
    assert image.identity.etag == stated["ETag"]
    assert image.identity.last_modified == stated["LastModified"]


def test_every_request_is_a_get_and_every_later_one_pinned(
    put: Callable[[bytes], None], source: Open, recorded: RecordedMoto
) -> None:
    put(BODY)
    image = source()
    recorded.requests.clear()
    for offset in (0, 1024, 2048):
        image.read(offset, 512)
    image.read(len(BODY) - 512, 512)
    assert image.identity
    assert {request.method for request in recorded.requests} == {"GET"}
    assert [request.if_match for request in recorded.requests] == [None, *[image.identity.etag] * 3]
    assert {request.version_id for request in recorded.requests} == {None}


@pytest.mark.usefixtures("versioned")
def test_in_a_bucket_with_versions_later_requests_state_the_version(
    put: Callable[[bytes], str], source: Open, recorded: RecordedMoto
) -> None:
    version_id = put(BODY)
    image = source()
    recorded.requests.clear()
    image.read(0, 512)
    image.read(len(BODY) - 512, 512)
    assert image.identity
    assert image.identity.version_id == version_id
    assert [request.version_id for request in recorded.requests] == [None, version_id]


@pytest.mark.usefixtures("versioned")
def test_a_version_is_read_though_it_is_not_the_current_one(
    put: Callable[[bytes], str], source: Open
) -> None:
    old = put(b"old")
    put(b"new")
    assert source(version_id=old).read(0, 512) == b"old"


@pytest.mark.usefixtures("versioned")
def test_a_version_is_read_on_though_another_is_put(put: Callable[[bytes], str], source: Open) -> None:
    put(b"old" + BODY)
    image = source()
    image.read(0, 3)
    put(b"new" + BODY)
    assert image.read(0, 3) == b"old"


def test_a_replaced_object_is_not_read_on(put: Callable[[bytes], str], source: Open) -> None:
    put(b"old" + BODY)
    image = source()
    image.read(0, 3)
    put(b"new" + BODY)
    with pytest.raises(ObjectChangedError):
        image.read(0, 3)


# The waits of retries


def test_production_retries_within_bounds_of_attempts_and_seconds(
    scripted: ScriptedS3, scripted_access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the retry policy of production, and a clock that does not delay the test
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    scripted.script(then=refuse(503, "SlowDown"))
    image = S3Source(scripted_access, BUCKET, "image", version_id=None, meter=Meter(Budget()))
    # When every read fails
    with stamina.set_testing(False), pytest.raises(TransientError):
        image.read(0, 512)
    # Then all attempts are made, with a wait before each retry, and the waits fit into the budget
    assert len(waits) == RETRY_ATTEMPTS - 1
    assert all(wait > 0 for wait in waits)
    assert sum(waits) < RETRY_SECONDS


def test_production_begins_no_attempt_when_its_time_is_over(
    scripted: ScriptedS3, scripted_access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries_module, "RETRY_SECONDS", 1e-9)
    scripted.script(then=refuse(503, "SlowDown"))
    image = S3Source(scripted_access, BUCKET, "image", version_id=None, meter=Meter(Budget()))
    with stamina.set_testing(False), pytest.raises(TransientError):
        image.read(0, 512)
    assert len(scripted.requests) == 2  # obstore sends the request, and boto3 finds the error's name


# Settings that must not change the server


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_S3_EXPRESS", "true"),
        ("AWS_BUCKET", "another"),
    ],
)
def test_the_environment_leads_obstore_nowhere_else(
    scripted: ScriptedS3, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.put("image", BODY)
    monkeypatch.setenv(name, value)
    with s3_access(scripted.url) as access:
        image = S3Source(access, BUCKET, "image", version_id=None, meter=Meter(Budget()))
        assert image.read(0, 512) == BODY[:512]
    (request,) = scripted.requests
    assert (request.bucket, request.key) == (BUCKET, "image")
    assert request.headers["user-agent"] == "keyhole"
    assert "Signature" in request.headers["authorization"]


def test_threads_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **CREDENTIALS)
    access = S3Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", connections=4)
    threads = 8
    barrier = Barrier(threads)
    clients = []

    def take() -> None:
        barrier.wait()
        clients.append(access.client)

    taking = [Thread(target=take) for _ in range(threads)]
    for thread in taking:
        thread.start()
    for thread in taking:
        thread.join()
    assert len(clients) == threads
    assert len(set(map(id, clients))) == 1


def test_an_image_in_moto_is_scanned(
    put: Callable[[bytes], str], recorded_access: S3Access, bucket: str, key: str
) -> None:
    put(gpt_disk(2 << 20).to_bytes())
    report = scan_s3(recorded_access, bucket, key, None, ScanSettings())
    assert (report.status, report.virtual_size) == (Status.SAFE, 2 << 20)
