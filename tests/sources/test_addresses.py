"""Only public addresses are accepted, in every form in which an address can be written."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from keyhole.sources import addresses
from keyhole.sources.addresses import NoAddressError, PrivateAddressError, is_public, resolve

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - no server is bound to it
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "64:ff9b:1::7f00:1",  # RFC 8215: a local gateway to IPv4
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",  # RFC 2765
    "2001:0:7f00:1::",
    "2001:1::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "192.0.0.192",
    "192.0.0.9",
    "192.88.99.1",
    "168.63.129.16",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::1"])
def test_a_host_with_a_private_address_is_refused(host: str) -> None:
    with pytest.raises(PrivateAddressError, match="which is not public"):
        resolve(host, 443, private=False)


def test_it_is_accepted_if_the_settings_allow_it() -> None:
    assert resolve("127.0.0.1", 443, private=True) == ["127.0.0.1"]


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 0, 0, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", answer)

    with pytest.raises(PrivateAddressError, match=r"10\.0\.0\.1"):
        resolve("rebinding.example", 443, private=False)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example", ".."])
def test_a_host_without_an_address_is_another_error(host: str) -> None:
    with pytest.raises(NoAddressError, match="has no address"):
        resolve(host, 443, private=False)
