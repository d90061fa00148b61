"""Decides who may see the dashboard.

Without a token, the dashboard answers everyone who can reach its address, so the command `keyhole dashboard`
then accepts only a loopback address. With a token, a browser must log in once: it sends the token in a form,
and gets a cookie that scripts cannot read and that other sites cannot use. The cookie contains the time at
which it expires, and a signature made with the token. So it does not contain the token, and a new token makes
all cookies invalid. Programs can send the token in the header `Authorization: Bearer TOKEN`. A token in a URL
is ignored, because servers and proxies log URLs.

The dashboard answers only requests whose `Host` header names a known host. Otherwise, a page on the internet
could let its own name lead to 127.0.0.1 (*DNS rebinding*), and read the dashboard through the user's browser.

Source: RFC 6265bis, "SameSite"; OWASP, "Session Management Cheat Sheet".
"""

import hmac
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

COOKIE: Final = "keyhole-dashboard"
#: How long a browser stays logged in, in seconds.
COOKIE_SECONDS: Final = 12 * 3600
#: The names under which a browser on the same machine reaches a loopback address.
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: At most this many wrong tokens are compared in this many seconds, from all clients together.
MOST_FAILURES, FAILURE_SECONDS = 20, 60.0
#: A token has at least this many characters. With fewer, an attacker could guess it.
SHORTEST_TOKEN: Final = 16


@dataclass
class Access:
    """The token and the known hosts. `clock` returns the time in epoch seconds.

    If `token` is `None`, everyone may see the dashboard. `hosts` are names without port, in lower case.
    """

    token: str | None
    hosts: frozenset[str] = LOOPBACK_HOSTS
    clock: Callable[[], float] = time.time
    _failures: deque[float] = field(default_factory=deque)

    def is_known_host(self, host: str | None) -> bool:
        """Return whether a `Host` header names a known host, with or without a port."""
        if not host:
            return False
        name, separator, port = host.lower().rpartition(":")
        if not separator or not port.isdecimal():
            name = host.lower()
        return name.rstrip(".") in self.hosts

    def allows(self, cookie: str | None, authorization: str | None) -> bool:
        """Return whether a request with this cookie and this `Authorization` header may see the dashboard."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and not self.is_locked():
            return self.is_token(given.strip())
        expires, _, signature = (cookie or "").partition(".")
        if not expires.isascii() or not expires.isdecimal() or len(expires) > 12:
            return False
        return _same(signature, self._signature(expires)) and self.clock() < int(expires)

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token. The comparison takes equally long for all texts."""
        right = self.token is not None and _same(given, self.token)
        if not right:
            self._failures.append(self.clock())
        return right

    def is_locked(self) -> bool:
        """Return whether there were too many wrong tokens in the last minute."""
        while self._failures and self._failures[0] <= self.clock() - FAILURE_SECONDS:
            self._failures.popleft()
        return len(self._failures) >= MOST_FAILURES

    def new_cookie(self) -> str:
        """Return the value of the cookie of a browser that has logged in."""
        expires = str(int(self.clock()) + COOKIE_SECONDS)
        return f"{expires}.{self._signature(expires)}"

    def _signature(self, expires: str) -> str:
        key = (self.token or "").encode()
        return hmac.new(key, f"keyhole dashboard {expires}".encode(), sha256).hexdigest()


def known_hosts(address: str, names: Iterable[str]) -> frozenset[str]:
    """Return the hosts that the dashboard answers: loopback, the address it listens on, and further names."""
    own = f"[{address}]" if ":" in address else address
    return LOOPBACK_HOSTS | {own.lower(), *(name.lower().rstrip(".") for name in names)}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
