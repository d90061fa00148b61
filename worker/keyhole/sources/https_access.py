"""Connections to web servers, which check the address of every server before they connect.

The address is checked where the connection is made, and the connection uses the checked address. So neither a
redirect nor a second answer of DNS can lead Keyhole to a server inside the operator's network.

A proxy resolves the names of hosts itself, so Keyhole cannot check the addresses behind a proxy. If the
environment names a proxy for a URL (`keyhole.sources.proxies`), requests are only allowed if private
addresses are allowed.
"""

import os
import socket
import ssl
import sys
import time
from functools import cached_property
from threading import Lock
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers
from urllib3.util.ssl_ import create_urllib3_context

from keyhole.reasons import Reason
from keyhole.sources.addresses import resolve
from keyhole.sources.deadline import HeedsDeadlines, current
from keyhole.sources.errors import UnreadableError
from keyhole.sources.https_url import WebUrl
from keyhole.sources.proxies import Proxies
from keyhole.sources.trust import choose_trust

#: Seconds for a connection to be made, and for each wait for bytes. The deadline of the scan limits the whole
#: request.
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 20.0
#: The maximum number of addresses of a host that Keyhole tries.
MOST_ADDRESSES: Final = 3
#: How many web servers keep open connections for later requests.
MOST_SERVERS: Final = 16
#: How to allow what the check refuses.
HOW: Final = "to allow it, use --allow-private or set KEYHOLE_HTTPS_PRIVATE=true"


class _WholeSocket(HeedsDeadlines):
    """A connection that gives its socket to the deadline before it reads an answer.

    If an answer has no length, the connection object forgets its socket before the body has been read.
    """

    sock: Any  # a plain socket, or one of several classes for TLS

    def getresponse(self) -> Any:  # noqa: ANN401 - urllib3's type, passed on
        """Return the response; see urllib3."""
        deadline = current()
        if deadline is not None:
            deadline.note(SimpleNamespace(sock=self.sock))
        return super().getresponse()  # type: ignore[misc] # a mixin of connections


class _CheckedAddress(_WholeSocket):
    """A connection that is made only to public addresses."""

    #: Whether addresses that are not public are allowed.
    private = False

    def _new_conn(self: Any) -> socket.socket:  # urllib3 calls this for the socket of a new connection
        until = time.monotonic() + CONNECT_SECONDS
        failure: OSError | None = None
        for address in resolve(self._dns_host, self.port, private=self.private)[:MOST_ADDRESSES]:
            left = until - time.monotonic()
            if left <= 0:
                break
            try:
                connected = _connected(address, self.port, left)
            except OSError as error:
                failure = error
            else:
                sys.audit("http.client.connect", self, self.host, self.port)
                return connected
        if failure is None or isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection within {CONNECT_SECONDS:g} s")
        raise NewConnectionError(self, str(failure)) from failure


def _connected(address: str, port: int, seconds: float) -> socket.socket:
    """Return a socket that is connected to an address. The deadline of the thread can end the wait for it."""
    family, kind, protocol, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    connecting = socket.socket(family, kind, protocol)
    bound = current()
    if bound is not None:
        bound.note(SimpleNamespace(sock=connecting))
    try:
        connecting.settimeout(seconds)
        connecting.connect(place)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connecting.close()
        raise
    return connecting


class _Private(_CheckedAddress):
    private = True


def _pools(mixin: type) -> dict[str, Any]:
    """Return a class of pools for each scheme, whose connections have a mixin."""
    plain = type("_Connection", (mixin, HTTPConnection), {})
    secure = type("_SecureConnection", (mixin, HTTPSConnection), {})
    return {
        "http": type("_Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class HttpsAccess:
    """The connections of one process to web servers. Threads can share them.

    Args:
        private: Whether servers may have addresses that are not public, whether URLs may begin with
            `http://`, and whether requests may go through a proxy.
        connections: How many idle connections to a server are kept.
    """

    def __init__(self, *, private: bool, connections: int) -> None:
        self.private = private
        self._connections = connections
        self._managers: dict[str | None, PoolManager] = {}
        self._lock = Lock()

    def get(self, url: WebUrl, headers: dict[str, str]) -> BaseHTTPResponse:
        """Send one GET, and return the response. Redirects are not followed, and the body is not read.

        Raises:
            UnreadableError: The settings do not allow the URL.
            NoAddressError: The host has no address.
            PrivateAddressError: The host has an address that is not public.
            urllib3.exceptions.HTTPError: The request failed.
        """
        if url.scheme != "https" and not self.private:
            raise UnreadableError(
                Reason.ADDRESS_NOT_ALLOWED, f"{url.name} is not encrypted; write https://, or {HOW}"
            )
        proxy = self._proxies.for_url(url.url)
        if proxy is not None and not self.private:
            raise UnreadableError(
                Reason.ADDRESS_NOT_ALLOWED,
                f"{url.place} has a proxy, and a proxy resolves hosts itself, so Keyhole cannot refuse "
                f"private addresses; name the host in NO_PROXY, or {HOW}",
            )
        return self._manager(proxy).urlopen(
            "GET",
            url.url,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        )

    def close(self) -> None:
        """Close all idle connections. Later requests make new ones."""
        with self._lock:
            managers, self._managers = self._managers, {}
        for manager in managers.values():
            manager.clear()

    @cached_property
    def _proxies(self) -> Proxies:
        return Proxies.of(os.environ)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        context.check_hostname = True
        context.load_verify_locations(cafile=choose_trust(os.environ.get("AWS_CA_BUNDLE"), os.environ).bundle)
        return context

    def _manager(self, proxy: str | None) -> PoolManager:
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._opened(proxy)
            return self._managers[proxy]

    def _opened(self, proxy: str | None) -> PoolManager:
        shared: dict[str, Any] = {"maxsize": self._connections, "ssl_context": self._context}
        if proxy is None:
            manager = PoolManager(MOST_SERVERS, **shared)
            manager.pool_classes_by_scheme = _pools(_Private if self.private else _CheckedAddress)
            return manager
        user = urlsplit(proxy)
        login = f"{unquote(user.username)}:{unquote(user.password or '')}" if user.username else None
        manager = ProxyManager(
            proxy,
            MOST_SERVERS,
            proxy_headers=make_headers(proxy_basic_auth=login),
            proxy_ssl_context=self._context,
            **shared,
        )
        manager.pool_classes_by_scheme = _pools(_WholeSocket)
        return manager
