"""Why a request of boto3's failed, as an error of ours that says what to do.

A refusal may be of the object, of the way to it (another region, place or style of addressing), of the
credentials, or of nothing that lasts. Servers mix these up: a 403 can be any of them. So what was asked is
looked at, too; `s3_client` notes it beside each refusal.
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
from keyhole.sources.s3_metadata import http_status

#: What boto3 raises if S3 or the network fails, or refuses. `explain` takes each. A senseless header is a
#: `ValueError`, and where the body of a refusal breaks off, urllib3's error comes through.
BOTO_ERRORS: Final = (
    ClientError,
    BotoCoreError,
    HTTPClientError,
    HTTPError,
    ResponseParserError,
    ValueError,
)
#: Who pays for a request, and who must own its bucket.
PAYER_HEADER, OWNER_HEADER = "x-amz-request-payer", "x-amz-expected-bucket-owner"
#: Where the metadata of a refusal hold what was asked: the region, and the headers above.
ASKED = "KeyholeAsked"

#: What 4xx codes mean for the object, and what to do. A code not here is a request that we should not have
#: made.
UNREADABLE_CODES = {
    "NoSuchKey": (Reason.NOT_FOUND, "the object does not exist"),
    "NoSuchBucket": (Reason.NOT_FOUND, "the bucket does not exist"),
    "NoSuchVersion": (Reason.NOT_FOUND, "this version of the object does not exist"),
    "InvalidObjectState": (Reason.ARCHIVED, "the object is archived; restore it before it can be scanned"),
    "MethodNotAllowed": (Reason.DELETE_MARKER, "this version of the object is a delete marker"),
    "AccessDenied": (
        Reason.ACCESS_DENIED,
        (
            "reading is denied, or the object is missing and listing is denied; it takes s3:GetObject (of a "
            "version s3:GetObjectVersion), kms:Decrypt where KMS encrypts, s3:ListBucket to tell which it is"
        ),
    ),
}
#: S3 and Ceph say so in the message alone, with the codes InvalidRequest and InvalidArgument.
CUSTOMER_KEY = ("form of Server Side Encryption", "Server Side Encryption with Customer provided keys")
CREDENTIAL_CODES = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredTokenException",
}
#: Where credentials should have come from, and did not.
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
#: What to do about some of them; about all others, `SOURCES`.
ADVICE: Final = (
    (ProfileNotFound, "set AWS_PROFILE to a profile that ~/.aws/config or ~/.aws/credentials has"),
    ((ConfigNotFound, ConfigParseError), "correct that file, or name another in AWS_CONFIG_FILE"),
    (
        NoCredentialsError,
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached",
    ),
    (PartialCredentialsError, "set the other half, too"),
    ((SSOError, TokenRetrievalError), "log in again by `aws sso login`"),
)
SOURCES: Final = (
    "check where they come from: the profile's credential_process or role, AWS_WEB_IDENTITY_TOKEN_FILE, "
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
#: How servers say that they take the bucket in the host's name alone: Alibaba, Tencent, Huawei, Volcengine.
STYLE_CODES = {
    "SecondLevelDomainForbidden",
    "PathStyleDomainForbidden",
    "VirtualHostDomainRequired",
    "InvalidPathAccess",
}
#: How servers say that the bucket is elsewhere.
REDIRECT_CODES = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}

_WAY: Final = "check that the server runs, its URL, and the proxy and firewall between"


def explain(error: Exception) -> SourceError:
    """Return the source's error for one of boto3's."""
    if isinstance(error, CREDENTIAL_ERRORS):
        source_advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), SOURCES)
        return ConfigurationError(
            Reason.CREDENTIALS, f"{str(error).strip(': ')}; {source_advice}; see `keyhole doctor`"
        )
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, SSLError) and (advice := _about_tls(str(error))):
        return TransientError(Reason.NETWORK, advice)
    # botocore passes on what urllib3 raises where the body of a refusal breaks off.
    if isinstance(error, BotoConnectionError | HTTPClientError | ResponseStreamingError | HTTPError):
        return TransientError(Reason.NETWORK, f"the connection failed: {error}; {_WAY}")
    if isinstance(error, ResponseParserError | ValueError):
        # botocore's parsers raise either where a header or a body is not what it should be.
        return TransientError(Reason.SERVER_ERROR, f"the server's answer makes no sense: {error}")
    return ConfigurationError(
        Reason.REQUEST,
        f"the request cannot be made: {error}; check the endpoint and the region (KEYHOLE_S3_ENDPOINT_URL, "
        "KEYHOLE_S3_REGION, or those of AWS's configuration)",
    )


def _about_tls(said: str) -> str | None:
    """What to do about a handshake that failed; `None` if it only broke off."""
    if "WRONG_VERSION_NUMBER" in said:
        return f"the server there speaks no TLS; write http:// in its URL, or correct the port: {said}"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            f"the server's certificate is not trusted: {said}; add its CA to the system's store, or name the "
            "file of it in AWS_CA_BUNDLE"
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
            Reason.CLOCK, "the server's time is another than this machine's; set its clock"
        )
    return (
        _wrong_way(error, code)
        or _unreadable(error, code)
        or ConfigurationError(Reason.REQUEST, f"the server refuses the request ({status} {code}: {message})")
    )


def _wrong_way(error: ClientError, code: str) -> ConfigurationError | None:
    """What a refusal says of the way to the bucket; `None` if it says nothing of that."""
    if code in STYLE_CODES:
        return ConfigurationError(
            Reason.REQUEST,
            f"the server takes a bucket in its host's name alone ({code}); set "
            "KEYHOLE_S3_ADDRESSING_STYLE=virtual",
        )
    stated: dict[str, Any] = dict(error.response.get("Error", {}))
    metadata: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    asked = metadata.get(ASKED, {}).get("region")
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or stated.get("Region")
    if region and asked and region != asked and http_status(error.response) in {301, 307, 400, 403}:
        return ConfigurationError(
            Reason.REQUEST,
            f"the bucket is in the region {region}, and was asked for in {asked} ({code}); set "
            f"KEYHOLE_S3_REGION={region}",
        )
    if code in REDIRECT_CODES or http_status(error.response) in {301, 302, 307, 308}:
        place = stated.get("Endpoint") or metadata.get("HTTPHeaders", {}).get("location") or "another place"
        return ConfigurationError(
            Reason.REQUEST,
            f"the server sends the request to {place} ({code}: {stated.get('Message', '')}); set "
            "KEYHOLE_S3_ENDPOINT_URL or KEYHOLE_S3_REGION",
        )
    return None


def _unreadable(error: ClientError, code: str) -> UnreadableError | None:
    """What a 4xx says of the object; `None` if it says something of the request instead."""
    metadata: dict[str, Any] = dict(error.response.get("ResponseMetadata", {}))
    if metadata.get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true":
        code = "MethodNotAllowed"
    elif any(words in str(error.response.get("Error", {}).get("Message", "")) for words in CUSTOMER_KEY):
        return UnreadableError(
            Reason.CUSTOMER_KEY, "the object is encrypted with a key of the customer's (SSE-C)"
        )
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
    """What else a 403 can come from, after what was asked."""
    owner = asked.get(OWNER_HEADER)
    causes = (
        f"; or the bucket's owner is not {owner} (KEYHOLE_EXPECTED_BUCKET_OWNER)" if owner else "",
        "" if asked.get(PAYER_HEADER) else "; where the requester pays, KEYHOLE_REQUEST_PAYER=requester",
    )
    return "".join(causes)
