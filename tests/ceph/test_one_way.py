"""All of Keyhole's S3 clients reach a real server alike: with TLS, and with buckets as subdomains."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import stamina

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.intake.listing import list_objects
from keyhole.reasons import Status
from keyhole.results.tag_writer import TagOutcome, TagWriter
from keyhole.results.tags import TagDebt
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.ceph_rgw import DNS_NAME, CephRgw
from tests.servers.forward_proxy import forward_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2
#: A key that obstore reads, and a key that only boto3 can read.
KEYS = ["image", "images//image"]

Way = Callable[..., S3Access]


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Makes a client of a server with these environment variables."""
    made: list[S3Access] = []

    def make(url: str, variables: dict[str, str]) -> S3Access:
        isolate(monkeypatch, **CREDENTIALS, **variables)
        access = S3Access(
            endpoint_url=url,
            region="us-east-1",
            connections=4,
            addressing_style="virtual" if DNS_NAME in url else None,
        )
        made.append(access)
        return access

    with stamina.set_testing(True, attempts=1):
        yield make
    for access in made:
        access.client.close()


def use(access: S3Access, bucket: str) -> None:
    """List a bucket, and scan and tag its objects."""
    assert sorted(listed.key for listed in list_objects(access.client, bucket, "")) == KEYS
    for key in KEYS:
        report = scan_s3(access, bucket, key, None, ScanSettings())
        assert (report.status, report.virtual_size) == (Status.SAFE, MIB)
        assert TagWriter(access.client).write(TagDebt.of(report)) is TagOutcome.WRITTEN


@pytest.fixture
def filled(s3: "S3Client", bucket: str) -> str:
    """A bucket with two images."""
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=qcow2(MIB).to_bytes())
    return bucket


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_of_the_company_is_trusted_by_all(way: Way, rgw: CephRgw, filled: str, variable: str) -> None:
    use(way(rgw.secure_url, {variable: str(rgw.ca)}), filled)


def test_a_ca_in_the_systems_store_is_trusted_by_all(
    way: Way, rgw: CephRgw, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier, reads worked with such a CA, but listings and tags did not."""
    monkeypatch.setattr("keyhole.sources.trust.SYSTEM_STORES", (str(rgw.ca),))
    use(way(rgw.secure_url, {}), filled)


def test_an_unknown_ca_is_the_reason(way: Way, rgw: CephRgw, filled: str) -> None:
    report = scan_s3(way(rgw.secure_url, {}), filled, "image", None, ScanSettings())
    assert (report.status, report.reasons) == (Status.FAILED, ("network",))
    assert "AWS_CA_BUNDLE" in str(report.details["error"])


def test_buckets_in_the_servers_name_are_read_listed_and_tagged(way: Way, rgw: CephRgw, filled: str) -> None:
    """The names need not resolve, because all requests go to a proxy."""
    with forward_proxy(rgw.url) as proxy:
        access = way(f"http://{DNS_NAME}", {"HTTP_PROXY": proxy.url})
        use(access, filled)
        assert access.route(filled).store is not None
        assert {url.split("/")[2] for url in proxy.asked} == {f"{filled}.{DNS_NAME}"}
