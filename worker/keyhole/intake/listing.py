"""Lists the objects of a bucket page by page. Each page has a cursor that states where the next page begins.

A page is the result of one LIST of up to 1,000 keys. If the server lists keys in the order of their UTF-8
bytes, the cursor is the last key of the page, so the cursor never becomes invalid. Keyhole does not trust the
server: the listing fails if keys are out of order or outside the prefix, or if the server returns to a place
that it has listed before. Without these checks, a listing might never end.

From the API reference of S3: `StartAfter` need not be an existing key; directory buckets support neither
`StartAfter` nor a defined order; the versions of a key come newest first. The markers for the next page of
versions differ: S3's marker is the last entry of the current page, and Ceph's marker is the first entry of
the next page. Each server continues correctly from its own marker, so Keyhole sends this marker back.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import unquote_plus

from keyhole.inspectors.text import printable
from keyhole.intake.cursor import Cursor, LoopDetectingCursor
from keyhole.intake.errors import ListingError
from keyhole.intake.list_request import ListRequest
from keyhole.reasons import Reason
from keyhole.sources.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The maximum number of keys that S3 returns for one LIST.
PAGE_KEYS: Final = 1000
#: Keyhole accepts at most this many consecutive responses without keys. A server can send a few empty
#: responses while it skips deleted keys.
MAX_EMPTY_ANSWERS: Final = 20
#: The suffixes in the names of directory buckets, and of access points for directory buckets.
DIRECTORY_SUFFIXES: Final = ("--x-s3", "--xa-s3")


#: The storage classes whose objects must be restored before they can be read. Intelligent-Tiering also has
#: archive tiers, but a listing does not show the tier. So Keyhole tries to read every object in
#: Intelligent-Tiering. If such an object is archived, the attempt costs one GET.
ARCHIVED_CLASSES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class Listed(NamedTuple):
    """An object in a listing or an inventory.

    `size` is in bytes, and times are in UTC. `etag` has quotes, as in the header `ETag` of a GET response.
    `restored` is true if the object is archived and has a restored copy, which can be read.
    """

    key: str
    size: int
    etag: str | None = None
    last_modified: datetime | None = None
    storage_class: str = "STANDARD"
    version_id: str | None = None
    restored: bool = False

    @property
    def archived(self) -> bool:
        """Whether, according to the listing, the object must be restored before it can be read."""
        return self.storage_class in ARCHIVED_CLASSES and not self.restored


class Page(NamedTuple):
    """A page of objects, the cursor of the next page, and the number of requests that the page took.

    `cursor` is `None` on the last page. A page without objects is not necessarily the last page. Callers must
    not interpret the cursor. Other processes can use the cursor, even days later.
    """

    objects: tuple[Listed, ...]
    cursor: str | None
    requests: int


class Lister(Protocol):
    """Lists the objects of an audit."""

    #: Whether the lister lists the keys in the order of their UTF-8 bytes, from the first page to the last.
    ordered: bool
    #: Whether the lister reads the list from objects, with GETs. Otherwise, it sends LIST requests.
    by_gets: bool

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; `None` is the cursor of the first page.

        Raises:
            KeyholeError: The page cannot be listed. The error is a `SourceError` or a `ListingError`.
            ValueError: The cursor does not come from this lister.
        """


def lister_for(
    client: "S3Client", bucket: str, prefix: str, *, versions: bool = False, page_size: int = PAGE_KEYS
) -> Lister:
    """Return a lister of the objects of a bucket, or of all versions of these objects.

    Raises:
        ConfigurationError: `versions` is set, but directory buckets have no versions.
    """
    if not bucket.endswith(DIRECTORY_SUFFIXES):
        return (VersionLister if versions else ObjectLister)(client, bucket, prefix, page_size=page_size)
    if versions:
        raise ConfigurationError(
            Reason.REQUEST, f"{bucket} is a directory bucket, and directory buckets have no versions"
        )
    return DirectoryLister(client, bucket, prefix, page_size=page_size)


def list_objects(client: "S3Client", bucket: str, prefix: str) -> Iterator[Listed]:
    """Yield every object whose key begins with `prefix`, in the server's order.

    Raises:
        ConfigurationError: The bucket cannot be listed with this prefix; the message states the reason.
    """
    lister = lister_for(client, bucket, prefix)
    page = lister.page(None)
    yield from page.objects
    while page.cursor is not None:
        page = lister.page(page.cursor)
        yield from page.objects


def quoted(etag: str | None) -> str | None:
    """Add quotes to an ETag if it has no quotes. Inventories and some listings have ETags without quotes."""
    return etag if not etag or etag.endswith('"') else f'"{etag}"'


class _S3Lister:
    """The base class of the listers that send LIST requests to S3.

    Args:
        client: A boto3 client without retries.
        bucket: The name of a bucket, or the ARN of an access point.
        prefix: The prefix of the keys.
        page_size: The maximum number of keys on a page, at most 1,000.
    """

    by_gets = False

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, page_size: int = PAGE_KEYS) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._page_size = page_size

    @property
    def _request(self) -> dict[str, Any]:
        """The parameters of every request."""
        return {
            "Bucket": self._bucket,
            "Prefix": self._prefix,
            "MaxKeys": self._page_size,
            # Request URL-encoded keys, because XML cannot represent every key. If the caller sets this
            # parameter, botocore does not decode the keys, so `_key` decodes them.
            "EncodingType": "url",
        }

    def _entries(self, answer: Any, kind: str) -> list[tuple[str, Any]]:  # noqa: ANN401 - boto3's response is a dict of everything
        """Return the entries of one kind in a response, each with its key.

        Raise `ListingError` if there are more entries than requested, or if a key lacks the prefix.
        """
        entries = [(_key(answer, _stated(entry, "Key")), entry) for entry in answer.get(kind, [])]
        if len(entries) > self._page_size:
            raise ListingError(f"the server lists {len(entries)} keys, but {self._page_size} were requested")
        for key, _ in entries:
            if not key.startswith(self._prefix):
                raise ListingError(
                    f"the server lists {_shown(key)}, which does not begin with {_shown(self._prefix)}"
                )
        return entries


class _AfterKey(Cursor):
    after: str = ""
    attributes: bool = True


class ObjectLister(_S3Lister):
    """Lists the objects of a general purpose bucket."""

    ordered = True

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; see `Lister.page`."""
        at = _AfterKey() if cursor is None else _AfterKey.read(cursor)
        if cursor is not None and not (at.after and at.after.startswith(self._prefix)):
            raise ValueError(f"{cursor!r} is not a cursor of a listing of {self._prefix!r}")
        list_request = ListRequest(self._client.list_objects_v2, attributes=at.attributes)
        request = self._request | ({"StartAfter": at.after} if at.after else {})
        for _ in range(MAX_EMPTY_ANSWERS):
            answer = list_request(**request)
            objects = tuple(_listed(*entry) for entry in self._entries(answer, "Contents"))
            _in_order(at.after, *(listed.key for listed in objects))
            if not answer.get("IsTruncated"):
                return Page(objects, None, list_request.requests)
            if objects:
                place = _AfterKey(after=objects[-1].key, attributes=list_request.attributes)
                return Page(objects, place.write(), list_request.requests)
            request["ContinuationToken"] = _stated(answer, "NextContinuationToken")
        raise ListingError("the server reports further objects, but returns only empty pages")


class _AtVersion(LoopDetectingCursor):
    key: str = ""
    version: str | None = None
    attributes: bool = True


class VersionLister(_S3Lister):
    """Lists the versions of all objects of a general purpose bucket. The versions of a key are consecutive.

    Delete markers are skipped. S3 counts delete markers towards the size of a page, so a page may contain few
    versions, or none.
    """

    ordered = True

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; see `Lister.page`."""
        at = _AtVersion() if cursor is None else _AtVersion.read(cursor)
        list_request = ListRequest(self._client.list_object_versions, attributes=at.attributes)
        place = {"KeyMarker": at.key, "VersionIdMarker": at.version}
        answer = list_request(**self._request, **{name: value for name, value in place.items() if value})
        versions = self._entries(answer, "Versions")
        markers = self._entries(answer, "DeleteMarkers")
        for entries in (versions, markers):
            _in_order(at.key, *(key for key, _ in entries), may_repeat=True)
        objects = tuple(
            _listed(key, entry)._replace(version_id=_stated(entry, "VersionId")) for key, entry in versions
        )
        if not answer.get("IsTruncated"):
            return Page(objects, None, list_request.requests)
        last = max([at.key, *(key for key, _ in versions[-1:] + markers[-1:])])
        following = at.advance(key=_next_key(answer, last), version=answer.get("NextVersionIdMarker"))
        following = following.model_copy(update={"attributes": list_request.attributes})
        return Page(objects, following.write(), list_request.requests)


class _AtToken(LoopDetectingCursor):
    token: str = ""


class DirectoryLister(_S3Lister):
    """Lists the objects of a directory bucket in an undefined order. The cursor contains the server's token.

    AWS does not document how long a token is valid. Directory buckets have no archived objects, so the
    listing does not request the restore status.

    Raises:
        ConfigurationError: The prefix does not end in `/`. Directory buckets accept only prefixes that end in
            `/`.
    """

    ordered = False

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, page_size: int = PAGE_KEYS) -> None:
        super().__init__(client, bucket, prefix, page_size=page_size)
        if prefix and not prefix.endswith("/"):
            raise ConfigurationError(
                Reason.REQUEST,
                f"{bucket} is a directory bucket, which lists only whole folders: end the prefix with `/`",
            )

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; see `Lister.page`."""
        at = _AtToken() if cursor is None else _AtToken.read(cursor)
        list_request = ListRequest(self._client.list_objects_v2, attributes=False)
        answer = list_request(**self._request, **({"ContinuationToken": at.token} if at.token else {}))
        objects = tuple(_listed(*entry) for entry in self._entries(answer, "Contents"))
        place = (
            at.advance(token=_stated(answer, "NextContinuationToken")) if answer.get("IsTruncated") else None
        )
        return Page(objects, place.write() if place else None, list_request.requests)


def _in_order(*keys: str, may_repeat: bool = False) -> None:
    """Raise `ListingError` if the keys are not in the order of their UTF-8 bytes.

    Python compares strings by code points, and the order of the code points is the same as the order of the
    UTF-8 bytes.
    """
    for before, key in pairwise(keys):
        if key < before or (key == before and not may_repeat):
            raise ListingError(
                f"the server lists {_shown(key)} after {_shown(before)}; Keyhole can only continue listings "
                "that are in the order of the keys' UTF-8 bytes",
            )


def _next_key(answer: Any, last: str) -> str:  # noqa: ANN401 - boto3's response is a dict of everything
    """Return the key at which the next page of versions begins: the last listed key, or a later key.

    Ceph 16 URL-encodes all keys in its response except `NextKeyMarker`. So Keyhole does not know whether a
    server's marker is URL-encoded, and there are two candidates for the true marker: the marker as the server
    sent it, and the decoded marker. The next page cannot begin before the last listed key. If both candidates
    are possible, Keyhole uses the smaller candidate. The true marker is then equal to this candidate or
    greater, so no key is skipped.
    """
    marker = _stated(answer, "NextKeyMarker")
    readings = [key for key in (marker, _key(answer, marker)) if key >= last]
    if not readings:
        _in_order(last, marker)
    return min(readings)


def _key(answer: Any, stated: str) -> str:  # noqa: ANN401 - as above
    """Return a key.

    If the response states that its keys are URL-encoded, decode the key; an encoded space is `+` or `%20`.
    """
    if answer.get("EncodingType") != "url":
        return stated
    try:
        return unquote_plus(stated, errors="strict")
    except UnicodeDecodeError as error:
        raise ListingError(f"the server lists {_shown(stated)}, which is not UTF-8") from error


def _stated(answer: Any, field: str) -> str:  # noqa: ANN401 - as above
    value = answer.get(field)
    if not value:
        raise ListingError(f"the server's listing does not state {field}")
    return str(value)


def _listed(key: str, entry: Any) -> Listed:  # noqa: ANN401 - as above
    size, modified, restore = entry.get("Size"), entry.get("LastModified"), entry.get("RestoreStatus", {})
    if size is None or size < 0:
        raise ListingError(f"the server lists {_shown(key)} with the invalid size {size}")
    try:
        if modified and modified.tzinfo is not UTC:
            modified = modified.astimezone(UTC)
    except OverflowError as error:
        raise ListingError(f"the server lists {_shown(key)} with the invalid time {modified}") from error
    return Listed(
        key,
        size,
        quoted(entry.get("ETag") or None),
        modified,
        entry.get("StorageClass") or "STANDARD",
        restored="RestoreExpiryDate" in restore and not restore.get("IsRestoreInProgress"),
    )


def _shown(key: str) -> str:
    return f"'{printable(key.encode(errors='surrogatepass'))}'"
