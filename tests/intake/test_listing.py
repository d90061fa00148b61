"""Listings of a bucket: a page's content, the start of the next page, and which servers are not trusted."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.intake.cursor import LoopDetectingCursor
from keyhole.intake.errors import ListingError
from keyhole.intake.listing import (
    MAX_EMPTY_ANSWERS,
    PAGE_KEYS,
    DirectoryLister,
    Listed,
    Lister,
    ObjectLister,
    VersionLister,
    list_objects,
    lister_for,
)
from keyhole.reasons import Reason
from keyhole.sources.errors import ConfigurationError, SourceError, TransientError, UnreadableError
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3_access import S3Access
from tests.servers.recorded_moto import RecordedMoto
from tests.servers.request import Request
from tests.servers.scripted_s3 import BUCKET, Answer, Fault, ScriptedS3, refuse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTRIBUTES_HEADER = "x-amz-optional-object-attributes"
DIRECTORY = "images--usw2-az1--x-s3"
#: More pages than any listing in these tests has.
MANY = 100

#: Characters that XML cannot contain, characters with a meaning in URLs and JSON, and keys with another order
#: in UTF-16 (U+FF5E after U+1F4BE) or in other collations (`a` before `B`).
KEYS = [
    "a",
    "B",
    "a b+c%.img",
    "a%20b",
    "a/b//c/",
    "a\\b",
    'a"b',
    "a<b>&amp;",
    "a\tb",
    "a\x7fb",
    "caf\u00e9",
    "cafe\u0301",
    "\uff5e",
    "\N{FLOPPY DISK}",
    "\U0010ffff",
    "~",
]


def all_pages(lister: Lister) -> list[tuple[Listed, ...]]:
    """The objects of each page. A new lister with the cursor, as text, reads each page."""
    page = lister.page(None)
    pages = [page.objects]
    while page.cursor is not None:
        assert len(pages) < MANY
        page = lister.page(page.cursor)
        pages.append(page.objects)
    return pages


def keys_of(pages: Iterable[Iterable[Listed]]) -> list[str]:
    return [listed.key for page in pages for listed in page]


# Objects, in moto


@pytest.fixture
def client(recorded_access: S3Access) -> "S3Client":
    """A client without retries. The server records its requests."""
    return recorded_access.client


@pytest.fixture
def put(s3: "S3Client", bucket: str) -> Callable[..., None]:
    """Puts an object of one byte under each of these keys."""

    def put_them(*keys: str) -> None:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    return put_them


def test_every_key_arrives_in_the_order_of_its_utf_8_bytes(
    put: Callable[..., None], client: "S3Client", bucket: str
) -> None:
    put(*KEYS)
    for page_size in (1, 3, 1000):
        pages = all_pages(ObjectLister(client, bucket, "", page_size=page_size))
        assert keys_of(pages) == sorted(KEYS, key=str.encode)
        assert all(len(page) <= page_size for page in pages)


def test_an_object_is_listed_with_what_a_get_says_of_it(
    s3: "S3Client", client: "S3Client", bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="image", Body=b"12345", StorageClass="STANDARD_IA")
    stated = s3.get_object(Bucket=bucket, Key="image")
    stated["Body"].close()
    ((listed,),) = all_pages(ObjectLister(client, bucket, ""))
    assert (listed.size, listed.etag, listed.last_modified) == (5, stated["ETag"], stated["LastModified"])
    assert listed.storage_class == "STANDARD_IA"
    assert (listed.version_id, listed.restored) == (None, False)


def test_only_what_begins_with_the_prefix_is_listed(
    put: Callable[..., None], client: "S3Client", bucket: str
) -> None:
    put("a", "a/x", "a/y", "ab", "b")
    assert keys_of(all_pages(ObjectLister(client, bucket, "a/", page_size=1))) == ["a/x", "a/y"]


def test_an_empty_bucket_is_one_page_without_objects(client: "S3Client", bucket: str) -> None:
    assert ObjectLister(client, bucket, "").page(None) == ((), None, 1)


def test_a_page_is_one_request_that_begins_after_the_last_key(
    put: Callable[..., None], client: "S3Client", bucket: str, recorded: RecordedMoto
) -> None:
    put("a", "b c", "d")
    lister = ObjectLister(client, bucket, "", page_size=2)
    recorded.requests.clear()
    first = lister.page(None)
    second = lister.page(first.cursor)
    assert (first.requests, second.requests, second.cursor) == (1, 1, None)
    assert [request.query.get("start-after") for request in recorded.requests] == [None, "b c"]
    assert all("continuation-token" not in request.query for request in recorded.requests)


def test_a_cursor_is_worth_the_same_though_its_key_is_gone(
    s3: "S3Client", put: Callable[..., None], client: "S3Client", bucket: str
) -> None:
    put("a", "b", "c", "d")
    cursor = ObjectLister(client, bucket, "", page_size=2).page(None).cursor
    s3.delete_object(Bucket=bucket, Key="b")
    another = ObjectLister(client, bucket, "", page_size=2)
    assert [listed.key for listed in another.page(cursor).objects] == ["c", "d"]


def test_without_an_own_limit_a_page_is_what_s3_lists_at_once(
    client: "S3Client", bucket: str, recorded: RecordedMoto
) -> None:
    ObjectLister(client, bucket, "").page(None)
    assert recorded.requests[-1].query["max-keys"] == str(PAGE_KEYS) == "1000"


def test_a_bucket_that_is_not_there_is_said_to_be_missing(client: "S3Client") -> None:
    with pytest.raises(UnreadableError) as raised:
        ObjectLister(client, "no-such-bucket", "").page(None)
    assert raised.value.reason is Reason.NOT_FOUND


# Versions, in moto


@pytest.fixture
def versioned(s3: "S3Client", bucket: str) -> str:
    """A bucket with versions, delete markers, and an object from before versioning."""
    s3.put_object(Bucket=bucket, Key="old", Body=b"x")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a b+c%.img", "d", "d", "d", "e"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for key in ("d", "e"):
        s3.delete_object(Bucket=bucket, Key=key)
    return bucket


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_every_version_is_listed_once_and_no_delete_marker(
    s3: "S3Client", client: "S3Client", versioned: str, page_size: int
) -> None:
    stated = s3.list_object_versions(Bucket=versioned)["Versions"]
    pages = all_pages(VersionLister(client, versioned, "", page_size=page_size))
    assert keys_of(pages) == ["a b+c%.img", "d", "d", "d", "e", "old"]
    found = [(listed.key, listed.version_id) for page in pages for listed in page]
    assert sorted(found) == sorted((entry["Key"], entry["VersionId"]) for entry in stated)
    assert ("old", "null") in found


def test_a_page_of_delete_markers_has_no_objects_and_is_not_the_last(
    client: "S3Client", versioned: str
) -> None:
    pages = all_pages(VersionLister(client, versioned, "", page_size=1))
    assert len(pages) == 8
    assert pages.count(()) == 2
    assert pages[-1] != ()


def test_versions_below_a_prefix_are_listed(client: "S3Client", versioned: str) -> None:
    assert keys_of(all_pages(VersionLister(client, versioned, "d", page_size=2))) == ["d", "d", "d"]


# Which lister


@pytest.mark.parametrize(
    ("bucket", "versions", "kind", "ordered"),
    [
        ("images", False, ObjectLister, True),
        ("images", True, VersionLister, True),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/images", False, ObjectLister, True),
        (DIRECTORY, False, DirectoryLister, False),
        ("images--usw2-az1--xa-s3", False, DirectoryLister, False),
        ("images-x-s3", False, ObjectLister, True),
    ],
)
def test_a_bucket_is_listed_by_its_kind(
    client: "S3Client", bucket: str, versions: bool, kind: type, ordered: bool
) -> None:
    lister = lister_for(client, bucket, "", versions=versions)
    assert type(lister) is kind
    assert lister.ordered is ordered


def test_a_directory_bucket_has_no_versions(client: "S3Client") -> None:
    with pytest.raises(ConfigurationError, match="directory buckets have no versions"):
        lister_for(client, DIRECTORY, "", versions=True)


def test_a_directory_bucket_lists_folders_alone(client: "S3Client") -> None:
    with pytest.raises(ConfigurationError, match="end the prefix with `/`"):
        lister_for(client, DIRECTORY, "images")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '"a"',
        '{"after": 1}',
        '{"after": "a", "more": 1}',
        '{"after": "\\ud800"}',
        '{"after": "b"}',
        '{"after": ""}',
        "[" * 100_000,
    ],
)
def test_a_cursor_that_is_not_of_a_listing_of_objects_is_refused(client: "S3Client", cursor: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        ObjectLister(client, "images", "a").page(cursor)


@pytest.mark.parametrize("cursor", ["", "{", '{"after": "a"}', '{"token": 1}', '{"key": ["a"]}'])
@pytest.mark.parametrize("kind", [VersionLister, DirectoryLister])
def test_a_cursor_of_another_lister_is_refused(client: "S3Client", kind: type, cursor: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        kind(client, "images", "").page(cursor)


# Servers' answers, scripted


def answered(xml: str) -> Answer:
    body = xml.encode()
    return Answer(
        200, {"Content-Type": "application/xml"}, Image.of(len(body), [(0, body)]), range(len(body))
    )


def says(xml: str) -> Fault:
    """Answer every request with this document."""
    return lambda *_: answered(xml)


def entry(key: str, kind: str = "Contents", *, size: str = "<Size>1</Size>", more: str = "") -> str:
    if "LastModified" not in more:
        more += changed("2026-05-01T12:00:00.000Z")
    return f"<{kind}><Key>{escape(key)}</Key>{size}<ETag>&quot;e&quot;</ETag>{more}</{kind}>"


def listing(*keys: str, truncated: bool = False, more: str = "", kind: str = "Contents") -> str:
    """A listing in S3's form, without encoding."""
    entries = "".join(key if key.startswith("<") else entry(key, kind) for key in keys)
    flag = f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
    return f"<ListBucketResult>{flag}{more}{entries}</ListBucketResult>"


def changed(time: str) -> str:
    return f"<LastModified>{time}</LastModified>"


def breaks_off(*_: object) -> Answer:
    """End the connection in the middle of a listing."""
    return replace(answered(listing("a", "b")), breaks_at=30)


EXPIRES = "<RestoreExpiryDate>2026-06-01T00:00:00.000Z</RestoreExpiryDate>"
TOKEN = "<NextContinuationToken>t</NextContinuationToken>"


@pytest.fixture
def objects(scripted_access: S3Access) -> ObjectLister:
    """Lists the scripted server's bucket with two keys per page."""
    return ObjectLister(scripted_access.client, BUCKET, "", page_size=2)


def refused(call: Callable[[], object], match: str) -> ListingError:
    with pytest.raises(ListingError, match=match) as raised:
        call()
    return raised.value


def refused_by_s3(call: Callable[[], object], reason: Reason, match: str) -> None:
    with pytest.raises(SourceError, match=match) as raised:
        call()
    assert raised.value.reason is reason


class ListedKeys:
    """Lists keys as S3 does: after a start key, in the order of their UTF-8 bytes, encoded."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = sorted(keys, key=str.encode)

    def __call__(self, request: Request, _: Answer) -> Answer:
        after, most = request.query.get("start-after", ""), int(request.query["max-keys"])
        keys = [key for key in self._keys if key.startswith(request.query["prefix"]) and key > after]
        encoding = "<EncodingType>url</EncodingType>"
        return answered(listing(*map(quote, keys[:most]), truncated=len(keys) > most, more=encoding))


# Each example scripts the server again.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.text(min_size=1, max_size=20), max_size=8),
    st.text(max_size=1),
    st.integers(1, 4),
)
def test_any_keys_are_all_listed_once_in_order(
    scripted: ScriptedS3, scripted_access: S3Access, keys: set[str], prefix: str, page_size: int
) -> None:
    scripted.script(then=ListedKeys(keys))
    pages = all_pages(ObjectLister(scripted_access.client, BUCKET, prefix, page_size=page_size))
    wanted = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
    assert keys_of(pages) == wanted
    assert len(pages) == max(1, ceil(len(wanted) / page_size))


def test_list_objects_goes_from_page_to_page(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    keys = [f"{number:04}" for number in range(2 * PAGE_KEYS + 1)]
    scripted.script(then=ListedKeys(keys))
    assert [listed.key for listed in list_objects(scripted_access.client, BUCKET, "")] == keys
    assert len(scripted.requests) == 3


@pytest.mark.parametrize("encode", [quote, quote_plus, lambda key: quote(key, safe="")])
@pytest.mark.parametrize("key", [*KEYS, "a\nb", "a\r\nb", "\x01", "\x00", "\x85"])
def test_a_key_arrives_as_it_is_however_the_server_encodes_it(
    scripted: ScriptedS3, objects: ObjectLister, encode: Callable[[str], str], key: str
) -> None:
    scripted.script(then=says(listing(encode(key), more="<EncodingType>url</EncodingType>")))
    assert keys_of(all_pages(objects)) == [key]
    assert scripted.requests[-1].query["encoding-type"] == "url"


def test_a_server_that_does_not_encode_is_read_as_it_is(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=says(listing("a b+c%2F.img")))
    assert keys_of(all_pages(objects)) == ["a b+c%2F.img"]


@pytest.mark.parametrize(
    ("status", "restored"),
    [
        ("", False),
        ("<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>", False),
        ("<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>", False),
        (f"<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>{EXPIRES}</RestoreStatus>", True),
    ],
)
def test_an_archived_object_is_restored_once_there_is_a_copy(
    scripted: ScriptedS3, objects: ObjectLister, status: str, restored: bool
) -> None:
    archived = f"<StorageClass>GLACIER</StorageClass>{status}"
    scripted.script(then=says(listing(entry("a", more=archived))))
    ((listed,),) = all_pages(objects)
    assert (listed.storage_class, listed.restored) == ("GLACIER", restored)
    assert scripted.requests[-1].headers[ATTRIBUTES_HEADER] == "RestoreStatus"


def test_an_entry_is_read_with_what_it_lacks(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=says(listing("<Contents><Key>a</Key><Size>1</Size></Contents>")))
    ((listed,),) = all_pages(objects)
    assert listed == Listed("a", 1)


def test_an_etag_without_quotes_gets_them(scripted: ScriptedS3, objects: ObjectLister) -> None:
    bare = "<Contents><Key>a</Key><Size>1</Size><ETag>abc-2</ETag></Contents>"
    scripted.script(then=says(listing(bare, entry("b"))))
    assert [listed.etag for listed in objects.page(None).objects] == ['"abc-2"', '"e"']


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_that_refuses_the_attributes_is_asked_without_and_not_asked_again(
    scripted: ScriptedS3, objects: ObjectLister, status: int, code: str
) -> None:
    # Given a server that does not support optional attributes
    def server(request: Request, answer: Answer) -> Answer:
        if ATTRIBUTES_HEADER in request.headers:
            return refuse(status, code)(request, answer)
        return answered(
            listing("a", "b", truncated=True) if "start-after" not in request.query else listing("c")
        )

    scripted.script(then=server)
    # When the bucket is listed, page by page
    first = objects.page(None)
    second = objects.page(first.cursor)
    # Then only the first page costs an additional request
    assert keys_of([first.objects, second.objects]) == ["a", "b", "c"]
    assert (first.requests, second.requests, len(scripted.requests)) == (2, 1, 3)


def test_a_request_that_is_refused_with_and_without_attributes_is_refused(
    scripted: ScriptedS3, objects: ObjectLister
) -> None:
    scripted.script(then=refuse(400, "InvalidArgument", "no such bucket name"))
    refused_by_s3(lambda: objects.page(None), Reason.REQUEST, "no such bucket name")
    assert len(scripted.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(refuse(503, "SlowDown"), id="SlowDown"),
        pytest.param(refuse(500, "InternalError"), id="500"),
        pytest.param(says("<Error><Code>InternalError</Code></Error>"), id="an error with 200"),
        pytest.param(says("<ListBucketResult><Contents>"), id="half a document"),
        pytest.param(says(""), id="no document"),
        pytest.param(says(listing(entry("a", size="<Size>x</Size>"))), id="a size that is no number"),
        pytest.param(says(listing(entry("a", more=changed("1e400")))), id="a time that is none"),
        pytest.param(says("<a>" * 100_000 + "</a>" * 100_000), id="a deep document"),
        pytest.param(breaks_off, id="a body that breaks off"),
    ],
)
def test_what_may_pass_is_asked_again_and_every_request_counted(
    scripted: ScriptedS3, objects: ObjectLister, fault: Fault
) -> None:
    scripted.script(fault, fault, then=says(listing("a")))
    page = objects.page(None)
    assert (keys_of([page.objects]), page.requests) == (["a"], 3)
    assert len(scripted.requests) == 3


def test_what_lasts_is_given_up_after_all_attempts(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=refuse(503, "SlowDown"))
    with pytest.raises(TransientError):
        objects.page(None)
    assert len(scripted.requests) == RETRY_ATTEMPTS


def test_what_is_denied_is_not_asked_again(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=refuse(403, "AccessDenied"))
    refused_by_s3(lambda: objects.page(None), Reason.ACCESS_DENIED, "s3:ListBucket")
    assert len(scripted.requests) == 1


# Servers whose listing would never end


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["b", "a"], id="downwards"),
        pytest.param(["a", "a"], id="twice"),
        # The order of UTF-16, or of a language's alphabet
        pytest.param(["\N{FLOPPY DISK}", "\uff5e"], id="by UTF-16"),
        pytest.param(["a", "B"], id="by letters"),
    ],
)
def test_keys_out_of_order_end_a_listing(
    scripted: ScriptedS3, objects: ObjectLister, keys: list[str]
) -> None:
    scripted.script(then=says(listing(*keys)))
    refused(lambda: objects.page(None), r"lists '.*' after '.*'; .* UTF-8")


def test_a_server_that_lists_the_same_page_again_is_not_listed_on(
    scripted: ScriptedS3, objects: ObjectLister
) -> None:
    scripted.script(then=says(listing("a", "b", truncated=True, more=TOKEN)))
    refused(lambda: all_pages(objects), "lists 'a' after 'b'")
    assert len(scripted.requests) == 2


def test_an_answer_without_objects_is_gone_on_from_by_the_servers_token(
    scripted: ScriptedS3, objects: ObjectLister
) -> None:
    scripted.script(says(listing(truncated=True, more=TOKEN)), says(listing("a")))
    assert objects.page(None) == ((Listed("a", 1, '"e"', datetime(2026, 5, 1, 12, tzinfo=UTC)),), None, 2)
    assert scripted.requests[-1].query["continuation-token"] == "t"


def test_a_server_that_promises_more_for_ever_is_left(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=says(listing(truncated=True, more=TOKEN)))
    refused(lambda: objects.page(None), "only empty pages")
    assert len(scripted.requests) == MAX_EMPTY_ANSWERS


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        (listing(truncated=True), "does not state NextContinuationToken"),
        (listing("a", "b", "c"), "3 keys, but 2 were requested"),
        (listing(entry("a", more=changed("0001-01-01T00:00:00+14:00"))), "invalid time 0001-01-01"),
        (listing("a%FF", more="<EncodingType>url</EncodingType>"), "lists 'a%FF', which is not UTF-8"),
        (listing(entry("a", size="")), "invalid size None"),
        (listing(entry("a", size="<Size>-1</Size>")), "invalid size -1"),
        (listing("<Contents><Size>1</Size></Contents>"), "does not state Key"),
        (
            listing("<Contents><Size>1</Size></Contents>", more="<EncodingType>url</EncodingType>"),
            "does not state Key",
        ),
        (listing(""), "does not state Key"),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(
    scripted: ScriptedS3, objects: ObjectLister, xml: str, match: str
) -> None:
    scripted.script(then=says(xml))
    refused(lambda: objects.page(None), match)


@pytest.mark.parametrize("kind", [ObjectLister, VersionLister, DirectoryLister])
def test_what_lies_outside_the_prefix_is_refused(
    scripted: ScriptedS3, scripted_access: S3Access, kind: Any
) -> None:
    tag = "Version" if kind is VersionLister else "Contents"
    scripted.script(then=says(listing(entry("b\x9b31m", tag, more="<VersionId>1</VersionId>"))))
    lister = kind(scripted_access.client, BUCKET, "a/")
    error = refused(lambda: lister.page(None), "does not begin with 'a/'")
    assert str(error).isprintable()


# Servers of versions


def versions(
    *entries: tuple[str, str], marker: tuple[str, str] | None = None, deleted: tuple[str, ...] = ()
) -> str:
    """A listing of versions, and the place where it continues."""
    more = "".join(entry(key, "DeleteMarker", size="", more="<VersionId>0</VersionId>") for key in deleted)
    if marker:
        key, version = marker
        more += f"<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{version}</NextVersionIdMarker>"
    told = [entry(key, "Version", more=f"<VersionId>{version}</VersionId>") for key, version in entries]
    return listing(*told, truncated=marker is not None, more=more)


@pytest.fixture
def version_lister(scripted_access: S3Access) -> VersionLister:
    """Lists the scripted server's versions."""
    return VersionLister(scripted_access.client, BUCKET, "", page_size=2)


@pytest.mark.parametrize(
    "marker",
    [pytest.param(("b", "1"), id="by the last entry"), pytest.param(("b", "2"), id="by the next entry")],
)
def test_versions_are_listed_on_from_where_the_server_says(
    scripted: ScriptedS3, version_lister: VersionLister, marker: tuple[str, str]
) -> None:
    scripted.script(says(versions(("a", "1"), ("b", "1"), marker=marker)), says(versions(("b", "2"))))
    assert keys_of(all_pages(version_lister)) == ["a", "b", "b"]
    assert [scripted.requests[1].query[name] for name in ("key-marker", "version-id-marker")] == list(marker)


@pytest.mark.parametrize("last", ["a b", "a%20b", "a+b"])
@pytest.mark.parametrize("following", ["a b+c%.img", "a%20b+c%.img", "a+c", "b%2Fc"])
def test_versions_are_listed_on_though_the_server_does_not_encode_the_next_key(
    scripted: ScriptedS3, version_lister: VersionLister, last: str, following: str
) -> None:
    # Given a server that, like Ceph 16, states only the next key to continue from, unencoded
    def server(request: Request, _: Answer) -> Answer:
        encoding = "<EncodingType>url</EncodingType>"
        if "key-marker" not in request.query:
            first = versions((quote(last), "1"), marker=(escape(following), "1"))
            return answered(first.replace("<IsTruncated>", f"{encoding}<IsTruncated>"))
        assert last <= request.query["key-marker"] <= following
        return answered(
            versions((quote(following), "1")).replace("<IsTruncated>", f"{encoding}<IsTruncated>")
        )

    scripted.script(then=server)
    # When the bucket is listed, then no version is left out
    if last < following:
        assert keys_of(all_pages(version_lister)) == [last, following]
    else:
        refused(lambda: all_pages(version_lister), "lists '.*' after '.*'")


def test_versions_are_listed_though_their_server_knows_no_attributes(
    scripted: ScriptedS3, version_lister: VersionLister
) -> None:
    scripted.script(
        refuse(501, "NotImplemented"),
        says(versions(("a", "1"), marker=("a", "1"))),
        says(versions(("a", "2"))),
    )
    first = version_lister.page(None)
    second = version_lister.page(first.cursor)
    assert (first.requests, second.requests) == (2, 1)


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        pytest.param(
            versions(("b", "1"), ("a", "1")), "the server lists .* after", id="versions out of order"
        ),
        pytest.param(versions(deleted=("b", "a")), "the server lists .* after", id="markers out of order"),
        pytest.param(
            versions(("b", "1"), marker=("a", "1")), "the server lists .* after", id="goes on before it ends"
        ),
        pytest.param(
            versions(deleted=("b",), marker=("a", "1")),
            "the server lists .* after",
            id="goes on before a marker",
        ),
        pytest.param(versions(("a", "")), "does not state VersionId", id="a version without an id"),
        pytest.param(listing(truncated=True), "does not state NextKeyMarker", id="goes on nowhere"),
    ],
)
def test_versions_that_make_no_sense_are_refused(
    scripted: ScriptedS3, version_lister: VersionLister, xml: str, match: str
) -> None:
    scripted.script(then=says(xml))
    refused(lambda: version_lister.page(None), match)


def test_versions_of_an_earlier_key_are_refused(scripted: ScriptedS3, version_lister: VersionLister) -> None:
    scripted.script(says(versions(("b", "1"), marker=("b", "1"))), says(versions(("a", "1"))))
    refused(lambda: all_pages(version_lister), "lists 'a' after 'b'")


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
def test_versions_that_lead_in_a_circle_are_not_listed_for_ever(
    scripted: ScriptedS3, version_lister: VersionLister, length: int
) -> None:
    def server(request: Request, _: Answer) -> Answer:
        last = int(request.query.get("version-id-marker", 0))
        return answered(versions(("a", str(last)), marker=("a", str((last + 1) % length))))

    scripted.script(then=server)
    refused(lambda: all_pages(version_lister), "in a loop")
    assert len(scripted.requests) <= 4 * length


# Directory buckets: no local server has them, so their documented behaviour is scripted


class Directory:
    """A directory bucket: unordered, continued by tokens, opened by a session."""

    def __init__(self, *pages: list[str], circle: bool = False) -> None:
        self._pages = pages
        self._circle = circle
        self.listed: list[Request] = []

    def __call__(self, request: Request, _: Answer) -> Answer:
        if "session" in request.query:
            return answered(
                "<CreateSessionResult><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s"
                "</SecretAccessKey><AccessKeyId>a</AccessKeyId><Expiration>2099-01-01T00:00:00Z</Expiration>"
                "</Credentials></CreateSessionResult>"
            )
        self.listed.append(request)
        number = int(request.query.get("continuation-token", "0"))
        following = (number + 1) % len(self._pages)
        if following == 0 and not self._circle:
            return answered(listing(*self._pages[number]))
        token = f"<NextContinuationToken>{following}</NextContinuationToken>"
        return answered(listing(*self._pages[number], truncated=True, more=token))


@pytest.fixture
def directory_lister(scripted_access: S3Access) -> DirectoryLister:
    """Lists the scripted server's directory bucket."""
    return DirectoryLister(scripted_access.client, DIRECTORY, "images/", page_size=2)


def test_a_directory_bucket_is_listed_in_its_own_order_by_its_tokens(
    scripted: ScriptedS3, directory_lister: DirectoryLister
) -> None:
    directory = Directory(["images/c", "images/a"], [], ["images/b"])
    scripted.script(then=directory)
    pages = all_pages(directory_lister)
    assert [keys_of([page]) for page in pages] == [["images/c", "images/a"], [], ["images/b"]]
    assert [request.query.get("continuation-token") for request in directory.listed] == [None, "1", "2"]
    # Directory buckets support neither
    assert all("start-after" not in request.query for request in directory.listed)
    assert all(ATTRIBUTES_HEADER not in request.headers for request in directory.listed)


@pytest.mark.parametrize("length", [1, 2, 5, 16, 17])
def test_a_directory_bucket_that_leads_in_a_circle_is_not_listed_for_ever(
    scripted: ScriptedS3, directory_lister: DirectoryLister, length: int
) -> None:
    directory = Directory(*([f"images/{number}"] for number in range(length)), circle=True)
    scripted.script(then=directory)
    refused(lambda: all_pages(directory_lister), "in a loop")
    assert len(directory.listed) <= 4 * length


def test_list_objects_lists_a_directory_bucket(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.script(then=Directory(["c", "a"], ["b"]))
    listed = list_objects(scripted_access.client, DIRECTORY, "")
    assert [found.key for found in listed] == ["c", "a", "b"]


# Circles, tested as a law


class Place(LoopDetectingCursor):
    """A cursor for these tests."""

    place: str = ""


@given(st.integers(0, 50), st.integers(1, 50))
def test_any_circle_is_noticed_within_four_times_the_way_into_and_around_it(lead: int, length: int) -> None:
    def go() -> None:
        cursor, place = Place(), 0
        for _ in range(4 * (lead + length)):
            cursor = Place.read(cursor.advance(place=str(place)).write())
            place = place + 1 if place + 1 < lead + length else lead

    refused(go, "in a loop")


@given(st.lists(st.text(min_size=1), unique=True, max_size=200))
def test_a_way_without_a_circle_is_gone_to_its_end(places: list[str]) -> None:
    cursor = Place()
    for place in places:
        cursor = cursor.advance(place=place)
    assert cursor.place == (places[-1] if places else "")


def test_a_cursor_is_short_text(scripted: ScriptedS3, objects: ObjectLister) -> None:
    scripted.script(then=says(listing("a", "b", truncated=True, more=TOKEN)))
    cursor = objects.page(None).cursor
    assert cursor
    assert json.loads(cursor) == {"after": "b"}
