"""What boto3's errors mean that no server sends."""

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

from worker.sources.errors import ConfigurationError, TransientError
from worker.sources.s3_boto import explain


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
