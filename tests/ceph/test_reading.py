"""Ranges of objects in a real S3: the bytes, the object that they belong to, and the number of requests."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from keyhole.api import scan_s3
from keyhole.builders import gpt_disk, qcow2
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.scanner import MAX_STARTS
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import ObjectChangedError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from tests.servers.access import s3_access
from tests.servers.ceph_rgw import CephRgw
from tests.servers.recording_proxy import RecordingProxy
from tests.servers.request import Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2
BODY = bytes(range(256)) * 40
#: The user agents of the two clients, by a key that the client should read.
AGENTS = {"image": "keyhole", "images//image": "Boto3"}

Open = Callable[..., S3Source]
Put = Callable[..., str | None]


@pytest.fixture(params=AGENTS, ids=["obstore", "boto3"])
def key(request: pytest.FixtureRequest) -> str:
    """A key for each of the two clients in turn."""
    key: str = request.param
    return key


@pytest.fixture
def put(s3: "S3Client", bucket: str, key: str) -> Put:
    """Puts the object, and returns its version id."""

    def put_it(body: bytes) -> str | None:
        return s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId")

    return put_it


@pytest.fixture
def source(access: S3Access, recorded: RecordingProxy, bucket: str, key: str) -> Open:
    """Opens the object, or a version of it."""
    assert recorded.requests == []

    def open_it(version_id: str | None = None) -> S3Source:
        return S3Source(access, bucket, key, version_id=version_id, meter=Meter(Budget()))

    return open_it


@pytest.fixture
def scan(access: S3Access, recorded: RecordingProxy, bucket: str, key: str) -> Callable[..., Report]:
    """Scans the object, or a version of it."""
    assert recorded.requests == []

    def scan_it(version_id: str | None = None) -> Report:
        return scan_s3(access, bucket, key, version_id, ScanSettings())

    return scan_it


def agents(recorded: RecordingProxy) -> list[str]:
    """The user agents of all requests."""
    return [request.headers["user-agent"].split("/")[0] for request in recorded.requests]


class TestRanges:
    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 1), (0, 512), (1000, 512), (len(BODY) - 1, 1), (0, len(BODY)), (100, 1 << 20)],
    )
    def test_a_range_is_read_in_one_request(
        self, put: Put, source: Open, recorded: RecordingProxy, key: str, offset: int, length: int
    ) -> None:
        """The last range ends after the object's end, so S3 shortens it."""
        put(BODY)
        assert source().read(offset, length) == BODY[offset : offset + length]
        assert agents(recorded) == [AGENTS[key]]

    def test_behind_the_end_of_what_was_read_there_is_another_object(self, put: Put, source: Open) -> None:
        """An offset that existed before gives 416 only if the object was replaced by a shorter one."""
        put(BODY)
        image = source()
        image.read(0, 512)
        with pytest.raises(ObjectChangedError):
            image.read(len(BODY), 1)

    def test_an_empty_object_is_read_as_nothing(
        self, put: Put, source: Open, recorded: RecordingProxy, key: str
    ) -> None:
        """An empty object has no valid range, so the second request has no range."""
        put(b"")
        empty = source()
        assert empty.read(0, 512) == b""
        assert empty.identity
        assert empty.identity.size == 0
        assert agents(recorded) == [AGENTS[key], "Boto3"]
        assert recorded.requests[-1].range is None


class TestWhichObject:
    def test_the_first_read_tells(
        self, put: Put, source: Open, s3: "S3Client", bucket: str, key: str
    ) -> None:
        put(BODY)
        image = source()
        image.read(0, 512)
        stated = s3.head_object(Bucket=bucket, Key=key)
        assert image.identity
        assert image.identity.size == len(BODY)
        assert image.identity.etag == stated["ETag"]
        assert image.identity.last_modified == stated["LastModified"]
        assert image.identity.version_id is None

    def test_every_request_is_a_get_and_every_later_one_pinned(
        self, put: Put, source: Open, recorded: RecordingProxy, key: str
    ) -> None:
        put(BODY)
        image = source()
        for offset in (0, 1024, 2048):
            image.read(offset, 512)
        image.read(len(BODY) - 512, 512)
        assert image.identity
        assert {request.method for request in recorded.requests} == {"GET"}
        assert [request.if_match for request in recorded.requests] == [None, *[image.identity.etag] * 3]
        assert agents(recorded) == [AGENTS[key]] * 4

    def test_a_replaced_object_is_not_read_on(self, put: Put, source: Open) -> None:
        """The server answers 412."""
        put(b"old" + BODY)
        image = source()
        image.read(0, 3)
        put(b"new" + BODY)
        with pytest.raises(ObjectChangedError):
            image.read(0, 3)

    def test_replaced_under_the_scan_the_new_one_gets_the_verdict(
        self, put: Put, scan: Callable[..., Report], recorded: RecordingProxy
    ) -> None:
        # Given a disk that needs several GETs and is replaced before the second
        put(gpt_disk(2 * MIB).to_bytes())

        def replace(request: Request) -> None:
            if request.if_match:
                recorded.before = lambda _: None
                put(gpt_disk(3 * MIB).to_bytes())

        recorded.before = replace
        # When it is scanned
        report = scan()
        # Then the report is about the new object, and includes every request
        assert (report.status, report.virtual_size, report.size) == (Status.SAFE, 3 * MIB, 3 * MIB)
        assert report.requests == len(recorded.requests)
        starts = [place for place, request in enumerate(recorded.requests) if request.if_match is None]
        assert len(starts) == 2
        assert {request.if_match for request in recorded.requests[starts[1] + 1 :]} == {report.etag}

    def test_replaced_under_every_scan_it_is_inconclusive(
        self, put: Put, scan: Callable[..., Report], recorded: RecordingProxy
    ) -> None:
        """A further scan could again find another object."""
        put(gpt_disk(2 * MIB).to_bytes())
        sizes = iter(range(3, 100))
        recorded.before = lambda request: (
            put(gpt_disk(next(sizes) * MIB).to_bytes()) if request.if_match else None
        )
        report = scan()
        assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("object_changed",))
        assert len([request for request in recorded.requests if request.if_match is None]) == MAX_STARTS
        assert report.requests == len(recorded.requests)


@pytest.mark.usefixtures("versioned")
class TestVersions:
    def test_each_gets_a_verdict_of_its_own(self, put: Put, scan: Callable[..., Report]) -> None:
        old = put(qcow2(MIB, backing_file="/etc/shadow").to_bytes())
        new = put(qcow2(2 * MIB).to_bytes())
        found = [scan(old), scan(new), scan()]
        assert [(report.version_id, report.status, report.virtual_size) for report in found] == [
            (old, Status.UNSAFE, MIB),
            (new, Status.SAFE, 2 * MIB),
            (new, Status.SAFE, 2 * MIB),
        ]

    def test_later_requests_state_the_version(self, put: Put, source: Open, recorded: RecordingProxy) -> None:
        version_id = put(BODY)
        image = source()
        image.read(0, 512)
        image.read(len(BODY) - 512, 512)
        assert image.identity
        assert image.identity.version_id == version_id
        assert [request.version_id for request in recorded.requests] == [None, version_id]

    def test_one_is_read_on_though_another_is_put(self, put: Put, source: Open) -> None:
        put(b"old" + BODY)
        image = source()
        image.read(0, 3)
        put(b"new" + BODY)
        assert image.read(0, 3) == b"old"

    def test_below_a_delete_marker_there_is_nothing_and_the_version_before_is_still_there(
        self, put: Put, scan: Callable[..., Report], s3: "S3Client", bucket: str, key: str
    ) -> None:
        """RGW 16.2 only reports that the key does not exist.

        It does so even if the delete marker's version is requested.
        """
        old = put(qcow2(MIB).to_bytes())
        marker = s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
        found = [scan(), scan(marker), scan(old)]
        assert [(report.status, report.reasons) for report in found] == [
            (Status.UNREADABLE, ("not_found",)),
            (Status.UNREADABLE, ("not_found",)),
            (Status.SAFE, ()),
        ]

    def test_one_that_is_not_there_is_not_found(self, put: Put, scan: Callable[..., Report]) -> None:
        put(BODY)
        report = scan("y" * 32)
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("not_found",))

    def test_one_of_suspended_versioning_is_null(
        self, s3: "S3Client", bucket: str, put: Put, scan: Callable[..., Report]
    ) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        put(qcow2(MIB).to_bytes())
        found = [scan(), scan("null")]
        assert [(report.status, report.virtual_size) for report in found] == [(Status.SAFE, MIB)] * 2
        assert found[1].version_id == "null"


class TestRefused:
    def test_a_missing_object_is_not_found(self, scan: Callable[..., Report]) -> None:
        report = scan()
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("not_found",))

    def test_a_missing_bucket_is_not_found(self, access: S3Access, key: str) -> None:
        report = scan_s3(access, "no-such-bucket", key, None, ScanSettings())
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("not_found",))

    @pytest.mark.parametrize(("access_key", "secret_key"), [("test", "wrong"), ("nobody", "test")])
    def test_wrong_credentials_are_named(
        self, rgw: CephRgw, put: Put, bucket: str, key: str, access_key: str, secret_key: str
    ) -> None:
        """The server checks the signature first, even if the object does not exist."""
        put(BODY)
        with s3_access(rgw.url, AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key) as wrong:
            report = scan_s3(wrong, bucket, key, None, ScanSettings())
        assert (report.status, report.reasons) == (Status.FAILED, ("credentials",))

    def test_what_is_another_s_is_denied(self, rgw: CephRgw, put: Put, bucket: str, key: str) -> None:
        put(BODY)
        name = f"stranger-{bucket}"
        rgw.add_user(name, access_key=name, secret_key="secret")
        with s3_access(rgw.url, AWS_ACCESS_KEY_ID=name, AWS_SECRET_ACCESS_KEY="secret") as stranger:
            report = scan_s3(stranger, bucket, key, None, ScanSettings())
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("access_denied",))

    def test_what_the_customer_s_key_encrypts_says_so(
        self, s3: "S3Client", scan: Callable[..., Report], bucket: str, key: str
    ) -> None:
        s3.put_object(
            Bucket=bucket, Key=key, Body=BODY, SSECustomerAlgorithm="AES256", SSECustomerKey=b"k" * 32
        )
        report = scan()
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("customer_key",))
