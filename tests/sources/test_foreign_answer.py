"""Pages of other servers with the status 200 are errors. botocore would return empty results for them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import stamina

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError
from keyhole.sources.foreign_answer import ForeignAnswerError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_refusal import explain
from tests.servers.access import s3_access
from tests.servers.portal import PAGE, portal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

XHTML = b'<?xml version="1.0"?>\n<!-- portal -->\n<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>'
#: HTML that is not XML, which botocore's parser would quote in its error.
SLOPPY = b"<!DOCTYPE html><html><head><meta charset=utf-8><body><br>Sign in"

CALLS: dict[str, "Callable[[S3Client], Any]"] = {
    "ListObjectsV2": lambda s3: s3.list_objects_v2(Bucket="images"),
    "ListObjectVersions": lambda s3: s3.list_object_versions(Bucket="images"),
    "GetObjectTagging": lambda s3: s3.get_object_tagging(Bucket="images", Key="disk"),
    "PutObjectTagging": lambda s3: s3.put_object_tagging(
        Bucket="images", Key="disk", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    ),
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("page", [PAGE, XHTML, SLOPPY], ids=["html", "xhtml", "sloppy"])
def test_a_page_is_neither_an_empty_result_nor_a_written_tag(operation: str, page: bytes) -> None:
    with portal(page) as url, s3_access(url) as access:
        with pytest.raises(ForeignAnswerError) as caught:
            CALLS[operation](access.client)

        assert str(explain(caught.value)) == (
            f"{url} answers {operation} with an HTML page, not like S3; check this URL, and whether a proxy "
            "or a login page answers instead of the server"
        )


@pytest.mark.parametrize("operation", ["ListObjectsV2", "ListObjectVersions", "GetObjectTagging"])
@pytest.mark.parametrize("page", [b"", b"ok", b"<status>ok</status>"])
def test_a_result_has_its_own_root_element(operation: str, page: bytes) -> None:
    with (
        portal(page) as url,
        s3_access(url) as access,
        pytest.raises((ForeignAnswerError, access.client.exceptions.ClientError)),
    ):
        CALLS[operation](access.client)


@pytest.mark.parametrize("prefix", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff", "<!-- a -->"])
def test_a_listing_is_recognised_after_what_can_precede_it(prefix: str) -> None:
    result = "<x:ListBucketResult xmlns:x='urn:x'><x:IsTruncated>false</x:IsTruncated></x:ListBucketResult>"
    with portal(f"{prefix}{result}".encode()) as url, s3_access(url) as access:
        assert CALLS["ListObjectsV2"](access.client)["IsTruncated"] is False


def test_an_error_with_the_status_200_stays_the_error_of_the_server() -> None:
    page = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
    with (
        portal(page) as url,
        s3_access(url) as access,
        pytest.raises(access.client.exceptions.ClientError, match="InternalError"),
    ):
        CALLS["ListObjectsV2"](access.client)


def test_a_page_is_not_the_content_of_an_object() -> None:
    with portal() as url, s3_access(url) as access, stamina.set_testing(True, attempts=2):
        source = S3Source(access, "images", "disk.qcow2", version_id=None, meter=Meter(Budget()))

        with pytest.raises(
            TransientError, match=f"{url} answers with a page that is not an object"
        ) as caught:
            source.read(0, 512)

    assert caught.value.reason == Reason.SERVER_ERROR
