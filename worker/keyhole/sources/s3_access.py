"""One process's access to S3: its options, credentials and clients, and the route to each bucket."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from keyhole.sources import s3_obstore
from keyhole.sources.allowed import ALL_BUCKETS, AllowedBuckets
from keyhole.sources.credentials import find_credentials
from keyhole.sources.endpoint import AddressingStyle
from keyhole.sources.errors import ConfigurationError
from keyhole.sources.proxies import Proxies
from keyhole.sources.s3_client import (
    Place,
    S3Options,
    find_place,
    make_client,
    make_session,
)
from keyhole.sources.s3_refusal import explain
from keyhole.sources.s3_route import Route
from keyhole.sources.trust import Trust, choose_trust

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: After this time, obstore requests the credentials again. obstore's default of 30 minutes is too long,
#: because credentials can expire earlier.
CREDENTIAL_TTL = timedelta(minutes=5)


class S3Access:
    """The access of one process to S3, which the process's threads can share. Create it after the fork.

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
            ConfigurationError: The configuration is wrong. For example, the profile does not exist, or the
                endpoint is not a URL.
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
        # The client uses the credentials of its session. Find the credentials first, so that
        # `find_credentials` can wrap them.
        _ = self._credentials
        client = make_client(self._session, self._options, self._proxies, self._trust)
        self._buckets.guard(client)
        return client

    @cached_property
    def fetchers(self) -> ThreadPoolExecutor:
        """Return threads that make GETs for scans that need several ranges at once."""
        return ThreadPoolExecutor(self._options.connections, thread_name_prefix="fetch")

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
        known = self._routes.get(bucket)
        if known is not None:
            return known
        with self._lock, _explained():
            if bucket not in self._routes:
                look = partial(find_place, self._client, bucket)
                self._routes[bucket] = Route(bucket, _explained()(look), _explained()(self._open_store))
            return self._routes[bucket]

    def close(self) -> None:
        """Close the clients that were created. The access cannot be used afterwards."""
        with self._lock:
            opened = self.__dict__
            if "fetchers" in opened:
                self.fetchers.shutdown(cancel_futures=True)
            if "_client" in opened:
                self._client.close()
            self._routes.clear()

    def _open_store(self, place: Place) -> S3Store | None:
        """Return an obstore store for a bucket; `None` if only boto3 can read the bucket."""
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
