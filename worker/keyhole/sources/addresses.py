"""Finds the addresses of a host, and refuses addresses that are not public.

Without this check, somebody who chooses a URL, or who controls the host's DNS records, could make Keyhole
send requests to servers inside the operator's network, such as the metadata service of a cloud. The caller
must connect to the returned addresses and must not resolve the name again, because DNS could return a
different address the second time (DNS rebinding).
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from keyhole.errors import KeyholeError

#: The last 32 bits of an address in this network are an IPv4 address, to which a gateway forwards the
#: packets. Source: RFC 6052.
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: Every global address of IPv6 is in this network. Source: RFC 4291, 2.4. Outside of it are, for example, the
#: addresses of local gateways to IPv4 (RFC 8215) and forms of IPv4 addresses that nothing uses today.
_UNICAST: Final = IPv6Network("2000::/3")
#: Networks that are not public, although `ipaddress` of some versions of Python counts all or a part of them
#: as global. Source: IANA's registries of special-purpose addresses.
_SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),  # protocols; a cloud has its metadata service here
    IPv4Network("192.88.99.0/24"),  # gateways for 6to4, out of use
    IPv4Network("168.63.129.16/32"),  # the host of a virtual machine in Azure, which answers only inside it
    IPv6Network("2001::/23"),  # protocols, such as Teredo
    IPv6Network("3fff::/20"),  # documentation
)


class NoAddressError(KeyholeError):
    """The host has no address: DNS does not know it, or DNS does not answer."""


class PrivateAddressError(KeyholeError):
    """At least one address of the host is not public."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is public.

    If an IPv6 address contains an IPv4 address, it is public if the IPv4 address is public.
    """
    if isinstance(address, IPv6Address):
        contained = address.ipv4_mapped or address.sixtofour
        if contained is None and address in _NAT64:
            contained = IPv4Address(int(address) & 0xFFFFFFFF)
        if contained is not None:
            return is_public(contained)
        if address not in _UNICAST:
            return False
    special = any(address.version == network.version and address in network for network in _SPECIAL)
    return address.is_global and not address.is_multicast and not special


def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """Return the addresses of a host.

    Args:
        host: The name or the address of the host.
        port: The port to which the caller will connect.
        private: Whether to accept addresses that are not public.

    Raises:
        NoAddressError: The host has no address.
        PrivateAddressError: At least one address is not public, and `private` is false.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAddressError(f"the host {host} has no address: {error}") from error
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    # An address with a scope, such as fe80::1%eth0, is never public.
    refused = [address for address in addresses if "%" in address or not is_public(ip_address(address))]
    if refused and not private:
        raise PrivateAddressError(f"the host {host} has the address {refused[0]}, which is not public")
    return addresses
