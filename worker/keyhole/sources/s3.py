"""Bytes by range from S3, all from one pinned object, with limited retries, by obstore or else by boto3.

There is no HEAD: the first ranged GET returns size, ETag, version and last modification. Every later one
states `If-Match` and the version, so that one verdict is about one object. A 412 means that it changed.
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

#: obstore must ask for credentials again before they expire; its default of 30 minutes is too long.
CREDENTIAL_TTL = timedelta(minutes=5)


class S3Access:
    """One process's access to S3. Create it after the fork, and share it among threads.

    It reads once what determines the connection to S3: the options, AWS's own configuration and the
    environment. Both clients are made from that.

    Args:
        endpoint_url: The URL of a server other than AWS; without it, boto3's own settings apply.
        region: As boto3 finds it if not given.
        connections: How many threads may ask at once.
        addressing_style: `path` or `virtual`; as boto3 finds it if not given.
        requester_pays: Say that Keyhole's account pays for the requests.
        expected_bucket_owner: The account that must own a bucket.
        buckets: The buckets that may be used; a request to another raises `BucketNotAllowedError`.
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
        """Return a boto3 client without retries of its own; threads may share it.

        Raises:
            ConfigurationError: A profile that does not exist, or an endpoint that is not a URL.
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
        # The client takes the credentials from its session, which must have found them before.
        _ = self._credentials
        client = make_client(self._session, self._options, self._proxies, self._trust)
        self._buckets.guard(client)
        return client

    @property
    def credentials_from(self) -> str | None:
        """Return how boto3 found the credentials (`env`, `iam-role`, …); `None` if it did not.

        Raises:
            ConfigurationError: Their source does not give them.
        """
        with self._lock, _explained():
            if self._credentials is None:
                return None
            self._credentials.get_frozen_credentials()
            return str(self._credentials.method)

    def route(self, bucket: str) -> Route:
        """Return the route to a bucket.

        Raises:
            ConfigurationError: S3 cannot be reached, or not with such a bucket's name.
            BucketNotAllowedError: Keyhole may not touch this bucket.
        """
        self._buckets.check(bucket)
        with self._lock, _explained():
            if bucket not in self._routes:
                look = partial(find_place, self._client, bucket)
                self._routes[bucket] = Route(bucket, _explained()(look), _explained()(self._open_store))
            return self._routes[bucket]

    def _open_store(self, place: Place) -> S3Store | None:
        """Return a bucket for obstore; `None` if obstore cannot read it as boto3 does."""
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
    """Turn errors of boto3 and obstore about the configuration into a `ConfigurationError`."""
    try:
        yield
    except BotoCoreError as error:
        raise explain(error) from error
    except (BaseError, ValueError, OSError) as error:
        raise ConfigurationError(Reason.REQUEST, f"S3 cannot be reached: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        # botocore does not check the types of values in a configuration.
        raise ConfigurationError(Reason.REQUEST, f"boto3 cannot use AWS's configuration: {error}") from error


class S3Source:
    """One object in S3, by range; see `Source`.

    Args:
        access: The process's access to S3.
        version_id: The version to read; the current one if not given. The first read pins it.
        meter: Counts every request, retries included.

    Raises:
        ConfigurationError: S3 cannot be reached: half of the credentials, an endpoint that is not a URL.
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

        Once the size is known, they are requested by offset: not all servers support ranges from the end.
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
        """Make one GET of the pinned object. If reading by version is denied, pin it by the ETag only."""
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
            # obstore's timeout is the client's. Near the end of the budget, boto3's deadline is exact.
            if store is None or self._meter.seconds_left < READ_SECONDS:
                return self._get_by_boto(span)
            try:
                answer = s3_obstore.get(store, self._pin, span, self._meter)
            except s3_obstore.ObstoreRefusedError as refusal:
                return self._get_by_both(span, refusal)
            self._route.worked()
            return answer

    def _get_by_both(self, span: Span, refusal: Exception) -> Answer:
        """Ask again with boto3, because obstore does not say why it failed."""
        try:
            answer = self._get_by_boto(span)
        finally:
            # Unless the route was wrong, boto3 reads the rest of the object.
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
        """Pin the object of the first answer. Later answers must come from it, with or without If-Match."""
        self._identity = identity
        self._version_learned = self._pin.version_id is None and identity.version_id is not None
        self._pin = replace(
            self._pin,
            version_id=self._pin.version_id or identity.version_id,
            etag=identity.etag,
            size=identity.size,
        )
