"""Makes the connections of a boto3 client obey deadlines (`keyhole.sources.deadline`)."""

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.client import BaseClient

from keyhole.sources.deadline import HeedsDeadlines


def add_deadlines(client: BaseClient) -> None:
    """Make a client's connections obey deadlines. Call this before the client's first request."""
    # botocore's session gives this dict of pool classes to all its pool managers, also to the managers for
    # proxies. So all connections use the classes that are set here. botocore has no public access to the
    # dict.
    endpoint = client._endpoint  # type: ignore[attr-defined] # noqa: SLF001 - as said
    pools = endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - as said
    pools.update({"http": _Pool, "https": _SecurePool})


class _Connection(HeedsDeadlines, AWSHTTPConnection):  # type: ignore[misc] # botocore's, as is the next
    """A connection over plain TCP that obeys deadlines."""


class _SecureConnection(HeedsDeadlines, AWSHTTPSConnection):  # type: ignore[misc] # botocore's
    """A connection over TLS that obeys deadlines."""


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection
