"""Lists the objects of a bucket, a page at a time, with cursors to continue.

A page is one LIST of up to 1,000 keys. If a server lists in the order of the keys' UTF-8 bytes, the cursor
is the last key, which stays valid forever. Servers are not trusted: keys out of order or outside the prefix
end the listing, and so does a place that was listed before. Otherwise a listing might never end.

From the API reference of S3: `StartAfter` need not be an existing key; directory buckets have neither
`StartAfter` nor an order; the versions of a key come newest first. The marker for the next page of versions
is the last entry of this page for S3, and the first one of the next page for Ceph; both continue there.
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

#: The most that S3 lists at once.
PAGE_KEYS: Final = 1000
#: How many empty answers of a server are accepted in a row: it may skip deleted keys and list none.
MAX_EMPTY_ANSWERS: Final = 20
#: The suffixes of directory buckets' names, and of access points to them.
DIRECTORY_SUFFIXES: Final = ("--x-s3", "--xa-s3")


#: The storage classes of which only a restored copy can be read. The archive tiers of Intelligent-Tiering are
#: not classes: a listing does not show them, so Keyhole tries to read such an object; that costs a GET.
ARCHIVED_CLASSES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class Listed(NamedTuple):
    """An object in a listing or an inventory; `size` in bytes, times in UTC.

    `etag` is in quotes, as in the answer to a GET. `restored`: the object is archived and has a restored
    copy.
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
        """Whether it must be restored before it can be read, as far as a listing shows that."""
        return self.storage_class in ARCHIVED_CLASSES and not self.restored


class Page(NamedTuple):
    """Some objects, the cursor of the next page (`None`: this is the last one), and the number of requests.

    A page without objects need not be the last one. Only the lister reads `cursor`. It is valid in other
    processes, too, and for days.
    """

    objects: tuple[Listed, ...]
    cursor: str | None
    requests: int


class Lister(Protocol):
    """Lists the objects of an audit."""

    #: Whether keys come in the order of their UTF-8 bytes, each page after the one before.
    ordered: bool

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; the first one if it is `None`.

        Raises:
            KeyholeError: It cannot be listed: a `SourceError` or a `ListingError`, which says why.
            ValueError: The cursor is not one of this lister's.
        """


def lister_for(
    client: "S3Client", bucket: str, prefix: str, *, versions: bool = False, page_size: int = PAGE_KEYS
) -> Lister:
    """Return the lister for the objects of a bucket, or for their versions.

    Raises:
        ConfigurationError: Directory buckets have no versions.
    """
    if not bucket.endswith(DIRECTORY_SUFFIXES):
        return (VersionLister if versions else ObjectLister)(client, bucket, prefix, page_size=page_size)
    if versions:
        raise ConfigurationError(
            Reason.REQUEST, f"{bucket} is a directory bucket, and those keep no versions"
        )
    return DirectoryLister(client, bucket, prefix, page_size=page_size)


def list_objects(client: "S3Client", bucket: str, prefix: str) -> Iterator[Listed]:
    """Yield every object whose key begins with `prefix`, in the server's order.

    Raises:
        ConfigurationError: The bucket cannot be listed in this way; the message says why.
    """
    lister = lister_for(client, bucket, prefix)
    page = lister.page(None)
    yield from page.objects
    while page.cursor is not None:
        page = lister.page(page.cursor)
        yield from page.objects


def quoted(etag: str | None) -> str | None:
    """An ETag in quotes, as in the answer to a GET. Inventories and some listings have none."""
    return etag if not etag or etag.endswith('"') else f'"{etag}"'


class _S3Lister:
    """The common base of the listers.

    Args:
        client: A boto3 client without retries.
        bucket: The bucket, or the ARN of an access point.
        prefix: The prefix of the keys.
        page_size: The most keys of a page, up to 1,000.
    """

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
            "EncodingType": "url",  # because XML cannot hold every key; botocore does not decode them then
        }

    def _entries(self, answer: Any, kind: str) -> list[tuple[str, Any]]:  # noqa: ANN401 - boto3's response is a dict of everything
        """The entries of a kind on a page, by key. Their number and prefix are checked."""
        entries = [(_key(answer, _stated(entry, "Key")), entry) for entry in answer.get(kind, [])]
        if len(entries) > self._page_size:
            raise ListingError(f"the server lists {len(entries)} keys where {self._page_size} were asked for")
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
    """The objects of a general purpose bucket."""

    ordered = True

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; see `Lister.page`."""
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
        raise ListingError("the server says that there is more to list, and lists nothing")


class _AtVersion(LoopDetectingCursor):
    key: str = ""
    version: str | None = None
    attributes: bool = True


class VersionLister(_S3Lister):
    """The versions of all objects of a general purpose bucket, those of a key together.

    Delete markers count for the size of a page, and are skipped.
    """

    ordered = True

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; see `Lister.page`."""
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
    """The objects of a directory bucket, without an order. The cursor has the server's token.

    It is not documented how long such a token is valid. These buckets have no archived objects to ask about.

    Raises:
        ConfigurationError: The prefix does not end in `/`: these buckets list only folders.
    """

    ordered = False

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, page_size: int = PAGE_KEYS) -> None:
        super().__init__(client, bucket, prefix, page_size=page_size)
        if prefix and not prefix.endswith("/"):
            raise ConfigurationError(
                Reason.REQUEST,
                f"{bucket} is a directory bucket, which lists folders alone: end the prefix in `/`",
            )

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; see `Lister.page`."""
        at = _AtToken() if cursor is None else _AtToken.read(cursor)
        list_request = ListRequest(self._client.list_objects_v2, attributes=False)
        answer = list_request(**self._request, **({"ContinuationToken": at.token} if at.token else {}))
        objects = tuple(_listed(*entry) for entry in self._entries(answer, "Contents"))
        place = (
            at.advance(token=_stated(answer, "NextContinuationToken")) if answer.get("IsTruncated") else None
        )
        return Page(objects, place.write() if place else None, list_request.requests)


def _in_order(*keys: str, may_repeat: bool = False) -> None:
    """Raise if keys are not in the order of their UTF-8 bytes, which is also that of Python's strings."""
    for before, key in pairwise(keys):
        if key < before or (key == before and not may_repeat):
            raise ListingError(
                f"the server lists {_shown(key)} after {_shown(before)}; only what is listed in the order of "
                "the keys' UTF-8 bytes can be listed on from a key",
            )


def _next_key(answer: Any, last: str) -> str:  # noqa: ANN401 - boto3's response is a dict of everything
    """The key at which the next page of versions begins, which is not before the last listed key.

    Ceph 16 encodes all keys except this one. So it is read in both ways, and the smaller key is used: that
    skips no key, because none lies between the last key and the next.
    """
    marker = _stated(answer, "NextKeyMarker")
    readings = [key for key in (marker, _key(answer, marker)) if key >= last]
    if not readings:
        _in_order(last, marker)
    return min(readings)


def _key(answer: Any, stated: str) -> str:  # noqa: ANN401 - as above
    """A key, decoded if the answer says that it is encoded; a space is `+` or `%20`."""
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
        raise ListingError(f"the server says of {_shown(key)} that its size is {size}")
    try:
        modified = modified and modified.astimezone(UTC)
    except OverflowError as error:
        raise ListingError(f"the server says of {_shown(key)}: changed {modified}") from error
    return Listed(
        key=key,
        size=size,
        etag=quoted(entry.get("ETag") or None),
        last_modified=modified,
        storage_class=entry.get("StorageClass") or "STANDARD",
        restored="RestoreExpiryDate" in restore and not restore.get("IsRestoreInProgress"),
    )


def _shown(key: str) -> str:
    return f"'{printable(key.encode(errors='surrogatepass'))}'"
