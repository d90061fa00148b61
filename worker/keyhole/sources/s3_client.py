"""Creates the boto3 client for S3, and extends it with botocore's hooks.

- The client takes proxies and certificates from `proxies` and `trust`, like obstore.
- Every request states the account that pays and the account that must own the bucket, if these are set.
- The response to a refused request gets a note about the request, so that `s3_refusal` can explain the
  refusal.
- The client follows a redirect to a bucket's region once. botocore remembers the region.
- A deadline can limit a whole request (`deadline`).
- Pages of ListObjectsV2 are parsed fast (`s3_listing`).
- A page of another server, such as a login page, is an error and not an empty result (`foreign_answer`).
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.httpsession import ProxyConfiguration
from botocore.loaders import Loader, create_loader

from keyhole.sources.endpoint import AddressingStyle
from keyhole.sources.foreign_answer import refuse_foreign
from keyhole.sources.proxies import Proxies
from keyhole.sources.s3_deadline import add_deadlines
from keyhole.sources.s3_listing import parse_objects
from keyhole.sources.s3_refusal import ASKED, OWNER_HEADER, PAYER_HEADER
from keyhole.sources.timestamps import parse_timestamp
from keyhole.sources.trust import Trust

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Timeouts in seconds for the connection and for each wait for bytes. S3 answers a GET of a few kilobytes
#: within 200 ms, so a much longer wait means that the server does not answer.
CONNECT_SECONDS, READ_SECONDS = 5, 30


@dataclass(frozen=True, slots=True)
class S3Options:
    """Options for the connection to S3, in addition to AWS's own configuration.

    Args:
        endpoint_url: The URL of a server that is not AWS.
        region: The region of the requests. If not given, Keyhole uses the region that boto3 finds. If boto3
            finds none, Keyhole uses the region in `AWS_REGION`, which boto3 does not read, and otherwise
            `us-east-1`.
        connections: How many threads may send requests at the same time.
        addressing_style: Whether requests name the bucket in the path or in the host name. If not given,
            boto3 decides.
        requester_pays: Whether requests state that Keyhole's account pays for them.
        expected_bucket_owner: The account that must own each bucket. S3 refuses requests for other buckets.
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
    """The URL of a bucket, and how requests to the bucket are signed, in botocore's terms."""

    url: str
    region: str
    service: str
    signature: str


def make_session(options: S3Options) -> boto3.Session:
    """Return a boto3 session whose clients parse times fast and load service descriptions only once."""
    session = boto3.Session(region_name=options.region)
    parsers = session._session.get_component("response_parser_factory")  # noqa: SLF001 - there is no public way
    parsers.set_parser_defaults(timestamp_parser=parse_timestamp)
    data_path = session._session.get_config_variable("data_path")  # noqa: SLF001 - as above
    session._session.register_component("data_loader", _loader(data_path))  # noqa: SLF001 - as above
    return session


@lru_cache
def _loader(data_path: str | None) -> Loader:
    """Return botocore's loader of service descriptions, which are megabytes of JSON.

    The loader caches the descriptions, so a second client takes 0.02 s of CPU time and not 0.1 s. If a
    process creates a client before it forks, the children inherit the cache, so even their first client takes
    only 0.02 s.
    """
    return create_loader(data_path)


def make_client(session: boto3.Session, options: S3Options, proxies: Proxies, trust: Trust) -> "S3Client":
    """Return a client that does not retry requests. Threads can share it."""
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
    # botocore's own handler of `before-parse.s3.*` parses the whole body as well. botocore calls handlers of
    # `*.ListObjectsV2` earlier, so the body is already short when botocore's own handler parses it.
    hooks.register("before-parse.*.ListObjectsV2", parse_objects)
    hooks.register("before-call.s3", _stating(options.headers))
    hooks.register("after-call.s3", _noting(options.headers))
    refuse_foreign(client)
    use_proxies(client, proxies)
    add_deadlines(client)
    return client


class _Local(threading.local):
    looks: list[Place] | None = None


_current = _Local()


def find_place(client: "S3Client", bucket: str) -> Place:
    """Return the URL to which the client would send a GET for the bucket's objects, without sending it.

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
    """Record the URL of `find_place`'s request, and answer the request without sending it."""
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
    """Answer botocore's HeadBucket with 405 without sending it.

    If a redirect does not name the bucket's region, botocore sends HeadBucket to find out the region. If the
    server redirects this request, too, botocore sends the next HeadBucket, and so on without end. The answer
    405 stops this, and botocore reports the redirect as an error.
    """
    refused = {"Error": {"Code": "MethodNotAllowed"}, "ResponseMetadata": {"HTTPHeaders": {}}}
    return AWSResponse("", 405, HTTPHeaders(), None), refused


def _stating(headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """Return a hook that adds headers to all requests for a bucket before botocore signs them."""

    def state(params: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        if params["context"].get("s3_redirect", {}).get("bucket"):
            params["headers"].update(headers)

    return state


def _noting(headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """Return a hook that adds the request's region and headers to the metadata of a refusal."""

    def note(http_response: AWSResponse, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        if http_response.status_code >= 300:
            region = context.get("signing", {}).get("region")
            parsed.setdefault("ResponseMetadata", {})[ASKED] = {"region": region, **headers}

    return note


def use_proxies(client: BaseClient, proxies: Proxies) -> None:
    """Make the client find the proxy of each URL with Keyhole's `Proxies`."""

    class _Proxies(ProxyConfiguration):
        def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override] # botocore's returns it, too
            return proxies.for_url(url)

    # botocore decides about the proxy once for each client and not for each URL. It has no public way to
    # change this.
    client._endpoint.http_session._proxy_config = _Proxies()  # type: ignore[attr-defined] # noqa: SLF001 - as said
