"""Creates all Redis clients, with bounded waits, bounded retries and a bounded pool of connections.

The defaults of redis-py's options differ between its versions, so this module sets every option that limits
the time of a call.
"""

import ssl
from socket import socket
from ssl import SSLSocket
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import MasterDownError
from redis.retry import Retry

from keyhole.store.cluster import InSlot, Slot
from keyhole.store.redis_url import SECONDS, redis_options

#: The longest wait in seconds for one response. It must be longer than the longest time for which a command
#: blocks (`redis_store.LONGEST_BLOCK_MS`).
_ANSWER_SECONDS: Final = 30.0
#: The longest wait in seconds for a connection. After this time, the client assumes that the host is down.
_CONNECT_SECONDS: Final = 5.0
#: If a connection was idle for this many seconds, the client checks the connection before it uses it, because
#: load balancers close idle connections.
_HEALTH_CHECK_SECONDS: Final = 25
#: The number of retries of one command. The waits before the retries take about 6 s in total, which is enough
#: for a restart or a failover of Redis.
_RETRIES: Final = 5
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 2.0
#: The maximum number of connections of one client. If all of them are in use, a thread waits at most
#: `_POOL_WAIT_SECONDS` for a free connection.
_POOL_SIZE: Final = 32
_POOL_WAIT_SECONDS: Final = 20.0
#: The port if the URL names no port.
_PORT: Final = 6379


class ChecksOnce(AbstractConnection):
    """A connection that does not repeat its health check, and so does not nest retries.

    redis-py checks the health of a connection while it connects or sends a command. It repeats both, with the
    retries of the connection. It would also repeat the check, so a server that closes all connections at once
    would get 36 of them and not 6.
    """

    def check_health(self) -> None:
        """Send a PING if the connection was idle for long.

        Raises:
            redis.RedisError: The server does not respond.
        """
        patience, self.retry = self.retry, Retry(NoBackoff(), 0)
        try:
            super().check_health()  # type: ignore[no-untyped-call] # redis-py's
        finally:
            self.retry = patience


class PlainConnection(ChecksOnce, redis.Connection):
    """A connection over TCP, without TLS."""


class UnixConnection(ChecksOnce, redis.UnixDomainSocketConnection):
    """A connection through a Unix socket."""


class TlsConnection(ChecksOnce, redis.SSLConnection):
    """A TLS connection that trusts only the certificate authorities in the URL, if the URL names any.

    redis-py would also trust the system's certificate authorities.
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


class SlotConnection(InSlot, PlainConnection):
    """A connection to a server, or to the node of a cluster that has Keyhole's keys."""


class TlsSlotConnection(InSlot, TlsConnection):
    """A `SlotConnection` with TLS. The host name in the certificate of each node is verified."""


_KINDS: Final = {
    "redis": PlainConnection,
    "rediss": TlsConnection,
    "unix": UnixConnection,
}
_KINDS_IN_SLOT: Final = {**_KINDS, "redis": SlotConnection, "rediss": TlsSlotConnection}


#: The errors that mean that Redis is unreachable, or refuses every write because it is out of memory,
#: read-only, or a replica without its primary.
_OUTAGES: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    MasterDownError,
)
#: The error codes of other outages, for which redis-py has no error classes. These codes mean that the server
#: cannot write to its disk, has too few replicas, or is still running a script.
_OUTAGE_CODES: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ")


def is_outage(error: redis.RedisError) -> bool:
    """Return whether a command failed because Redis is unreachable or refuses every write."""
    return isinstance(error, _OUTAGES) or any(code in str(error) for code in _OUTAGE_CODES)


def options(
    url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES
) -> dict[str, Any]:  # the options of redis-py have many types
    """Return the options for redis-py's connections to this URL.

    Options in the URL override Keyhole's defaults. The protocol version is always 2, because Keyhole expects
    the types of responses of this version.

    The options are for the class that `kind` returns. Each call returns options for one client.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        answer_seconds: The longest wait in seconds for a connection or a response. If the URL sets a shorter
            wait, the shorter wait applies.
        retries: How many times a failed command is sent again.

    Raises:
        ValueError: See `redis_options`.
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
    # Unix sockets have no keepalive, and redis-py refuses this option for them.
    if not url.startswith("unix:"):
        found["socket_keepalive"] = True
    # A broker needs longer timeouts than a store. `Settings` has already checked the timeouts in the broker's
    # URL, so check only the store's minimum here.
    found |= redis_options(url, least_seconds=SECONDS)
    if answer_seconds is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            found[name] = min(found[name], answer_seconds)
    if "host" in found:
        found["slot"] = Slot(found["host"], found.get("port", _PORT))
    return found


def kind(url: str) -> type[redis.Connection]:
    """Return the class of connections for this URL."""
    return _KINDS_IN_SLOT[url.partition("://")[0].lower()]


def connect(
    url: str, *, answer_seconds: float | None = None, retries: int = _RETRIES, only_server: bool = False
) -> redis.Redis:
    """Return a client for a URL with `redis://`, `rediss://` or `unix://`. See `options` for the arguments.

    If the server belongs to a cluster, the client connects to the node that has Keyhole's keys. With
    `only_server`, the client connects only to the server in the URL, and a key on another node is an error.

    The client connects at the first command. Threads can share the client. It returns responses as bytes and
    does not decode them. One reason is that reports are parsed from bytes. The other is that another program
    may have written a value that is not valid UTF-8.

    The client sends a failed command again, up to five times by default, so every command must be safe to
    repeat. If the command still fails, the client raises one of `redis.exceptions`. If the caller must not
    wait long, it should pass a smaller number of `retries`.

    Raises:
        ValueError: See `redis_options`.
    """
    found = options(url, answer_seconds=answer_seconds, retries=retries)
    if only_server:
        found.pop("slot", None)
    pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call] # redis-py's
        max_connections=_POOL_SIZE,
        timeout=_POOL_WAIT_SECONDS,
        connection_class=_KINDS[url.partition("://")[0].lower()] if only_server else kind(url),
        decode_responses=False,
        **found,
    )
    return redis.Redis.from_pool(pool)
