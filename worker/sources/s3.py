"""Bytes by range from S3: pinned to one object, retried within bounds, by obstore or else by boto3.

No HEAD: the first ranged GET tells size, ETag, version and last modification. Every later one states
`If-Match` and the version, so that one verdict speaks of one object; a 412 means that it changed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import boto3
import stamina
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError
from obstore.store import S3Store

from worker.sources import s3_boto, s3_obstore
from worker.sources.allowed import ALL_BUCKETS, AllowedBuckets
from worker.sources.deadline import add_deadlines
from worker.sources.errors import ConfigurationError, ObjectChangedError, TransientError, UnreadableError
from worker.sources.meter import Meter
from worker.sources.s3_answer import Answer, Pin, Span
from worker.sources.source import Identity
from worker.sources.timestamps import parse_timestamp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig

#: A GET of some kilobytes answers within 200 ms; one that takes this long will not answer.
CONNECT_SECONDS, READ_SECONDS = 5, 30
#: obstore must ask for credentials again before they can have expired; its default of 30 minutes does not.
CREDENTIAL_TTL = timedelta(minutes=5)
#: S3 recovers from SlowDown within seconds. The budget bounds the same in requests.
RETRY_ATTEMPTS, RETRY_SECONDS = 5, 45.0
#: What obstore can put into a URL. Of another name boto3 says that no bucket has it, where obstore panics.
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class S3Access:
    """The way to S3 of one process. Create it after the fork, share it among threads.

    Args:
        endpoint_url: Another server than AWS; boto3's own settings are honoured without it.
        region: As boto3 finds it if not given.
        connections: How many threads may ask at once.
        buckets: Those that may be asked for; a request for another raises `BucketNotAllowedError`.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str | None,
        connections: int,
        buckets: AllowedBuckets = ALL_BUCKETS,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._connections = connections
        self._buckets = buckets
        self._stores: dict[str, S3Store | None] = {}
        self._lock = RLock()

    @property
    def client(self) -> "S3Client":
        """A boto3 client without retries of its own; threads may share it.

        Raises:
            ConfigurationError: There can be none: a profile that does not exist, an endpoint that is no URL.
        """
        with self._lock, _explained():
            return self._client

    @cached_property
    def _session(self) -> boto3.Session:
        session = boto3.Session(region_name=self._region)
        parsers = session._session.get_component("response_parser_factory")  # noqa: SLF001 - as below
        parsers.set_parser_defaults(timestamp_parser=parse_timestamp)
        return session

    @cached_property
    def _client(self) -> "S3Client":
        client = self._session.client(
            "s3",
            endpoint_url=self._endpoint_url,
            region_name=self._session.region_name or "us-east-1",
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=self._connections,
                user_agent_extra="keyhole",
            ),
        )
        client.meta.events.register("before-call.s3.HeadBucket", _refuse_head)
        add_deadlines(client)
        self._buckets.guard(client)
        return client

    @property
    def credentials_from(self) -> str | None:
        """How boto3 found the credentials (`env`, `iam-role`, …); `None` if it did not.

        Raises:
            ConfigurationError: They cannot be had from where they should come from.
        """
        with self._lock, _explained():
            credentials = self._session.get_credentials()
            return None if credentials is None else str(credentials.method)

    def store(self, bucket: str) -> S3Store | None:
        """The bucket for obstore; `None` where boto3 must do: access points, no credentials.

        Raises:
            ConfigurationError: There is no way to S3.
            BucketNotAllowedError: This bucket must not be asked for.
        """
        self._buckets.check(bucket)
        with self._lock, _explained():
            if bucket not in self._stores:
                self._stores[bucket] = self._open_store(bucket)
            return self._stores[bucket]

    def _open_store(self, bucket: str) -> S3Store | None:
        if not BUCKET_NAME.fullmatch(bucket) or self._session.get_credentials() is None:
            return None
        endpoint = self.client.meta.endpoint_url
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=READ_SECONDS),
            "user_agent": "keyhole",
        }
        bundle = self._session._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 has no public way
        if bundle:
            options["root_certificate"] = Path(bundle).read_bytes()
        # obstore takes what it is not told from the environment, and there an endpoint of S3's own before
        # the one that it is told.
        return S3Store(
            bucket,
            config={"aws_endpoint_url_s3": endpoint},
            virtual_hosted_style_request=False,
            skip_signature=False,
            s3_express=False,
            region=self.client.meta.region_name,
            credential_provider=Boto3CredentialProvider(self._session, ttl=CREDENTIAL_TTL),
            client_options=options,
            retry_config={"max_retries": 0},
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what boto3 and obstore say of a configuration into an error of ours."""
    try:
        yield
    except BotoCoreError as error:
        raise s3_boto.explain(error) from error
    except (BaseError, ValueError, OSError) as error:
        raise ConfigurationError("request", f"there is no way to S3: {error}") from error


def _refuse_head(**_: Any) -> Any:  # noqa: ANN401 - a hook that answers, which botocore's stubs don't know
    """Refuse, unsent, the HEAD by which botocore asks for a bucket's region if a redirect does not name it.

    Where that HEAD is redirected, too, botocore sends another, without end.
    """
    refused = {"Error": {"Code": "MethodNotAllowed"}, "ResponseMetadata": {"HTTPHeaders": {}}}
    return AWSResponse("", 405, HTTPHeaders(), None), refused


class S3Source:
    """One object in S3, by range; see `Source`.

    Args:
        access: The process's way to S3.
        version_id: The version to read; the current one if not given. The first read pins it.
        meter: Counts every request, retries included.

    Raises:
        ConfigurationError: There is no way to S3: half of the credentials, an endpoint that is no URL.
    """

    def __init__(
        self, access: S3Access, bucket: str, key: str, *, version_id: str | None, meter: Meter
    ) -> None:
        self._meter = meter
        self._pin = Pin(bucket, key, version_id, None)
        self._identity: Identity | None = None
        self._version_learned = False
        self._client = access.client
        self._store = access.store(bucket) if s3_obstore.can_name(key) else None

    @property
    def identity(self) -> Identity | None:
        """Size, ETag, version and last modification; `None` before the first read."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on; see `Source.read`."""
        return self._get(Span(offset, length))

    def tail(self, length: int) -> bytes:
        """The last bytes of the object; see `Source.tail`."""
        return self._get(Span(None, length))

    def _get(self, span: Span) -> bytes:
        retries = stamina.retry_context(
            on=TransientError, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS, wait_initial=0.2, wait_max=8.0
        )
        for attempt in retries:
            with attempt:
                try:
                    answer = self._get_pinned(span)
                except TransientError as error:
                    self._meter.trouble = error
                    raise
        self._recognise(answer.identity)
        return answer.data

    def _get_pinned(self, span: Span) -> Answer:
        """One GET of the pinned object. Where reading by version is denied, the ETag alone pins it."""
        try:
            return self._get_once(span)
        except UnreadableError as error:
            if error.reason != "access_denied" or not self._version_learned:
                raise
            self._version_learned = False
            self._pin = replace(self._pin, version_id=None)
            return self._get_once(span)

    def _get_once(self, span: Span) -> Answer:
        # obstore's time limit is the client's; near the end of the budget boto3's deadline is exact.
        if self._store is not None and self._meter.seconds_left >= READ_SECONDS:
            try:
                return s3_obstore.get(self._store, self._pin, span, self._meter)
            except s3_obstore.ObstoreRefusedError:
                # Whatever it was, boto3 finds out. The rest of the object is read by what worked.
                self._store = None
        return s3_boto.get(self._client, self._pin, span, self._meter)

    def _recognise(self, identity: Identity) -> None:
        """Pin the object that the first answer was of; later answers must be of the same, If-Match or not."""
        if self._identity is None:
            self._identity = identity
            self._version_learned = self._pin.version_id is None and identity.version_id is not None
            self._pin = replace(
                self._pin, version_id=self._pin.version_id or identity.version_id, etag=identity.etag
            )
        elif (identity.size, identity.etag) != (self._identity.size, self._identity.etag):
            raise ObjectChangedError
