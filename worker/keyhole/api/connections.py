"""Connections to S3 and to web servers: those that a process shares, and those that one scanner owns.

A forked process never uses a connection of its parent: if both sent requests through one socket, each could
receive the answer to a request of the other, and judge the wrong object.
"""

import os
from functools import cache, cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from keyhole.settings import Settings

if TYPE_CHECKING:
    from keyhole.sources.https_access import HttpsAccess
    from keyhole.sources.s3_access import S3Access


class Connections(Protocol):
    """The connections that a scan can need. Each is made on first use."""

    @property
    def s3(self) -> "S3Access":
        """Return the access to S3."""

    @property
    def https(self) -> "HttpsAccess":
        """Return the connections to web servers."""


def _s3_options(settings: Settings) -> dict[str, Any]:  # the options have many types
    return {
        "endpoint_url": settings.s3_endpoint_url,
        "region": settings.s3_region,
        "connections": settings.scan_threads,
        "addressing_style": settings.s3_addressing_style,
        "requester_pays": settings.request_payer is not None,
        "expected_bucket_owner": settings.expected_bucket_owner,
        "buckets": settings.allowed_buckets,
    }


def _open_s3(**options: Any) -> "S3Access":  # noqa: ANN401 - as above
    # Import boto3 only on this first use, because the inspection of local files does not need it.
    from keyhole.sources.s3_access import S3Access  # noqa: PLC0415 - see above

    return S3Access(**options)


def _open_https(*, private: bool, connections: int) -> "HttpsAccess":
    # Import urllib3 and TLS only on this first use.
    from keyhole.sources.https_access import HttpsAccess  # noqa: PLC0415 - see above

    return HttpsAccess(private=private, connections=connections)


_shared_s3, _shared_https = cache(_open_s3), cache(_open_https)


def _forget_shared() -> None:
    _shared_s3.cache_clear()
    _shared_https.cache_clear()


os.register_at_fork(after_in_child=_forget_shared)


def s3_access(settings: Settings) -> "S3Access":
    """Return this process's access to S3. The first call creates it."""
    return _shared_s3(**_s3_options(settings))


def https_access(settings: Settings) -> "HttpsAccess":
    """Return this process's connections to web servers. The first call creates them."""
    return _shared_https(private=settings.https_private, connections=settings.scan_threads)


class OwnConnections:
    """Connections that belong to one scanner. Threads can share them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = RLock()
        self._process = os.getpid()

    @property
    def s3(self) -> "S3Access":
        """Return the access to S3."""
        self._forget_parents()
        with self._lock:
            return self._s3

    @property
    def https(self) -> "HttpsAccess":
        """Return the connections to web servers."""
        self._forget_parents()
        with self._lock:
            return self._https

    def _forget_parents(self) -> None:
        """Forget the connections of the parent, if this is a forked process."""
        if self._process != os.getpid():
            # Another thread of the parent can have held the lock.
            self._process, self._lock = os.getpid(), RLock()
            for name in ("_s3", "_https"):
                self.__dict__.pop(name, None)

    @cached_property
    def _s3(self) -> "S3Access":
        return _open_s3(**_s3_options(self._settings))

    @cached_property
    def _https(self) -> "HttpsAccess":
        return _open_https(private=self._settings.https_private, connections=self._settings.scan_threads)

    def close(self) -> None:
        """Close the connections that were made."""
        self._forget_parents()
        with self._lock:
            for name in ("_s3", "_https"):
                opened = self.__dict__.pop(name, None)
                if opened is not None:
                    opened.close()


class SharedConnections:
    """The connections that all scans of this process with equal settings share. They stay open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def s3(self) -> "S3Access":
        """Return the access to S3."""
        return s3_access(self._settings)

    @property
    def https(self) -> "HttpsAccess":
        """Return the connections to web servers."""
        return https_access(self._settings)
