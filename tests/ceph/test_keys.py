"""Look-alike keys in a real S3: Keyhole reads, lists and tags each as itself."""

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import stamina

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.intake.listing import Listed, Lister, ObjectLister, VersionLister, list_objects
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import TransientError, UnreadableError
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_obstore import can_name
from tests.servers.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2

KEYS = [
    *("a", "a/", "/a", "//a", "a//", "a/b", "a//b", "./a", ".", "..", "a/.", "a/./b", "a/../b", "b", "../b"),
    *(
        "a b",
        "a+b",
        "a%20b",
        "a%2Bb",
        "a%2Fb",
        "a%252Fb",
        "a%",
        "%",
        "+",
        " ",
        " a",
        "a ",
        "a/b c+\u00fc.img",
    ),
    *("a#b", "a%23b", "a?b", "a?versionId=1", "a&b=c;d", "a\\b", 'a"b', "a'b", "a*b", "a<b>&amp;", "~a", "A"),
    *("caf\u00e9", "cafe\u0301", "\N{FLOPPY DISK}", "\u202ea", "k" * 899, "k" * 900, "\u00e9" * 512),
    *("a\tb", "a\nb", "a\r\nb", "a\rb", "\n", "a\x7fb", "a\x85b", "a\u2028b"),
    *("null", "?tagging", "?versions", "bucket/a"),
]
#: Keys that XML cannot contain. RGW 16.2 encodes them in lists of keys, but not in the marker that states on
#: which key a page ends.
UNSPEAKABLE = ["a\x01b", "a\x1bb", "\uffff"]
#: Each key's image has another virtual size.
SIZES = {key: number * MIB for number, key in enumerate(KEYS + UNSPEAKABLE, start=1)}


def filled(s3: "S3Client", keys: list[str]) -> str:
    """A new bucket with a different image under each key."""
    name = f"keys-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=qcow2(SIZES[key]).to_bytes())
    return name


@pytest.fixture(scope="module")
def look_alikes(s3: "S3Client") -> str:
    """A bucket with all keys that XML can contain."""
    return filled(s3, KEYS)


@pytest.fixture(scope="module")
def unspeakable(s3: "S3Client") -> str:
    """A bucket with the keys that XML cannot contain."""
    return filled(s3, UNSPEAKABLE)


def pages(lister: Lister) -> list[tuple[Listed, ...]]:
    """Return all pages of a lister. Each request uses the cursor of the page before."""
    page = lister.page(None)
    found = [page.objects]
    while page.cursor is not None:
        page = lister.page(page.cursor)
        found.append(page.objects)
    return found


@pytest.mark.parametrize("key", KEYS + UNSPEAKABLE)
def test_each_is_read_as_itself_in_one_request(
    look_alikes: str, unspeakable: str, access: S3Access, recorded: RecordingProxy, key: str
) -> None:
    """Keyhole uses the client that can request the key: obstore or boto3."""
    bucket = unspeakable if key in UNSPEAKABLE else look_alikes
    report = scan_s3(access, bucket, key, None, ScanSettings())
    assert (report.virtual_size, report.key) == (SIZES[key], key)
    (request,) = recorded.requests
    assert (request.bucket, request.key) == (bucket, key)
    assert ("Boto3" in request.headers["user-agent"]) is not can_name(key)


class TestListing:
    def test_each_is_listed_as_itself_in_the_order_of_its_bytes(
        self, look_alikes: str, access: S3Access
    ) -> None:
        listed = [each.key for each in list_objects(access.client, look_alikes, "")]
        assert listed == sorted(KEYS, key=str.encode)

    @pytest.mark.parametrize("page_size", [1, 7])
    def test_page_by_page_none_is_missing_and_none_comes_twice(
        self, look_alikes: str, access: S3Access, recorded: RecordingProxy, page_size: int
    ) -> None:
        """Each page needs one request, which continues after the last key.

        The last key can contain every character.
        """
        found = pages(ObjectLister(access.client, look_alikes, "", page_size=page_size))
        assert [len(page) for page in found[:-1]] == [page_size] * (len(found) - 1)
        assert [each.key for page in found for each in page] == sorted(KEYS, key=str.encode)
        assert len(recorded.requests) == len(found) == -(-len(KEYS) // page_size)

    def test_what_xml_cannot_carry_is_listed_too(self, unspeakable: str, access: S3Access) -> None:
        listed = [each.key for each in list_objects(access.client, unspeakable, "")]
        assert listed == sorted(UNSPEAKABLE, key=str.encode)

    def test_a_page_that_ends_on_what_xml_cannot_carry_is_an_error_that_is_told(
        self, unspeakable: str, access: S3Access
    ) -> None:
        """The server's answer is then not valid XML.

        Keyhole reports an error instead of omitting a key silently.
        """
        lister = ObjectLister(access.client, unspeakable, "", page_size=1)
        with stamina.set_testing(True, attempts=1), pytest.raises(TransientError) as raised:
            lister.page(None)
        assert raised.value.reason == "server_error"

    def test_it_states_what_a_read_states(self, look_alikes: str, access: S3Access) -> None:
        """Otherwise no object would be recognised as unchanged."""
        listed = {each.key: each for each in list_objects(access.client, look_alikes, "")}
        for key in ("a", "a//b", "a\nb"):
            report = scan_s3(access, look_alikes, key, None, ScanSettings())
            stated = (listed[key].etag, listed[key].size)
            assert stated == (report.etag, report.size)

    @pytest.mark.parametrize("prefix", ["a/", "a%2", "caf", "/", "k" * 900, "a\n", "no such"])
    def test_a_prefix_is_taken_as_it_is(self, look_alikes: str, access: S3Access, prefix: str) -> None:
        listed = {each.key for each in list_objects(access.client, look_alikes, prefix)}
        assert listed == {key for key in KEYS if key.startswith(prefix)}

    def test_a_bucket_that_is_not_there_is_not_found(self, access: S3Access) -> None:
        with pytest.raises(UnreadableError) as raised:
            list(list_objects(access.client, "no-such-bucket", ""))
        assert raised.value.reason == "not_found"


@pytest.mark.usefixtures("versioned")
class TestListingVersions:
    @pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
    def test_every_version_is_listed_once_and_no_delete_marker(
        self, s3: "S3Client", bucket: str, access: S3Access, recorded: RecordingProxy, page_size: int
    ) -> None:
        """The versions of a key come newest first, wherever a page ends."""
        versions = []
        for key in ("a\nb", "a", "a+b", "caf\u00e9"):
            of_key = [
                (key, s3.put_object(Bucket=bucket, Key=key, Body=bytes(size))["VersionId"], size)
                for size in range(3)
            ]
            versions += of_key[::-1]
            s3.delete_object(Bucket=bucket, Key=key)
        found = pages(VersionLister(access.client, bucket, "", page_size=page_size))
        listed = [(each.key, each.version_id, each.size) for page in found for each in page]
        assert listed == sorted(versions, key=lambda version: version[0].encode())
        assert len(recorded.requests) == len(found)

    def test_what_is_from_before_versioning_is_listed_as_null(
        self, s3: "S3Client", bucket: str, access: S3Access
    ) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        s3.put_object(Bucket=bucket, Key="a", Body=b"1")
        (listed,) = VersionLister(access.client, bucket, "").page(None).objects
        assert (listed.key, listed.version_id) == ("a", "null")
