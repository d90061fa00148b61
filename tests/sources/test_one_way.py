"""boto3 and obstore reach S3 in the same way: same host, proxy, certificates and headers.

The tests use real connections: a proxy that records the destinations of clients, and a server with TLS.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import stamina
from botocore.exceptions import ClientError

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources import trust
from keyhole.sources.errors import ConfigurationError, SourceError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.certificates import Authority, make_authority
from tests.servers.forward_proxy import forward_proxy
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, refuse, scripted_s3

MIB = 1 << 20
#: A key that obstore reads, and a key that only boto3 can read.
KEYS = ["image", "images//image"]
AGENTS = ["keyhole", "Boto3"]

Way = Callable[..., S3Access]


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Makes an S3 client with these environment variables."""
    made: list[S3Access] = []

    def make(url: str | None, variables: dict[str, str], **options: object) -> S3Access:
        isolate(monkeypatch, **CREDENTIALS, **variables)
        region = None if "AWS_REGION" in variables else "us-east-1"
        access = S3Access(endpoint_url=url, region=region, connections=8, **options)  # type: ignore[arg-type]
        made.append(access)
        return access

    with stamina.set_testing(True, attempts=1):
        yield make
    for access in made:
        access.client.close()


@pytest.fixture(scope="module")
def _secure(authority: Authority) -> Iterator[ScriptedS3]:
    with scripted_s3(authority.sign("127.0.0.1", "localhost")) as server:
        yield server


@pytest.fixture
def secure(_secure: ScriptedS3) -> ScriptedS3:
    """A server whose certificate the company's CA has signed."""
    _secure.reset()
    for key in KEYS:
        _secure.put(key, qcow2(MIB))
    return _secure


@pytest.fixture
def plain(scripted: ScriptedS3) -> ScriptedS3:
    """A server without TLS."""
    for key in KEYS:
        scripted.put(key, qcow2(MIB))
    return scripted


def agents(server: ScriptedS3) -> list[str]:
    """The user agents of all requests."""
    return [request.headers["user-agent"].split("/")[0] for request in server.requests]


def scan_all(access: S3Access, bucket: str = BUCKET) -> list[Status]:
    """The verdicts on the two objects."""
    return [scan_s3(access, bucket, key, None, ScanSettings()).status for key in KEYS]


# Hosts


@pytest.mark.parametrize(
    ("variables", "configuration", "bucket", "host"),
    [
        pytest.param({}, "", "images", "images.s3.amazonaws.com", marks=pytest.mark.slow, id="us-east-1"),
        pytest.param(
            {"AWS_REGION": "eu-west-1"}, "", "images", "images.s3.eu-west-1.amazonaws.com", id="region"
        ),
        pytest.param(
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "",
            "images",
            "images.s3-fips.us-east-1.amazonaws.com",
            id="FIPS",
        ),
        pytest.param(
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "",
            "images",
            "images.s3.dualstack.us-east-1.amazonaws.com",
            marks=pytest.mark.slow,
            id="dual stack",
        ),
        pytest.param(
            {},
            "use_accelerate_endpoint = true",
            "images",
            "images.s3-accelerate.amazonaws.com",
            id="accelerate",
        ),
        pytest.param(
            {},
            "addressing_style = path",
            "images",
            "s3.amazonaws.com",
            marks=pytest.mark.slow,
            id="path style",
        ),
        pytest.param({}, "", "im.ages", "s3.amazonaws.com", marks=pytest.mark.slow, id="a bucket with a dot"),
        pytest.param(
            {},
            "",
            "arn:aws:s3:us-west-2:123456789012:accesspoint/ap",
            "ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
            id="access point",
        ),
        pytest.param(
            {"AWS_REGION": "cn-north-1"}, "", "images", "images.s3.cn-north-1.amazonaws.com.cn", id="China"
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL_S3": "https://s3.test/"}, "", "images", "s3.test", id="another server"
        ),
    ],
)
def test_both_clients_go_to_the_host_that_aws_rules_name(
    way: Way, tmp_path: Path, variables: dict[str, str], configuration: str, bucket: str, host: str
) -> None:
    # Given a configuration, and a proxy that refuses every destination
    (tmp_path / "config").write_text(f"[default]\n{configuration and 's3 ='}\n  {configuration}\n")
    with forward_proxy(None) as proxy:
        access = way(
            None, variables | {"HTTPS_PROXY": proxy.url, "AWS_CONFIG_FILE": str(tmp_path / "config")}
        )
        # When an object is read, first by obstore and then by boto3
        source = S3Source(access, bucket, "image", version_id=None, meter=Meter(Budget()))
        with pytest.raises(SourceError):
            source.read(0, 512)
        # Then both requested the same host
        assert proxy.asked == [f"{host}:443"] * 2


def test_what_obstore_cannot_sign_is_boto3s_from_the_start(way: Way) -> None:
    outpost = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/ap"
    with forward_proxy(None) as proxy:
        access = way(None, {"HTTPS_PROXY": proxy.url})
        with pytest.raises(SourceError):
            S3Source(access, outpost, "image", version_id=None, meter=Meter(Budget())).read(0, 512)
        assert proxy.asked == ["ap-123456789012.op-01234567890123456.s3-outposts.us-west-2.amazonaws.com:443"]


@pytest.mark.parametrize("by", ["setting", "AWS configuration"])
def test_a_server_that_matches_buckets_in_its_name_alone_is_read_by_obstore(
    way: Way, plain: ScriptedS3, tmp_path: Path, by: str
) -> None:
    """Earlier, each of 15 objects cost a failed request, and boto3 read them."""
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    with forward_proxy(plain.url, bucket_in="s3.test") as proxy:
        variables = {"HTTP_PROXY": proxy.url}
        if by == "setting":
            access = way("http://s3.test", variables, addressing_style="virtual")
        else:
            access = way("http://s3.test", variables | {"AWS_CONFIG_FILE": str(tmp_path / "config")})
        for _ in range(15):
            assert scan_s3(access, BUCKET, "image", None, ScanSettings()).status is Status.SAFE
        assert set(proxy.asked) == {f"http://{BUCKET}.s3.test/image"}
    assert agents(plain) == ["keyhole"] * 15


def test_objects_that_are_read_at_once_find_another_region_once(way: Way, plain: ScriptedS3) -> None:
    # Given a bucket in another region
    elsewhere = refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    plain.script(
        then=lambda request, answer: (
            answer if "/eu-west-1/" in request.headers["authorization"] else elsewhere(request, answer)
        )
    )
    access = way(plain.url, {})
    # When 15 objects are scanned at the same time
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: scan_s3(access, BUCKET, "image", None, ScanSettings()), range(15)))
    # Then each client's first request found the region, and no other request failed
    assert {report.status for report in reports} == {Status.SAFE}
    assert len(plain.requests) == 15 + 2
    # And listings and tags use that region at once
    with pytest.raises(ClientError):
        access.client.get_object_tagging(Bucket=BUCKET, Key="missing")
    assert "/eu-west-1/" in plain.requests[-1].headers["authorization"]
    assert len(plain.requests) == 15 + 3


def test_an_endpoint_with_a_blank_is_refused_in_one_line(way: Way) -> None:
    """Such an endpoint makes obstore panic."""
    access = way(None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9 "})
    with pytest.raises(ConfigurationError) as raised:
        access.route(BUCKET)
    assert "http://127.0.0.1:9 " in str(raised.value)


# Proxies


@pytest.mark.parametrize(
    ("variables", "by_proxy"),
    [
        ({}, False),
        ({"HTTP_PROXY": "PROXY"}, True),
        pytest.param({"http_proxy": "PROXY"}, True, marks=pytest.mark.slow),
        pytest.param({"ALL_PROXY": "PROXY"}, True, marks=pytest.mark.slow),
        pytest.param({"HTTPS_PROXY": "PROXY"}, False, marks=pytest.mark.slow),
        pytest.param({"AWS_PROXY_URL": "PROXY"}, False, marks=pytest.mark.slow),
        ({"ALL_PROXY": "PROXY", "NO_PROXY": "*"}, False),
        ({"ALL_PROXY": "PROXY", "NO_PROXY": "127.0.0.0/8"}, False),
        pytest.param({"ALL_PROXY": "PROXY", "NO_PROXY": "10.0.0.0/8"}, True, marks=pytest.mark.slow),
        ({"ALL_PROXY": "PROXY", "NO_PROXY": "127.0.0.1:PORT"}, False),
        pytest.param({"ALL_PROXY": "PROXY", "NO_PROXY": "127.0.0.1:9"}, True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_both_clients_go_by_the_same_proxy(
    way: Way, plain: ScriptedS3, variables: dict[str, str], by_proxy: bool
) -> None:
    port = plain.url.rpartition(":")[2]
    with forward_proxy(plain.url) as proxy:
        stated = {
            name: value.replace("PROXY", proxy.url).replace("PORT", port) for name, value in variables.items()
        }
        assert scan_all(way(plain.url, stated)) == [Status.SAFE] * 2
        assert len(proxy.asked) == (2 if by_proxy else 0)
    assert agents(plain) == AGENTS


def test_both_clients_give_the_proxy_its_password(way: Way, plain: ScriptedS3) -> None:
    with forward_proxy(plain.url) as proxy:
        access = way(plain.url, {"HTTP_PROXY": proxy.url.replace("://", "://user:p%40ss@")})
        assert scan_all(access) == [Status.SAFE] * 2
        assert proxy.authorizations == ["Basic dXNlcjpwQHNz"] * 2


def test_both_clients_reach_a_server_behind_tls_by_the_proxy(
    way: Way, secure: ScriptedS3, authority: Authority
) -> None:
    with forward_proxy(secure.url) as proxy:
        access = way(secure.url, {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(authority.file)})
        assert scan_all(access) == [Status.SAFE] * 2
        assert proxy.asked == [secure.url.removeprefix("https://")] * 2
    assert agents(secure) == AGENTS


def test_a_proxy_by_tls_is_boto3s(way: Way, plain: ScriptedS3) -> None:
    access = way(plain.url, {"HTTP_PROXY": "https://127.0.0.1:9"})
    assert access.route(BUCKET).store is None


# Certificates


@pytest.mark.parametrize(
    "variables",
    [
        {"SSL_CERT_FILE": "CA"},
        {"SSL_CERT_FILE": "CA", "AWS_CA_BUNDLE": "CA"},
        {"SSL_CERT_FILE": "CA", "REQUESTS_CA_BUNDLE": "CA"},
    ],
    ids=str,
)
def test_both_clients_trust_a_companys_ca(
    way: Way, secure: ScriptedS3, authority: Authority, variables: dict[str, str]
) -> None:
    access = way(secure.url, {name: str(authority.file) for name in variables})
    assert scan_all(access) == [Status.SAFE] * 2
    assert agents(secure) == AGENTS


def test_boto3_trusts_the_systems_store_as_obstore_does(
    way: Way, secure: ScriptedS3, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier, listings and tags failed there. Only boto3 can be told the path of the system's store."""
    monkeypatch.setattr(trust, "SYSTEM_STORES", (str(authority.file),))
    access = way(secure.url, {})
    assert scan_all(access) == [Status.SAFE] * 2
    assert agents(secure) == ["Boto3"] * 2


def test_obstore_is_told_the_certificates_that_it_does_not_find(
    way: Way, secure: ScriptedS3, authority: Authority, tmp_path: Path
) -> None:
    other = make_authority(tmp_path, "other").file
    both = tmp_path / "both.pem"
    both.write_bytes(authority.file.read_bytes() + other.read_bytes())
    access = way(secure.url, {"AWS_CA_BUNDLE": str(both), "SSL_CERT_FILE": str(other)})
    assert scan_all(access) == [Status.SAFE] * 2
    assert agents(secure) == AGENTS


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_bundle_that_leaves_out_the_systems_store_is_boto3s(
    way: Way, secure: ScriptedS3, authority: Authority, variable: str
) -> None:
    """obstore uses the bundle in addition to the system's store, boto3 instead of it."""
    access = way(secure.url, {variable: str(authority.file)})
    assert scan_all(access) == [Status.SAFE] * 2
    assert agents(secure) == ["Boto3"] * 2


@pytest.mark.parametrize("variables", [{}, {"AWS_CA_BUNDLE": "OTHER", "SSL_CERT_FILE": "CA"}], ids=str)
def test_neither_client_trusts_what_it_was_not_told_to(
    way: Way, secure: ScriptedS3, authority: Authority, tmp_path: Path, variables: dict[str, str]
) -> None:
    files = {"CA": authority.file, "OTHER": make_authority(tmp_path, "other").file}
    access = way(secure.url, {name: str(files[value]) for name, value in variables.items()})
    reports = [scan_s3(access, BUCKET, key, None, ScanSettings()) for key in KEYS]
    assert [report.reasons for report in reports] == [("network",)] * 2
    assert "AWS_CA_BUNDLE" in str(reports[0].details["error"])
    assert not secure.requests


# Headers


def test_every_request_says_who_pays_and_who_owns_the_bucket(way: Way, plain: ScriptedS3) -> None:
    access = way(plain.url, {}, requester_pays=True, expected_bucket_owner="123456789012")
    assert scan_all(access) == [Status.SAFE] * 2
    with pytest.raises(ClientError):
        access.client.get_object_tagging(Bucket=BUCKET, Key="missing")
    assert agents(plain) == [*AGENTS, "Boto3"]
    for request in plain.requests:
        assert request.headers["x-amz-request-payer"] == "requester"
        assert request.headers["x-amz-expected-bucket-owner"] == "123456789012"
        signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert {"x-amz-request-payer", "x-amz-expected-bucket-owner"} <= set(signed)


def test_no_request_says_so_unless_it_is_set(way: Way, plain: ScriptedS3) -> None:
    access = way(plain.url, {"AWS_REQUEST_PAYER": "requester"})
    assert scan_all(access) == [Status.SAFE] * 2
    assert not any(
        name.startswith("x-amz-request-payer") for request in plain.requests for name in request.headers
    )
