"""The boto3 client for S3, extended by botocore's hooks.

- Proxies and certificates come from `proxies` and `trust`, as for obstore.
- Every request states who pays and who must own the bucket, if that is set.
- Every refusal gets a note of the request, so that `s3_refusal` can say why it was refused.
- A redirect to a bucket's region is followed once; botocore remembers the region.
- A whole request ends at a deadline (`deadline`).
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.httpsession import ProxyConfiguration
from botocore.loaders import Loader, create_loader

from keyhole.sources.deadline import add_deadlines
from keyhole.sources.endpoint import AddressingStyle
from keyhole.sources.proxies import Proxies
from keyhole.sources.s3_refusal import ASKED, OWNER_HEADER, PAYER_HEADER
from keyhole.sources.timestamps import parse_timestamp
from keyhole.sources.trust import Trust

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: S3 answers a GET of some kilobytes within 200 ms. A request that takes as long as this gets no answer.
CONNECT_SECONDS, READ_SECONDS = 5, 30


@dataclass(frozen=True, slots=True)
class S3Options:
    """Options for the connection to S3, beside AWS's own configuration.

    Args:
        endpoint_url: The URL of a server other than AWS.
        region: If not given, the region that boto3 finds, or else `AWS_REGION`. Of AWS's SDKs, only boto3
            ignores that variable.
        connections: How many threads may send requests at once.
        addressing_style: Whether the bucket is in the path or in the host's name. If not given, boto3
            decides.
        requester_pays: Whether requests state that Keyhole's account pays for them.
        expected_bucket_owner: The account that must own a bucket; S3 refuses requests for other buckets.
    """

    endpoint_url: str | None
    region: str | None
    connections: int
    addressing_style: AddressingStyle | None = None
    requester_pays: bool = False
    expected_bucket_owner: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of every request that concerns a bucket."""
        stated = {
            PAYER_HEADER: "requester" if self.requester_pays else None,
            OWNER_HEADER: self.expected_bucket_owner,
        }
        return {name: value for name, value in stated.items() if value}


class Place(NamedTuple):
    """The URL of a bucket, and how requests to it are signed, in botocore's terms."""

    url: str
    region: str
    service: str
    signature: str


def make_session(options: S3Options) -> boto3.Session:
    """Return a boto3 session whose clients parse S3's times fast."""
    session = boto3.Session(region_name=options.region)
    parsers = session._session.get_component("response_parser_factory")  # noqa: SLF001 - there is no public way
    parsers.set_parser_defaults(timestamp_parser=parse_timestamp)
    data_path = session._session.get_config_variable("data_path")  # noqa: SLF001 - as above
    session._session.register_component("data_loader", _loader(data_path))  # noqa: SLF001 - as above
    return session


@lru_cache
def _loader(data_path: str | None) -> Loader:
    """Return botocore's loader of service descriptions, which are megabytes of JSON.

    It caches them, so a second client takes 0.02 s of CPU instead of 0.1 s. The first client of a forked
    process is as fast if its parent made one before the fork.
    """
    return create_loader(data_path)


def make_client(session: boto3.Session, options: S3Options, proxies: Proxies, trust: Trust) -> "S3Client":
    """Return a client without retries of its own; threads may share it."""
    style = {"addressing_style": options.addressing_style} if options.addressing_style else None
    client: S3Client = session.client(
        "s3",
        endpoint_url=options.endpoint_url,
        region_name=session.region_name or os.environ.get("AWS_REGION") or "us-east-1",
        verify=str(trust.bundle),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1},
            max_pool_connections=options.connections,
            user_agent_extra="keyhole",
            proxies={},
            s3=style,  # type: ignore[arg-type] # a TypedDict, of which this is one key
        ),
    )
    hooks = client.meta.events
    hooks.register("before-call.s3.HeadBucket", _refuse_head)
    hooks.register("before-call.s3.GetObject", _answer_a_look)
    hooks.register("before-call.s3", _stating(options.headers))
    hooks.register("after-call.s3", _noting(options.headers))
    _use_proxies(client, proxies)
    add_deadlines(client)
    return client


class _Local(threading.local):
    looks: list[Place] | None = None


_current = _Local()


def find_place(client: "S3Client", bucket: str) -> Place:
    """Return where the client would send a GET for the bucket's objects. Nothing is sent.

    Raises:
        BotoCoreError: The client cannot make such a request.
    """
    looks: list[Place] = []
    _current.looks = looks
    try:
        client.get_object(Bucket=bucket, Key="-")
    finally:
        _current.looks = None
    return looks[0]


def _answer_a_look(params: Mapping[str, Any], **_: Any) -> Any:  # noqa: ANN401 - a hook that answers, which botocore's stubs don't know
    """Answer the request of `find_place` without sending it, once its URL is known."""
    if _current.looks is None:
        return None
    signing = params["context"]["signing"]
    place = Place(
        params["url"].removesuffix("/-"),
        str(signing.get("region")),
        str(signing.get("signing_name")),
        str(params["context"].get("auth_type")),
    )
    _current.looks.append(place)
    return AWSResponse("", 200, HTTPHeaders(), None), {"ResponseMetadata": {}}


def _refuse_head(**_: Any) -> Any:  # noqa: ANN401 - as above
    """Refuse the HEAD by which botocore asks for a bucket's region if a redirect does not name it.

    If that HEAD is redirected, too, botocore sends another one, without end.
    """
    refused = {"Error": {"Code": "MethodNotAllowed"}, "ResponseMetadata": {"HTTPHeaders": {}}}
    return AWSResponse("", 405, HTTPHeaders(), None), refused


def _stating(headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """Return a hook that adds headers to all requests that concern a bucket, before they are signed."""

    def state(params: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        if params["context"].get("s3_redirect", {}).get("bucket"):
            params["headers"].update(headers)

    return state


def _noting(headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """Return a hook that adds a note of the request to a refusal."""

    def note(http_response: AWSResponse, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        if http_response.status_code >= 300:
            region = context.get("signing", {}).get("region")
            parsed.setdefault("ResponseMetadata", {})[ASKED] = {"region": region, **headers}

    return note


def _use_proxies(client: "S3Client", proxies: Proxies) -> None:
    """Make the client use our `Proxies` to find the proxy of each URL."""

    class _Proxies(ProxyConfiguration):
        def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override] # botocore's returns it, too
            return proxies.for_url(url)

    # botocore decides once for each client, not for each host, and has no public way to change that.
    client._endpoint.http_session._proxy_config = _Proxies()  # type: ignore[attr-defined] # noqa: SLF001 - as said
