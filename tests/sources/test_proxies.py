"""The proxy for a URL: all clients interpret the environment in the same way."""

import pytest

from keyhole.sources.errors import ConfigurationError
from keyhole.sources.proxies import Proxies

PROXY = "http://proxy.test:3128"
URL = "http://10.1.2.3:9000/bucket"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, URL, None),
        ({"HTTP_PROXY": PROXY}, URL, PROXY),
        ({"http_proxy": PROXY, "HTTP_PROXY": "http://other.test"}, URL, PROXY),
        ({"HTTP_PROXY": PROXY}, "https://s3.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://s3.test", PROXY),
        ({"ALL_PROXY": PROXY}, "https://s3.test", PROXY),
        ({"ALL_PROXY": "http://other.test", "HTTPS_PROXY": PROXY}, "https://s3.test", PROXY),
        ({"HTTP_PROXY": ""}, URL, None),
        ({"HTTP_PROXY": "proxy.test:3128"}, URL, PROXY),
        ({"HTTP_PROXY": f" {PROXY} "}, URL, PROXY),
    ],
)
def test_the_scheme_decides(environment: dict[str, str], url: str, proxy: str | None) -> None:
    assert Proxies.of(environment).for_url(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "straight"),
    [
        ("*", "http://s3.test", True),
        ("*", URL, True),
        ("s3.test", "http://s3.test", True),
        ("s3.test", "http://bucket.s3.test", True),
        (".s3.test", "http://bucket.s3.test", True),
        ("*.s3.test", "http://bucket.s3.test", True),
        ("S3.Test", "http://s3.TEST", True),
        ("3.test", "http://s3.test", False),
        ("other.test, s3.test", "http://s3.test", True),
        ("other.test s3.test", "http://s3.test", True),
        ("s3.test:80", "http://s3.test", True),
        ("s3.test:443", "http://s3.test", False),
        ("10.1.2.3:9000", URL, True),
        ("10.1.2.3:9001", URL, False),
        ("10.1.2.3", URL, True),
        ("10.0.0.0/8", URL, True),
        ("10.2.0.0/16", URL, False),
        ("2001:db8::/32", "http://[2001:db8::1]:9000", True),
        ("[2001:db8::1]:9000", "http://[2001:db8::1]:9000", True),
        ("2001:db8::1", "http://[2001:db8::1]:9000", True),
        ("", URL, False),
        (",", URL, False),
    ],
)
def test_no_proxy_names_hosts_ports_and_ranges(no_proxy: str, url: str, straight: bool) -> None:
    proxies = Proxies.of({"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (proxies.for_url(url) is None) is straight


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "http://host:0", "http://host:port"])
def test_a_proxy_that_no_client_knows_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT") as raised:
        Proxies.of({"ALL_PROXY": proxy.replace("://", "://user:secret@")})
    assert "secret" not in str(raised.value)
