"""No bucket name can direct a request to a host other than S3's."""

import re
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from keyhole.sources.errors import SourceError
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate

BUCKETS = [
    "evil.example",
    "evil.example:80/x?",
    "evil.example/",
    "@evil.example",
    "x@evil.example#",
    "x\\evil.example",
    "..",
    "http://evil.example",
    "x\r\nHost: evil.example",
    "x\x00",
    "arn:aws:s3:evil.example/:123456789012:accesspoint/x",
    "arn:aws:s3:us-east-1.evil.example#:123456789012:accesspoint/x",
    "arn:evil.example:s3:us-east-1:123456789012:accesspoint/x",
    "arn:aws:s3:us-east-1:123456789012.evil.example:accesspoint/x",
    "arn:aws:s3:us-east-1:123456789012:accesspoint/x.evil.example/",
    "arn:aws:s3-outposts:us-east-1:123456789012:outpost/o.evil.example/accesspoint/x",
]
S3 = re.compile(r"https://([a-z0-9-]+\.)*(amazonaws\.com|api\.aws)/[^@]*")


class NotSentError(Exception):
    """Stops a request after the test has inspected it."""


@pytest.mark.parametrize("bucket", BUCKETS)
def test_whatever_a_job_names_s3_alone_is_asked(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **CREDENTIALS)
    access = S3Access(endpoint_url=None, region="us-east-1", connections=1)
    asked: list[str] = []

    def stop(request: Any, **_: object) -> None:
        asked.append(request.url)
        raise NotSentError

    access.client.meta.events.register("before-send.s3", stop)
    try:
        # obstore sends requests to the host that botocore's rules give.
        asked.append(access.route(bucket)._place.url)
        access.client.get_object(Bucket=bucket, Key="key")
    except (SourceError, ClientError, BotoCoreError, NotSentError):
        pass

    assert all(S3.match(url.rstrip("/") + "/") and "\n" not in url for url in asked), asked
    access.client.close()
