"""Keyhole's S3 client for a test server, independent of the machine's AWS settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import boto3
import pytest

from keyhole.sources.s3_access import S3Access

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
#: AWS settings of the environment that decide how a client reaches S3.
FOREIGN = [
    *("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"),
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
]


def isolate(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Remove all AWS settings except these environment variables."""
    for name in (*FOREIGN, *CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    nowhere = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **nowhere, **variables}.items():
        monkeypatch.setenv(name, value)


def aws_client(service: Literal["s3", "sqs"], url: str) -> Any:
    """Return a boto3 client for the test's own requests to a server, with credentials that it accepts."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextmanager
def s3_access(
    url: str, *, expected_bucket_owner: str | None = None, requester_pays: bool = False, **variables: str
) -> Iterator[S3Access]:
    """Yield an S3 client of the server at `url`.

    It uses credentials that the server accepts, unless other credentials are given.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, **(variables or CREDENTIALS))
        access = S3Access(
            endpoint_url=url,
            region="us-east-1",
            connections=4,
            expected_bucket_owner=expected_bucket_owner,
            requester_pays=requester_pays,
        )
        client = access.client  # the client reads the credentials now
    try:
        yield access
    finally:
        client.close()
