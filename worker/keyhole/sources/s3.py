"""Reads ranges of one object in S3, with limited retries: with obstore, or with boto3 if obstore cannot.

Keyhole normally sends no HEAD, because the first ranged GET returns size, ETag, version and last
modification. Every later GET states the ETag in `If-Match` and the version. So all bytes come from the same
object, even if somebody replaces it. A 412 response means that the object was replaced.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING

import boto3
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError
from obstore.store import S3Store

from keyhole.reasons import Reason
from keyhole.sources import s3_boto, s3_obstore
from keyhole.sources.allowed import ALL_BUCKETS, AllowedBuckets
from keyhole.sources.credentials import find_credentials
from keyhole.sources.endpoint import AddressingStyle
from keyhole.sources.errors import ConfigurationError, TransientError, UnreadableError
from keyhole.sources.meter import Meter
from keyhole.sources.proxies import Proxies
from keyhole.sources.retries import retries
from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_client import (
    READ_SECONDS,
    Place,
    S3Options,
    find_place,
    make_client,
    make_session,
)
from keyhole.sources.s3_refusal import explain
from keyhole.sources.s3_route import Route
from keyhole.sources.source import Identity
from keyhole.sources.trust import Trust, choose_trust

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: After this time, obstore requests the credentials again. Its default of 30 minutes is too long, because
#: credentials can expire earlier.
CREDENTIAL_TTL = timedelta(minutes=5)


class S3Access:
    """The access of one process to S3. Create it after the fork. Its threads can share it.

    The access reads the options, AWS's configuration and the environment once, and creates both clients from
    the same values.

    Args:
        endpoint_url: The URL of a server that is not AWS; `None` for the URL from boto3's settings.
        region: The region of the requests; `None` for the region that boto3 finds.
        connections: How many threads may send requests at the same time.
        addressing_style: `path` or `virtual`; `None` for the style that boto3 chooses.
        requester_pays: Whether requests state that Keyhole's account pays for them.
        expected_bucket_owner: The account that must own each bucket.
        buckets: The allowed buckets. A request to another bucket raises `BucketNotAllowedError`.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str | None,
        connections: int,
        addressing_style: AddressingStyle | None = None,
        requester_pays: bool = False,
        expected_bucket_owner: str | None = None,
        buckets: AllowedBuckets = ALL_BUCKETS,
    ) -> None:
        self._options = S3Options(
            endpoint_url, region, connections, addressing_style, requester_pays, expected_bucket_owner
        )
        self._buckets = buckets
        self._routes: dict[str, Route] = {}
        self._lock = RLock()

    @property
    def client(self) -> "S3Client":
        """Return a boto3 client that does not retry requests. Threads can share it.

        Raises:
            ConfigurationError: For example, the profile does not exist, or the endpoint is not a URL.
        """
        with self._lock, _explained():
            return self._client

    @cached_property
    def _session(self) -> boto3.Session:
        return make_session(self._options)

    @cached_property
    def _credentials(self) -> Credentials | None:
        return find_credentials(self._session)

    @cached_property
    def _proxies(self) -> Proxies:
        return Proxies.of(os.environ)

    @cached_property
    def _trust(self) -> Trust:
        configured = self._session._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 has no public way
        return choose_trust(configured, os.environ)

    @cached_property
    def _client(self) -> "S3Client":
        # The client uses the credentials of its session. Find them first, so that `find_credentials` can wrap
        # them.
        _ = self._credentials
        client = make_client(self._session, self._options, self._proxies, self._trust)
        self._buckets.guard(client)
        return client

    @property
    def credentials_from(self) -> str | None:
        """Return how boto3 found the credentials (such as `env` or `iam-role`); `None` if there are none.

        Raises:
            ConfigurationError: The source of the credentials failed.
        """
        with self._lock, _explained():
            if self._credentials is None:
                return None
            self._credentials.get_frozen_credentials()
            return str(self._credentials.method)

    def route(self, bucket: str) -> Route:
        """Return the route to a bucket.

        Raises:
            ConfigurationError: Keyhole cannot reach S3, or the bucket's name is invalid.
            BucketNotAllowedError: Keyhole may not use this bucket.
        """
        self._buckets.check(bucket)
        with self._lock, _explained():
            if bucket not in self._routes:
                look = partial(find_place, self._client, bucket)
                self._routes[bucket] = Route(bucket, _explained()(look), _explained()(self._open_store))
            return self._routes[bucket]

    def _open_store(self, place: Place) -> S3Store | None:
        """Return an obstore store for a bucket; `None` if obstore cannot read the bucket like boto3."""
        proxy = self._proxies.for_url(place.url)
        if (
            (place.service, place.signature) not in s3_obstore.SIGNATURES
            or (proxy is not None and not proxy.startswith("http://"))
            or self._credentials is None
            or (place.url.startswith("https:") and not self._trust_holds_for_obstore)
        ):
            return None
        return s3_obstore.open_store(
            place,
            credentials=Boto3CredentialProvider(self._session, ttl=CREDENTIAL_TTL),
            headers=self._options.headers,
            proxy=proxy,
            certificates=self._trust.told_to_obstore,
        )

    @cached_property
    def _trust_holds_for_obstore(self) -> bool:
        if self._trust.holds_for_obstore:
            return True
        log.info(
            "Only boto3 reads S3, which takes more CPU time: obstore would trust more certificates than %s; "
            "to avoid that, name the same file in SSL_CERT_FILE",
            self._trust.bundle,
        )
        return False


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of boto3 and obstore about the configuration into `ConfigurationError`."""
    try:
        yield
    except BotoCoreError as error:
        raise explain(error) from error
    except (BaseError, ValueError, OSError) as error:
        raise ConfigurationError(Reason.REQUEST, f"Keyhole cannot reach S3: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        # botocore does not check the types of values in a configuration.
        raise ConfigurationError(Reason.REQUEST, f"boto3 cannot use AWS's configuration: {error}") from error


class S3Source:
    """Reads ranges of one object in S3; see `Source`.

    Args:
        access: The process's access to S3.
        version_id: The version to read; `None` for the current version. The first read pins the version.
        meter: Counts every request, retries included.

    Raises:
        ConfigurationError: Keyhole cannot reach S3: for example, the secret key is missing, or the endpoint
            is not a URL.
    """

    def __init__(
        self, access: S3Access, bucket: str, key: str, *, version_id: str | None, meter: Meter
    ) -> None:
        self._meter = meter
        self._client = access.client
        self._route = access.route(bucket)
        self._pin = Pin(
            bucket,
            key,
            version_id,
            states_etag=self._route.takes_if_match,
            heeds_ranges=self._route.heeds_ranges,
        )
        self._identity: Identity | None = None
        self._version_learned = False
        self._by_obstore = s3_obstore.can_name(key)

    @property
    def identity(self) -> Identity | None:
        """Return size, ETag, version and last modification; `None` before the first read."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on; see `Source.read`."""
        return self._get(Span(offset, length))

    def tail(self, length: int) -> bytes:
        """Return the last bytes of the object; see `Source.tail`.

        If the size is known, the request states the offset, because not all servers support ranges from the
        end.
        """
        if self._identity is None:
            return self._get(Span(None, length))
        offset, available = Span(None, length).placed(self._identity.size)
        return self._get(Span(offset, max(1, available)))

    def _get(self, span: Span) -> bytes:
        for attempt in retries():
            with attempt:
                try:
                    answer = self._get_pinned(span)
                except TransientError as error:
                    self._meter.trouble = error
                    raise
        self._pin.check(answer.identity)
        if self._identity is None:
            self._recognise(answer.identity)
        if answer.heeds_range and not self._pin.heeds_ranges:
            self._route.heeds_ranges = True
            self._pin = replace(self._pin, heeds_ranges=True)
        return answer.data

    def _get_pinned(self, span: Span) -> Answer:
        """Make one GET of the pinned object.

        If S3 denies reading the version, repeat the request without it and pin the object only by the ETag.
        """
        try:
            return self._get_once(span)
        except UnreadableError as error:
            if error.reason != Reason.ACCESS_DENIED or not self._version_learned:
                raise
            self._version_learned = False
            self._pin = replace(self._pin, version_id=None)
            return self._get_once(span)

    def _get_once(self, span: Span) -> Answer:
        with self._route.first_alone():
            store = self._route.store if self._by_obstore else None
            # obstore's timeout is the same for all requests. If fewer seconds than that are left of the
            # budget, use boto3, whose deadline can be set for each request.
            if store is None or self._meter.seconds_left < READ_SECONDS:
                return self._get_by_boto(span)
            try:
                answer = s3_obstore.get(store, self._pin, span, self._meter)
            except s3_obstore.ObstoreRefusedError as refusal:
                return self._get_by_both(span, refusal)
            self._route.worked()
            return answer

    def _get_by_both(self, span: Span, refusal: Exception) -> Answer:
        """Repeat a request with boto3, because obstore's error does not state why the request failed."""
        try:
            answer = self._get_by_boto(span)
        finally:
            # If boto3 was redirected, obstore can use the new URL. Otherwise boto3 reads the rest of the
            # object.
            self._by_obstore = self._route.look_again()
        if not self._by_obstore:
            self._route.failed(refusal)
        return answer

    def _get_by_boto(self, span: Span) -> Answer:
        answer = s3_boto.get(self._client, self._pin, span, self._meter)
        if not answer.took_if_match:
            self._route.takes_if_match = False
            self._pin = replace(self._pin, states_etag=False)
        return answer

    def _recognise(self, identity: Identity) -> None:
        """Pin the object of the first response. All later responses must be from this object."""
        self._identity = identity
        self._version_learned = self._pin.version_id is None and identity.version_id is not None
        self._pin = replace(
            self._pin,
            version_id=self._pin.version_id or identity.version_id,
            etag=identity.etag,
            size=identity.size,
        )
