"""One way to reach Redis: bounded waits, bounded retries, a pool that waits rather than grows.

redis-py's defaults differ from version to version, so whatever decides how long a call can take is stated
here.
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

#: Seconds for one answer. Longer than any wait inside Redis that we ask for (`redis_store.LONGEST_BLOCK_MS`).
_ANSWER_SECONDS: Final = 30.0
#: Seconds for a connection: a host that doesn't answer in that time is down.
_CONNECT_SECONDS: Final = 5.0
#: Seconds of silence after which a connection is checked before use: load balancers drop idle ones.
_HEALTH_CHECK_SECONDS: Final = 25
#: Retries of one command, some 6 s of waiting in all: a restart or a fail-over fits in, an outage doesn't.
_RETRIES: Final = 5
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 2.0
#: Connections of one process, and the seconds that a thread waits for a free one.
_POOL_SIZE: Final = 32
_POOL_WAIT_SECONDS: Final = 20.0


class TlsConnection(redis.SSLConnection):
    """redis-py's, which trusts only the authorities that its URL names, if it names any.

    redis-py trusts the system's as well.
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


#: Errors of a Redis that is in trouble, whatever is written: it is away, full or read-only. And the codes of
#: those for which redis-py has no class: its disk is full, its replicas are gone, or a script runs.
_OUTAGES: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    MasterDownError,
)
_OUTAGE_CODES: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")


def is_outage(error: redis.RedisError) -> bool:
    """Whether a command failed because Redis is away or refuses all writes, whatever the command was."""
    return isinstance(error, _OUTAGES) or any(code in str(error) for code in _OUTAGE_CODES)


def options(
    url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES
) -> dict[str, Any]:  # redis-py's are of every type
    """What a client of this URL is made with, as redis-py's connections take it.

    What the URL says goes before our defaults. Protocol 2 is stated because the shape of an answer depends on
    it.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        answer_seconds: Wait no longer than that for an answer, whatever the URL says.
        retries: How often a command is sent again.

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
    # Settings have refused less for a broker.
    found |= redis_options(url, least_seconds=SECONDS)
    if answer_seconds is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            found[name] = min(found[name], answer_seconds)
    return found


def kind(url: str) -> type[redis.Connection]:
    """The kind of connections of a client of this URL."""
    return _KINDS[url.partition("://")[0].lower()]


def connect(url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES) -> redis.Redis:
    """A client for `redis://`, `rediss://` or `unix://`; options in the URL's query string go before ours.

    It connects at the first command, and can be shared by threads. Answers are bytes: a report is parsed from
    bytes, and what somebody else left under our keys need not be text.

    A command that fails is sent again, up to five times by default, so each must bear to be applied twice.
    What still fails surfaces as one of `redis.exceptions`. Whoever must not wait asks for less patience.

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
