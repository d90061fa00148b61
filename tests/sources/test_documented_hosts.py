"""The hosts for a firewall in the reference are those that Keyhole and botocore connect to."""

import re
from urllib.parse import urlsplit

import boto3
import pytest

from keyhole.sources.s3_access import S3Access
from tests.pages import REFERENCE
from tests.servers.access import CREDENTIALS, isolate

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| 443 \|$", REFERENCE["s3"], re.MULTILINE)
#: The documented hosts, by use. The names stand for a bucket, a region and an availability zone.
HOSTS = {
    use: [
        host.replace("BUCKET", "images").replace("REGION", "eu-west-1").replace("ZONE", "euw1-az1")
        for host in re.findall("`([^`]+)`", hosts)
    ]
    for use, hosts in ROWS
}
DIRECTORY_BUCKET = "images--euw1-az1--x-s3"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **CREDENTIALS)


def of_bucket(bucket: str) -> str | None:
    access = S3Access(endpoint_url=None, region="eu-west-1", connections=1)
    return urlsplit(access.route(bucket)._place.url).hostname


@pytest.mark.parametrize(
    ("use", "variable"),
    [
        ("objects, listings and tags", "AWS_NOTHING"),
        ("the same with `AWS_USE_FIPS_ENDPOINT`", "AWS_USE_FIPS_ENDPOINT"),
        ("the same with `AWS_USE_DUALSTACK_ENDPOINT`", "AWS_USE_DUALSTACK_ENDPOINT"),
    ],
)
def test_the_host_of_a_bucket(use: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    if "FIPS" in variable:  # AWS has FIPS endpoints only in America
        access = S3Access(endpoint_url=None, region="us-west-2", connections=1)
        expected = HOSTS[use][0].replace("eu-west-1", "us-west-2")
        assert urlsplit(access.route("images")._place.url).hostname == expected
    else:
        assert of_bucket("images") == HOSTS[use][0]


def test_the_host_of_a_bucket_with_a_dot_or_of_another_kind() -> None:
    assert of_bucket("images.example") == HOSTS["objects, listings and tags"][1]
    assert of_bucket(DIRECTORY_BUCKET) == HOSTS["directory buckets"][0].replace("images", DIRECTORY_BUCKET)


def test_the_hosts_of_the_other_services() -> None:
    others = [host for hosts in HOSTS.values() for host in hosts if re.match("(sqs|sns|events|sts)[.]", host)]

    assert {host.partition(".")[0] for host in others} == {"sqs", "sns", "events", "sts"}
    for host in others:
        client = boto3.client(host.partition(".")[0], region_name="eu-west-1")
        assert client.meta.endpoint_url == f"https://{host}"
