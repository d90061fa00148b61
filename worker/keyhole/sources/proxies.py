"""Which proxy a URL is asked for through, by the environment. Both S3 clients follow this one reading of it.

boto3 and obstore each read these variables in a way of their own: boto3 knows no `ALL_PROXY` and no address
ranges in `NO_PROXY`, obstore no ports and no `*` for addresses. The rules here are curl's and those of the
Python library requests, taken together:

- `http_proxy`, `https_proxy`, by the URL's scheme; else `all_proxy`. Lower case goes before upper case. An
  empty value is none.
- `no_proxy` is a list, with commas or blanks between: `*` for all; a host, which stands for all hosts below
  it, too (`example.com`, `.example.com`, `*.example.com`); an address; a range of addresses
  (`10.0.0.0/8`). Each but `*` and a range may end in `:PORT`, and then holds for that port alone.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from keyhole.reasons import Reason
from keyhole.sources.errors import ConfigurationError

#: Proxies that boto3 can use. No client of ours knows SOCKS.
SCHEMES = {"http", "https"}
PORTS = {"http": 80, "https": 443}
#: An entry of `no_proxy` with a port: a name, an IPv4 address, or an IPv6 address in brackets.
WITH_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):(\d+)")


class Proxies:
    """The proxies of an environment.

    Args:
        by_scheme: The URL of the proxy for each scheme that has one.
        exceptions: What `no_proxy` names.
    """

    def __init__(self, by_scheme: Mapping[str, str], exceptions: tuple[str, ...]) -> None:
        self._by_scheme = by_scheme
        self._exceptions = exceptions

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables.

        Raises:
            ConfigurationError: A proxy is of a kind that no client knows.
        """
        others = _value(environment, "all_proxy")
        stated = {scheme: _value(environment, f"{scheme}_proxy") or others for scheme in PORTS}
        return cls(
            {scheme: _checked(scheme, proxy) for scheme, proxy in stated.items() if proxy},
            tuple(re.split(r"[,\s]+", _value(environment, "no_proxy"))),
        )

    def for_url(self, url: str) -> str | None:
        """The proxy to ask for a URL through; `None` for the straight way."""
        place = urlsplit(url)
        proxy = self._by_scheme.get(place.scheme)
        if proxy is None or place.hostname is None:
            return None
        port = place.port or PORTS[place.scheme]
        return None if any(_names(entry, place.hostname, port) for entry in self._exceptions) else proxy


def _value(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _checked(scheme: str, proxy: str) -> str:
    """A proxy's URL, which may be stated without its scheme."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        place = urlsplit(url)
        usable = place.scheme in SCHEMES and bool(place.hostname) and place.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            Reason.REQUEST,
            f"{scheme.upper()}_PROXY or ALL_PROXY names a proxy that S3's clients cannot use; write "
            "http://HOST:PORT",
        )
    return url


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `no_proxy` names a host."""
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
