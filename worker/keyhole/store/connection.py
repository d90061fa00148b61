"""The one way to connect to Redis: bounded waits, bounded retries, a pool that waits rather than grows.

redis-py's defaults differ between versions, so everything that limits the time of a call is set here.
"""

import ssl
from socket import socket
from ssl import SSLSocket
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import MasterDownError
from redis.retry import Retry

from keyhole.store.redis_url import SECONDS, redis_options

#: Seconds to wait for one answer: longer than any blocking command (`redis_store.LONGEST_BLOCK_MS`).
_ANSWER_SECONDS: Final = 30.0
#: Seconds to wait for a connection. A host that does not answer in this time is down.
_CONNECT_SECONDS: Final = 5.0
#: An idle connection is checked before use after this many seconds: load balancers drop idle connections.
_HEALTH_CHECK_SECONDS: Final = 25
#: Retries of one command, with waits of about 6 s in all: enough for a restart or a failover.
_RETRIES: Final = 5
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 2.0
#: Connections of one process, and the seconds for which a thread waits for a free one.
_POOL_SIZE: Final = 32
_POOL_WAIT_SECONDS: Final = 20.0


class TlsConnection(redis.SSLConnection):
    """redis-py's TLS connection, except that authorities named by the URL replace the system's.

    redis-py trusts both.
    """

    def _wrap_socket_with_ssl(self, sock: socket) -> SSLSocket:
        if self.ca_certs is None and self.ca_path is None:
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-any-return, no-untyped-call] # redis-py's
        context = ssl.create_default_context(cafile=self.ca_certs, capath=self.ca_path)
        context.check_hostname = bool(self.check_hostname)
        context.verify_mode = self.cert_reqs
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context.wrap_socket(sock, server_hostname=self.host)


_KINDS: Final = {
    "redis": redis.Connection,
    "rediss": TlsConnection,
    "unix": redis.UnixDomainSocketConnection,
}


#: Errors of a Redis that refuses every write: it is unreachable, full or read-only. Then the codes of errors
#: for which redis-py has no class: its disk is full, its replicas are gone, or a script is running.
_OUTAGES: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    MasterDownError,
)
_OUTAGE_CODES: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")


def is_outage(error: redis.RedisError) -> bool:
    """Return whether a command failed because Redis is unreachable or refuses every write."""
    return isinstance(error, _OUTAGES) or any(code in str(error) for code in _OUTAGE_CODES)


def options(
    url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES
) -> dict[str, Any]:  # redis-py's are of every type
    """Return the options of a client for this URL, as redis-py's connections take them.

    Options in the URL override our defaults. Protocol 2 is set because the types of answers depend on it.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        answer_seconds: The longest wait for an answer; it overrides the URL.
        retries: How many times a command is sent again.

    Raises:
        ValueError: as `redis_options`.
    """
    found: dict[str, Any] = {
        "socket_timeout": _ANSWER_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "health_check_interval": _HEALTH_CHECK_SECONDS,
        "retry": Retry(
            ExponentialWithJitterBackoff(cap=_LONGEST_WAIT_SECONDS, base=_FIRST_WAIT_SECONDS), retries
        ),
        "protocol": 2,
    }
    # A Unix socket has no keepalive, and redis-py refuses the option.
    if not url.startswith("unix:"):
        found["socket_keepalive"] = True
    # `Settings` refuses shorter timeouts for a broker.
    found |= redis_options(url, least_seconds=SECONDS)
    if answer_seconds is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            found[name] = min(found[name], answer_seconds)
    return found


def kind(url: str) -> type[redis.Connection]:
    """Return the class of connections for this URL."""
    return _KINDS[url.partition("://")[0].lower()]


def connect(url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES) -> redis.Redis:
    """Return a client for `redis://`, `rediss://` or `unix://`. Options in the URL override ours.

    It connects at the first command, and threads can share it. Answers are bytes: reports are parsed from
    bytes, and values that others left under our keys need not be text.

    A command that fails is sent again, up to five times by default, so every command must be safe to repeat.
    If it still fails, one of `redis.exceptions` is raised. Callers that must not wait ask for fewer retries.

    Raises:
        ValueError: as `redis_options`.
    """
    found = options(url, answer_seconds=answer_seconds, retries=retries)
    pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call] # redis-py's
        max_connections=_POOL_SIZE,
        timeout=_POOL_WAIT_SECONDS,
        connection_class=kind(url),
        decode_responses=False,
        **found,
    )
    return redis.Redis.from_pool(pool)
