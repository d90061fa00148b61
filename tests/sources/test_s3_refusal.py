"""The meaning of a refusal: it concerns the object, the connection to S3, or neither."""

from uuid import uuid4

import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from keyhole.api import scan_s3
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import ConfigurationError, TransientError
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_refusal import explain
from tests.servers.access import s3_access
from tests.servers.scripted_s3 import BUCKET, Fault, ScriptedS3, refusal, refuse


@pytest.fixture
def bucket() -> str:
    """A bucket whose region the process does not know."""
    return f"bucket-{uuid4().hex}"


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        CredentialRetrievalError(provider="process", error_msg="it ended with 1"),
        UnauthorizedSSOTokenError(),
        TokenRetrievalError(provider="sso", error_msg="it has expired"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_credentials_that_cannot_be_had_are_the_reason(error: Exception) -> None:
    explained = explain(error)
    assert isinstance(explained, ConfigurationError)
    assert explained.reason == "credentials"
    assert "keyhole doctor" in str(explained)


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://s3", error="refused"),
        ConnectTimeoutError(endpoint_url="http://s3", error="late"),
        ReadTimeoutError(endpoint_url="http://s3", error="late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_fails_may_be_tried_again(error: Exception) -> None:
    explained = explain(error)
    assert isinstance(explained, TransientError)
    assert explained.reason == "network"


def test_a_request_that_cannot_be_made_is_not_tried_again() -> None:
    explained = explain(ParamValidationError(report="no such name"))
    assert isinstance(explained, ConfigurationError)
    assert explained.reason == "request"


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        pytest.param(
            refuse(403, "AccessDenied", x_amz_bucket_region="eu-west-1"),
            "in the region eu-west-1, but the request went to us-east-1",
            id="403 of another region",
        ),
        pytest.param(
            refuse(301, "PermanentRedirect"), "KEYHOLE_S3_ENDPOINT_URL", id="a redirect that names no region"
        ),
        pytest.param(
            lambda *_: refusal(307, "TemporaryRedirect", Location="http://127.0.0.2:9/"),
            "redirects the request to http://127.0.0.2:9/",
            id="a redirect to another place",
        ),
        pytest.param(
            refuse(403, "SecondLevelDomainForbidden"), "KEYHOLE_S3_ADDRESSING_STYLE=virtual", id="Alibaba"
        ),
        pytest.param(
            refuse(403, "PathStyleDomainForbidden"), "KEYHOLE_S3_ADDRESSING_STYLE=virtual", id="Tencent"
        ),
        pytest.param(
            refuse(403, "VirtualHostDomainRequired"), "KEYHOLE_S3_ADDRESSING_STYLE=virtual", id="Huawei"
        ),
        pytest.param(
            refuse(403, "InvalidPathAccess"), "KEYHOLE_S3_ADDRESSING_STYLE=virtual", id="Volcengine"
        ),
    ],
)
def test_a_refusal_of_the_way_is_no_word_on_the_object(
    scripted: ScriptedS3, scripted_access: S3Access, bucket: str, fault: Fault, advice: str
) -> None:
    scripted.script(then=fault)
    report = scan_s3(scripted_access, bucket, "image", None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("request",))
    assert advice in str(report.details["error"])


def test_a_403_of_the_same_region_is_of_the_object(
    scripted: ScriptedS3, scripted_access: S3Access, bucket: str
) -> None:
    scripted.script(then=refuse(403, "AccessDenied", x_amz_bucket_region="us-east-1"))
    report = scan_s3(scripted_access, bucket, "image", None, ScanSettings())
    assert (report.status, report.reasons) == (Status.UNREADABLE, ("access_denied",))
    assert "KEYHOLE_REQUEST_PAYER" in str(report.details["error"])


def test_a_403_names_the_owner_that_was_expected(scripted: ScriptedS3) -> None:
    scripted.script(then=refuse(403, "AccessDenied"))
    with s3_access(scripted.url, expected_bucket_owner="123456789012", requester_pays=True) as access:
        report = scan_s3(access, BUCKET, "image", None, ScanSettings())
    assert "owner is not 123456789012" in str(report.details["error"])
    assert "KEYHOLE_REQUEST_PAYER" not in str(report.details["error"])
