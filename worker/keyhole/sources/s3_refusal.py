"""Turns boto3's errors into a `SourceError` that explains the cause and what to do.

The cause of a refusal can be the object, the route (the wrong region, server or addressing style), the
credentials, or a temporary condition. The HTTP status does not show the cause: a 403 can have each of these
causes. So this module also uses a note about the request, which `s3_client` adds to each refusal.
"""

from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from keyhole.reasons import Reason
from keyhole.sources.errors import (
    ConfigurationError,
    ObjectChangedError,
    SourceError,
    TransientError,
    UnreadableError,
)
from keyhole.sources.foreign_answer import ForeignAnswerError
from keyhole.sources.s3_metadata import http_status

#: The errors that boto3 raises if S3 or the network fails, or if S3 refuses a request. `explain` accepts all
#: of them. `ValueError` is raised for a malformed header, and urllib3's `HTTPError` if a refusal's body
#: breaks off.
BOTO_ERRORS: Final = (
    ClientError,
    BotoCoreError,
    HTTPClientError,
    HTTPError,
    ResponseParserError,
    ValueError,
)
#: The headers that state the account that pays for a request, and the account that must own the bucket.
PAYER_HEADER, OWNER_HEADER = "x-amz-request-payer", "x-amz-expected-bucket-owner"
#: The key of the note that `s3_client` adds to a refusal's metadata. The note contains the request's region,
#: and the headers that state the payer and the owner.
ASKED = "KeyholeAsked"

#: The reason and the message for each 4xx code that is about the object. All other codes are about the
#: request.
UNREADABLE_CODES = {
    "NoSuchKey": (Reason.NOT_FOUND, "the object does not exist"),
    "NoSuchBucket": (Reason.NOT_FOUND, "the bucket does not exist"),
    "NoSuchVersion": (Reason.NOT_FOUND, "this version of the object does not exist"),
    "InvalidObjectState": (Reason.ARCHIVED, "the object is archived; restore it before it can be scanned"),
    "MethodNotAllowed": (Reason.DELETE_MARKER, "this version of the object is a delete marker"),
    "AccessDenied": (
        Reason.ACCESS_DENIED,
        (
            "reading is denied, or the object is missing and listing is denied; Keyhole needs s3:GetObject "
            "(for a version s3:GetObjectVersion), kms:Decrypt if the object is encrypted with KMS, and "
            "s3:ListBucket to distinguish the two cases"
        ),
    ),
}
#: Parts of the messages for objects encrypted with SSE-C. The codes do not show this cause: S3 and Ceph use
#: InvalidRequest and InvalidArgument.
CUSTOMER_KEY = ("form of Server Side Encryption", "Server Side Encryption with Customer provided keys")
CREDENTIAL_CODES = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredTokenException",
}
#: The errors about credentials and their configuration.
CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidConfigError,
    SSOError,
    TokenRetrievalError,
)
#: The advice for some of the errors about credentials. `SOURCES` is the advice for the other errors.
ADVICE: Final = (
    (ProfileNotFound, "set AWS_PROFILE to a profile that ~/.aws/config or ~/.aws/credentials has"),
    ((ConfigNotFound, ConfigParseError), "correct this file, or set AWS_CONFIG_FILE to another file"),
    (
        NoCredentialsError,
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached",
    ),
    (PartialCredentialsError, "set the missing value, too"),
    ((SSOError, TokenRetrievalError), "log in again with `aws sso login`"),
)
SOURCES: Final = (
    "check their source: the profile's credential_process or role, AWS_WEB_IDENTITY_TOKEN_FILE, or "
    "the environment"
)
THROTTLING_CODES = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "503",
}
#: The codes of servers that accept the bucket only in the host name: Alibaba, Tencent, Huawei, Volcengine.
STYLE_CODES = {
    "SecondLevelDomainForbidden",
    "PathStyleDomainForbidden",
    "VirtualHostDomainRequired",
    "InvalidPathAccess",
}
#: The codes that mean that the bucket is in another region or at another URL.
REDIRECT_CODES = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}

_WAY: Final = "check that the server runs, and check its URL, the proxy and the firewall"


def explain(error: Exception) -> SourceError:
    """Return the `SourceError` for an error of boto3."""
    if isinstance(error, CREDENTIAL_ERRORS):
        source_advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), SOURCES)
        return ConfigurationError(
            Reason.CREDENTIALS, f"{str(error).strip(': ')}; {source_advice}; see `keyhole doctor`"
        )
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, SSLError) and (advice := _about_tls(str(error))):
        return TransientError(Reason.NETWORK, advice)
    # If the body of a refusal breaks off, botocore raises urllib3's error.
    if isinstance(error, BotoConnectionError | HTTPClientError | ResponseStreamingError | HTTPError):
        return TransientError(Reason.NETWORK, f"the connection failed: {error}; {_WAY}")
    if isinstance(error, ResponseParserError | ValueError):
        # botocore's parsers raise these errors for a malformed header or body.
        kind = "" if isinstance(error, ForeignAnswerError) else "the server's answer is malformed: "
        return TransientError(Reason.SERVER_ERROR, f"{kind}{error}")
    return ConfigurationError(
        Reason.REQUEST,
        f"the request cannot be made: {error}; check the endpoint and the region (KEYHOLE_S3_ENDPOINT_URL, "
        "KEYHOLE_S3_REGION, or those of AWS's configuration)",
    )


def _about_tls(said: str) -> str | None:
    """Return an explanation and advice for a failed TLS handshake; `None` if only the connection broke."""
    if "WRONG_VERSION_NUMBER" in said:
        return f"the server does not speak TLS; write http:// in its URL, or correct the port: {said}"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            f"the server's certificate is not trusted: {said}; add its CA to the system's store, or set "
            "AWS_CA_BUNDLE to the CA's file"
        )
    return None


def _explain_answer(error: ClientError) -> SourceError:
    code, message = (str(error.response.get("Error", {}).get(field, "")) for field in ("Code", "Message"))
    status = http_status(error.response)
    if status == 412:
        return ObjectChangedError()
    if code in THROTTLING_CODES or status == 429:
        return TransientError(Reason.SLOW_DOWN, f"the server asks to slow down ({status} {code})")
    if status >= 500 or code == "RequestTimeout":
        return TransientError(Reason.SERVER_ERROR, f"the server failed ({status} {code})")
    if code in CREDENTIAL_CODES:
        return ConfigurationError(
            Reason.CREDENTIALS, f"the credentials are refused ({code}); renew or correct them"
        )
    if code == "RequestTimeTooSkewed":
        return ConfigurationError(
            Reason.CLOCK, "the server's time differs from this machine's; set its clock"
        )
    return (
        _wrong_way(error, code)
        or _unreadable(error, code)
        or ConfigurationError(Reason.REQUEST, f"the server refuses the request ({status} {code}: {message})")
    )


def _wrong_way(error: ClientError, code: str) -> ConfigurationError | None:
    """Return the error if the cause of a refusal is the route to the bucket; otherwise `None`."""
    if code in STYLE_CODES:
        return ConfigurationError(
            Reason.REQUEST,
            f"the server only accepts the bucket in its host's name ({code}); set "
            "KEYHOLE_S3_ADDRESSING_STYLE=virtual",
        )
    stated: dict[str, Any] = dict(error.response.get("Error", {}))
    metadata: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    asked = metadata.get(ASKED, {}).get("region")
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or stated.get("Region")
    if region and asked and region != asked and http_status(error.response) in {301, 307, 400, 403}:
        return ConfigurationError(
            Reason.REQUEST,
            f"the bucket is in the region {region}, but the request went to {asked} ({code}); set "
            f"KEYHOLE_S3_REGION={region}",
        )
    if code in REDIRECT_CODES or http_status(error.response) in {301, 302, 307, 308}:
        place = stated.get("Endpoint") or metadata.get("HTTPHeaders", {}).get("location") or "another place"
        return ConfigurationError(
            Reason.REQUEST,
            f"the server redirects the request to {place} ({code}: {stated.get('Message', '')}); set "
            "KEYHOLE_S3_ENDPOINT_URL or KEYHOLE_S3_REGION",
        )
    return None


def _unreadable(error: ClientError, code: str) -> UnreadableError | None:
    """Return the error if the cause of a 4xx is the object; `None` if the cause is the request."""
    metadata: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    if metadata.get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true":
        code = "MethodNotAllowed"
    elif any(words in str(error.response.get("Error", {}).get("Message", "")) for words in CUSTOMER_KEY):
        return UnreadableError(Reason.CUSTOMER_KEY, "the object is encrypted with the customer's key (SSE-C)")
    elif code not in UNREADABLE_CODES:
        code = {403: "AccessDenied", 404: "NoSuchKey", 405: "MethodNotAllowed"}.get(
            http_status(error.response), code
        )
    if code not in UNREADABLE_CODES:
        return None
    reason, message = UNREADABLE_CODES[code]
    if code == "AccessDenied":
        message += _other_causes(metadata.get(ASKED, {}))
    return UnreadableError(reason, message)


def _other_causes(asked: dict[str, str]) -> str:
    """Return other possible causes of a 403, according to the request's headers."""
    owner = asked.get(OWNER_HEADER)
    causes = (
        f"; or the bucket's owner is not {owner} (KEYHOLE_EXPECTED_BUCKET_OWNER)" if owner else "",
        "" if asked.get(PAYER_HEADER) else "; if the requester pays, set KEYHOLE_REQUEST_PAYER=requester",
    )
    return "".join(causes)
