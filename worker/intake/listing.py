"""What lies below a prefix of a bucket."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker.sources.s3_boto import explain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Listed(NamedTuple):
    """An object as the listing tells of it; `size` in bytes."""

    key: str
    size: int


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
