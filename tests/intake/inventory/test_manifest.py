"""The content of a manifest, and which manifests Keyhole does not trust."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.errors import KeyholeError
from keyhole.intake.errors import ListingError
from keyhole.intake.inventory.download import counting
from keyhole.intake.inventory.manifest import MAX_MANIFEST_BYTES, Manifest, Part, read_manifest
from keyhole.intake.inventory.part import FileFormat
from keyhole.sources.errors import TransientError, UnreadableError
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_uri import S3Uri
from tests.intake.inventory.inventories import ALL, FORMATS, Inventories, Row, digest
from tests.servers.recorded_moto import RecordedMoto
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, refuse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Read = Callable[..., Manifest]


@pytest.fixture
def read(recorded_access: S3Access, inventories: Inventories) -> Read:
    """Reads a manifest of the inventories' bucket, or of another bucket."""

    def read_it(uri: S3Uri, bucket: str | None = None) -> Manifest:
        return read_manifest(recorded_access.client, uri, bucket or inventories.source, counting())

    return read_it


def refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ListingError, match=match):
        call()


@pytest.mark.parametrize("file_format", FORMATS)
def test_it_says_in_which_format_the_parts_are_and_where(
    inventories: Inventories, read: Read, s3: "S3Client", file_format: str
) -> None:
    uri = inventories.write(file_format, [Row("a")], [Row("b")], columns=ALL)
    manifest = read(uri)
    assert manifest.file_format is FileFormat(file_format.lower())
    assert manifest.columns == (ALL if file_format == "CSV" else ())
    assert len(manifest.parts) == 2
    for part in manifest.parts:
        body = s3.get_object(Bucket=uri.bucket, Key=part.key)["Body"].read()
        assert part == Part(part.key, len(body), digest(body))


def test_the_columns_of_a_csv_are_parted_by_commas_with_spaces_or_without(
    inventories: Inventories, read: Read
) -> None:
    uri = inventories.write("CSV", fileSchema="Bucket,Key,  Size ")
    assert read(uri).columns == ("Bucket", "Key", "Size")


@pytest.mark.parametrize("arn", ["arn:aws:s3:::{}", "arn:aws-cn:s3:::{}", "arn:aws-us-gov:s3:::{}", "{}"])
def test_buckets_may_be_stated_as_arns(inventories: Inventories, read: Read, arn: str) -> None:
    source, destination = (arn.format(name) for name in (inventories.source, inventories.destination))
    uri = inventories.write("CSV", sourceBucket=source, destinationBucket=destination)
    assert read(uri).parts == ()


def test_an_inventory_of_another_bucket_is_refused(inventories: Inventories, read: Read) -> None:
    uri = inventories.write("CSV")
    refused(lambda: read(uri, "other"), f"is an inventory of '{inventories.source}', not of 'other'")


@pytest.mark.parametrize("elsewhere", ["arn:aws:s3:::elsewhere", "elsewhere", "arn:aws:sqs:::queue", ""])
def test_a_manifest_that_leads_to_another_bucket_is_refused(
    inventories: Inventories, read: Read, recorded: RecordedMoto, elsewhere: str
) -> None:
    uri = inventories.write("CSV", [Row("a")], destinationBucket=elsewhere)
    recorded.requests.clear()
    refused(lambda: read(uri), "use the URI of the manifest that S3 wrote")
    assert {request.bucket for request in recorded.requests} == {uri.bucket}


def test_a_manifest_that_does_not_have_its_checksum_is_refused(
    inventories: Inventories, read: Read, s3: "S3Client"
) -> None:
    uri = inventories.write("CSV")
    manifest = s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
    s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=manifest + b" ")
    refused(lambda: read(uri), "does not have the MD5 that its manifest.checksum states")


@pytest.mark.parametrize("more", ["\n", "\r\n", " "])
def test_a_checksum_may_be_a_line_in_capitals(
    inventories: Inventories, read: Read, s3: "S3Client", more: str
) -> None:
    uri = inventories.write("CSV")
    manifest = s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
    checksum = uri.key.removesuffix(".json") + ".checksum"
    s3.put_object(Bucket=uri.bucket, Key=checksum, Body=f"{digest(manifest).upper()}{more}".encode())
    assert read(uri)


@pytest.mark.parametrize("checksum", [b"", b"\xff" * 32, b"0" * 31])
def test_a_checksum_that_is_none_is_refused(
    inventories: Inventories, read: Read, s3: "S3Client", checksum: bytes
) -> None:
    uri = inventories.write("CSV")
    s3.put_object(Bucket=uri.bucket, Key=uri.key.removesuffix(".json") + ".checksum", Body=checksum)
    refused(lambda: read(uri), "does not have the MD5")


def test_a_missing_checksum_is_said_to_be_missing(
    inventories: Inventories, read: Read, s3: "S3Client"
) -> None:
    uri = inventories.write("CSV")
    s3.delete_object(Bucket=uri.bucket, Key=uri.key.removesuffix(".json") + ".checksum")
    refused(lambda: read(uri), "manifest.checksum is missing; S3 writes it next to the manifest")


def test_a_missing_manifest_is_said_to_be_missing(inventories: Inventories, read: Read) -> None:
    uri = S3Uri(inventories.destination, "manifest.json")
    with pytest.raises(UnreadableError, match=f"{uri}: the object does not exist") as raised:
        read(uri)
    assert raised.value.reason == "not_found"


@pytest.mark.parametrize("key", ["", "manifest.checksum", "hive/symlink.txt", "data/part-0.csv.gz"])
def test_what_is_no_manifest_by_its_name_is_not_read(
    inventories: Inventories, read: Read, recorded: RecordedMoto, key: str
) -> None:
    refused(lambda: read(S3Uri(inventories.destination, key)), "use the URI of an inventory's manifest.json")
    assert recorded.requests == []


FILE = {"key": "a", "size": 1, "MD5checksum": "0" * 32}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"fileFormat": "Excel"}, "the format 'Excel' is unknown; Keyhole reads CSV, Parquet and ORC"),
        ({"fileFormat": 1}, "fileFormat: "),
        ({"fileSchema": None}, "fileSchema: "),
        ({"sourceBucket": ["a"]}, "sourceBucket: "),
        ({"files": {}}, "files: "),
        ({"files": [1]}, "files.0: "),
        ({"files": [FILE | {"key": ""}]}, "files.0.key: "),
        ({"files": [FILE | {"size": -1}]}, "files.0.size: "),
        ({"files": [FILE | {"size": "1"}]}, "files.0.size: "),
        ({"files": [FILE | {"size": 1.5}]}, "files.0.size: "),
        ({"files": [FILE | {"MD5checksum": "0" * 31}]}, "files.0.MD5checksum: "),
        ({"files": [FILE, {"key": "b", "size": 1}]}, "files.1.MD5checksum: "),
    ],
)
def test_a_field_that_makes_no_sense_is_named(
    inventories: Inventories, read: Read, fields: dict[str, Any], match: str
) -> None:
    refused(lambda: read(inventories.write("CSV", **fields)), match)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"sourceBucket": "\\ud800"}', b"<xml/>"]
)
def test_what_is_no_manifest_is_refused(inventories: Inventories, read: Read, text: bytes) -> None:
    uri = inventories.write_manifest("manifest.json", text)
    refused(lambda: read(uri), "is not an inventory's manifest")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["files", "key", "size"]), inner),
        max_leaves=5,
    ),
    st.sampled_from(["sourceBucket", "destinationBucket", "fileFormat", "fileSchema", "files"]),
)
def test_whatever_a_field_says_the_manifest_is_read_or_refused(
    inventories: Inventories, read: Read, value: Any, field: str
) -> None:
    manifest = {
        "sourceBucket": inventories.source,
        "destinationBucket": inventories.destination,
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key",
        "files": [FILE],
        field: value,
    }
    uri = inventories.write_manifest("manifest.json", json.dumps(manifest).encode())
    with suppress(KeyholeError):
        assert read(uri).digest


def test_a_manifest_is_no_longer_than_its_limit(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.put("manifest.json", b" " * (MAX_MANIFEST_BYTES + 1))
    uri = S3Uri(BUCKET, "manifest.json")
    refused(lambda: read_manifest(scripted_access.client, uri, "images", counting()), "the limit is 16777216")
    assert scripted.bytes_sent <= MAX_MANIFEST_BYTES


def test_a_manifest_is_asked_for_again_while_it_may_pass_and_every_request_counted(
    scripted: ScriptedS3, scripted_access: S3Access
) -> None:
    scripted.script(then=refuse(503, "SlowDown"))
    meter = counting()
    with pytest.raises(TransientError, match=r"s3://bucket/manifest\.json: the server asks to slow down"):
        read_manifest(scripted_access.client, S3Uri(BUCKET, "manifest.json"), "images", meter)
    assert meter.requests == len(scripted.requests) == RETRY_ATTEMPTS
