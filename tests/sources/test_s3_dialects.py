"""Dialects of S3 servers: Keyhole reads each, and a missing feature costs no object a repeated request.

A row contains a server's dialect and the number of requests for the first object that a process reads there
and for a later object.
"""

from dataclasses import replace
from typing import NamedTuple
from uuid import uuid4

import pytest

from keyhole.api import scan_s3
from keyhole.builders import gpt_disk
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import ObjectChangedError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_route import STRIKES
from tests.servers.request import Request
from tests.servers.scripted_s3 import (
    Answer,
    Fault,
    ScriptedS3,
    ignore_range,
    in_chunks,
    refusal,
    right,
    state,
)

GIB = 1 << 30
KEY = "image"
#: Three ranges of this disk are read, the last one at its end.
DISK = gpt_disk(GIB)
SMALL = gpt_disk(2 << 20)


def weak_etags(request: Request, answer: Answer) -> Answer:
    """Weak ETags, which If-Match never matches (RFC 9110, 13.1.1)."""
    if request.if_match is not None:
        return refusal(412, "PreconditionFailed")
    return state(ETag=f"W/{answer.headers['ETag']}")(request, answer)


def no_if_match(request: Request, answer: Answer) -> Answer:
    """Every request with If-Match is refused."""
    return answer if request.if_match is None else refusal(501, "NotImplemented")


def no_suffix(request: Request, answer: Answer) -> Answer:
    """Ranges from the end are refused."""
    suffix = request.range is not None and request.range.startswith("bytes=-")
    return refusal(416, "InvalidRange") if suffix else answer


def suffix_ignored(request: Request, answer: Answer) -> Answer:
    """Requests for a range from the end are answered with the whole object."""
    suffix = request.range is not None and request.range.startswith("bytes=-")
    return ignore_range(request, answer) if suffix else answer


def unknown_size(request: Request, answer: Answer) -> Answer:
    """Answers to ranges do not state the object's size."""
    if request.method == "HEAD":
        return answer
    stated = answer.headers["Content-Range"].partition("/")[0]
    return state(Content_Range=f"{stated}/*")(request, answer)


class Dialect(NamedTuple):
    """A server's answers, and the number of requests for the first object and for a later one."""

    answer: Fault
    first: int
    later: int
    etag: str | None = None


DIALECTS = {
    "S3's own": Dialect(right, 3, 3),
    "weak ETags": Dialect(weak_etags, 3, 3),
    # The first object's second GET is refused to obstore and to boto3, and then answered without If-Match.
    "no If-Match": Dialect(no_if_match, 5, 3),
    "no ranges from the end": Dialect(no_suffix, 3, 3),
    "ranges from the end ignored": Dialect(suffix_ignored, 3, 3),
    # obstore does not read such an answer. boto3 does, and requests the size by HEAD.
    "ranges of unknown size": Dialect(unknown_size, 5, 4),
    "unquoted ETags": Dialect(right, 3, 3, etag="9b2cf535f27731c974343645a3985328"),
    "ETags of parts": Dialect(right, 3, 3, etag='"9b2cf535f27731c974343645a3985328-12"'),
    "no ETags": Dialect(state(ETag=None), 3, 3),
    "no Last-Modified": Dialect(state(Last_Modified=None), 3, 3),
    "ISO dates": Dialect(state(Last_Modified="2026-05-01T12:00:00.000Z"), 4, 3),
    "bodies in chunks": Dialect(in_chunks, 4, 3),
}


@pytest.fixture
def bucket() -> str:
    """A bucket for which the process has sent no request yet."""
    return f"bucket-{uuid4().hex}"


@pytest.fixture
def source(scripted_access: S3Access, bucket: str) -> S3Source:
    """The object of a test. It has not been read yet."""
    return S3Source(scripted_access, bucket, KEY, version_id=None, meter=Meter(Budget()))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_the_server_is_understood_and_no_object_pays_twice(
    scripted: ScriptedS3, scripted_access: S3Access, bucket: str, dialect: Dialect
) -> None:
    # Given a server with this dialect
    scripted.put(KEY, DISK, bucket=bucket, etag=dialect.etag)
    scripted.script(then=dialect.answer)
    # When the first object is scanned there, and further objects after it
    first, *_, later = (
        scan_s3(scripted_access, bucket, KEY, None, ScanSettings()) for _ in range(STRIKES + 1)
    )
    # Then the verdict is the same as on every server, with the fewest possible requests
    assert (first.status, first.virtual_size) == (later.status, later.virtual_size) == (Status.SAFE, GIB)
    assert (first.requests, later.requests) == (dialect.first, dialect.later)


def test_a_whole_small_object_for_a_range_is_read(
    scripted: ScriptedS3, scripted_access: S3Access, bucket: str
) -> None:
    scripted.put(KEY, SMALL, bucket=bucket)
    scripted.script(then=ignore_range)
    report = scan_s3(scripted_access, bucket, KEY, None, ScanSettings())
    assert (report.status, report.virtual_size) == (Status.SAFE, SMALL.size)


@pytest.mark.parametrize("dialect", [weak_etags, no_if_match], ids=["weak ETags", "no If-Match"])
def test_a_replaced_object_is_noticed_without_if_match(
    scripted: ScriptedS3, source: S3Source, bucket: str, dialect: Fault
) -> None:
    # Given an object on a server that does not accept its ETag in a request, and one GET of the object
    scripted.put(KEY, DISK, bucket=bucket)
    scripted.script(then=dialect)
    source.read(0, 512)
    # When the object is replaced by one of the same length
    scripted.put(KEY, DISK.patched(GIB // 2, b"new"), bucket=bucket)
    # Then the next GET finds that the object was replaced
    with pytest.raises(ObjectChangedError):
        source.read(512, 512)


def test_a_size_that_must_be_asked_for_is_that_of_the_same_object(
    scripted: ScriptedS3, source: S3Source, bucket: str
) -> None:
    # Given a server that does not state sizes in answers to ranges, and an object that is replaced before its
    # size is requested
    scripted.put(KEY, DISK, bucket=bucket)

    def replacing(request: Request, answer: Answer) -> Answer:
        if request.method == "HEAD":
            etag = scripted.put(KEY, gpt_disk(2 * GIB), bucket=bucket)
            return replace(answer, headers=answer.headers | {"ETag": etag})
        return unknown_size(request, answer)

    scripted.script(then=replacing)
    # Then the report states nothing about either object
    with pytest.raises(ObjectChangedError):
        source.read(0, 512)
