"""What lies in a bucket, a page at a time; and from where to go on."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker.sources.s3_boto import explain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Listed(NamedTuple):
    """An object as a listing or an inventory tells of it; `size` in bytes, times in UTC.

    `restored`: it is of an archived class, and there is a copy that can be read.
    """

    key: str
    size: int
    etag: str | None = None
    last_modified: datetime | None = None
    storage_class: str = "STANDARD"
    version_id: str | None = None
    restored: bool = False


class Page(NamedTuple):
    """Some objects, where to go on (`None`: that was the last page), and how many requests it took.

    `cursor` is text that only the lister reads; it is worth the same to another process, days later.
    """

    objects: tuple[Listed, ...]
    cursor: str | None
    requests: int


class Lister(Protocol):
    """Lists what an audit is about."""

    #: Whether keys come in the order of their UTF-8 bytes, each page after the one before.
    ordered: bool

    def page(self, cursor: str | None) -> Page:
        """The page at a cursor; the first if it is `None`.

        Raises:
            SourceError: It cannot be listed; it says why.
        """


def list_objects(client: "S3Client", bucket: str, prefix: str) -> Iterator[Listed]:
    """Every object whose key begins with `prefix`, in the order of the server's pages of up to 1,000.

    Raises:
        SourceError: The bucket cannot be listed; it says why.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        for page in pages:
            for entry in page.get("Contents", []):
                yield Listed(entry["Key"], entry["Size"])
    except (ClientError, BotoCoreError, HTTPClientError) as error:
        raise explain(error) from error
