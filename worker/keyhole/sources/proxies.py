"""Finds the proxy for a URL in the environment's variables, for both S3 clients.

boto3 and obstore interpret these variables differently: boto3 ignores `ALL_PROXY` and address ranges in
`NO_PROXY`, and obstore ignores ports in `NO_PROXY` and does not apply `*` to addresses. So Keyhole interprets
the variables for both clients. It combines the rules of curl and of the Python library requests:

- `http_proxy` or `https_proxy`, according to the URL's scheme, else `all_proxy`. Lower case overrides upper
  case. An empty value means that the variable is not set.
- `no_proxy` is a list of exceptions, separated by commas or white space. An exception is `*` (all hosts); a
  host name, which includes all its subdomains (`example.com`, `.example.com`, `*.example.com`); an address;
  or a range of addresses (`10.0.0.0/8`). A host or an address can end in `:PORT`, and then applies only to
  this port.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from keyhole.reasons import Reason
from keyhole.sources.errors import ConfigurationError

#: The schemes of proxies that boto3 can use. Neither client supports SOCKS.
SCHEMES = {"http", "https"}
PORTS = {"http": 80, "https": 443}
#: An entry of `no_proxy` with a port: a name, an IPv4 address, or an IPv6 address in brackets.
WITH_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):(\d+)")


class Proxies:
    """The proxies that an environment sets.

    Args:
        by_scheme: The URL of the proxy for each scheme that has one.
        exceptions: The entries of `no_proxy`.
    """

    def __init__(self, by_scheme: Mapping[str, str], exceptions: tuple[str, ...]) -> None:
        self._by_scheme = by_scheme
        self._exceptions = exceptions

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Return the proxies that the variables of an environment set.

        Raises:
            ConfigurationError: A variable names a proxy that the clients do not support.
        """
        others = _value(environment, "all_proxy")
        stated = {scheme: _value(environment, f"{scheme}_proxy") or others for scheme in PORTS}
        return cls(
            {scheme: _checked(scheme, proxy) for scheme, proxy in stated.items() if proxy},
            tuple(re.split(r"[,\s]+", _value(environment, "no_proxy"))),
        )

    def for_url(self, url: str) -> str | None:
        """Return the proxy for a URL; `None` for a direct connection."""
        place = urlsplit(url)
        proxy = self._by_scheme.get(place.scheme)
        if proxy is None or place.hostname is None:
            return None
        port = place.port or PORTS[place.scheme]
        return None if any(_names(entry, place.hostname, port) for entry in self._exceptions) else proxy


def _value(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _checked(scheme: str, proxy: str) -> str:
    """Return the checked URL of a proxy. Add the scheme `http` if there is none."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        place = urlsplit(url)
        usable = place.scheme in SCHEMES and bool(place.hostname) and place.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            Reason.REQUEST,
            f"{scheme.upper()}_PROXY or ALL_PROXY names a proxy that the S3 clients cannot use; write "
            "http://HOST:PORT",
        )
    return url


def _names(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of `no_proxy` applies to a host."""
    if entry in {"", "*"}:
        return entry == "*"
    if with_port := WITH_PORT.fullmatch(entry):
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
    try:
        address = ip_address(host)
    except ValueError:
        name = entry.lower().removeprefix("*").removeprefix(".").rstrip(".")
        return host.rstrip(".") == name or host.rstrip(".").endswith(f".{name}")
    try:
        return address in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
