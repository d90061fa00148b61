"""Declarations about an object, compared with its content.

An object that is falsely declared raw is dangerous.
"""

from typing import TYPE_CHECKING

import pytest

from keyhole.api import scan_s3
from keyhole.builders import Image, gpt_disk, iso, qcow2, vmdk_sparse
from keyhole.inspectors import Facts, Severity
from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.facts import Member
from keyhole.reasons import Status
from keyhole.scan.declared import Declared, compare
from keyhole.scan.settings import ScanSettings
from tests.inspectors.inspecting import facts_of
from tests.servers.access import s3_access

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB, GIB = 1024**2, 1024**3


def severities(declared: Declared, image_format: str | None) -> list[Severity]:
    facts = Facts(image_format, None, GIB, GIB, ())
    return [finding.severity for finding in compare(declared, facts)]


@pytest.mark.parametrize("name", ["raw", "RAW", "ami", " raw "])
@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "qed", "vhdx"])
def test_a_declared_raw_that_is_structured_is_critical(name: str, image_format: str) -> None:
    declared = Declared("disk.img", metadata=(("disk_format", name),))
    assert severities(declared, image_format) == [Severity.CRITICAL]


@pytest.mark.parametrize(
    "declared",
    [
        Declared(metadata=(("disk_format", "qcow2"),)),
        Declared(metadata=(("Disk-Format", "qcow2"),)),
        Declared(content_type="application/x-qemu-disk"),
        Declared(content_type="Application/X-Qemu-Disk; v=3"),
    ],
)
def test_another_contradiction_is_a_warning(declared: Declared) -> None:
    assert severities(declared, "vmdk") == [Severity.WARNING]
    assert severities(declared, "qcow2") == []


def test_a_wrong_suffix_alone_is_information() -> None:
    assert severities(Declared("disk.vmdk"), "qcow2") == [Severity.INFO]
    assert severities(Declared("disk.QCOW2"), "qcow2") == []
    assert severities(Declared("disk.img"), "qcow2") == []
    assert severities(Declared("disk"), "qcow2") == []


@pytest.mark.parametrize("content_type", [None, "", "binary/octet-stream", "application/octet-stream", ";"])
def test_a_content_type_that_says_nothing_is_none(content_type: str | None) -> None:
    assert severities(Declared("k", content_type), "qcow2") == []


@pytest.mark.parametrize("name", ["vhd-fixed", "\x1b[2J", "\ud800", "?" * 2000])
def test_a_name_that_nobody_knows_contradicts_whatever_the_object_is(name: str) -> None:
    facts = Facts("qcow2", None, GIB, GIB, ())
    (finding,) = compare(Declared(metadata=(("disk_format", name),)), facts)
    assert finding.severity is Severity.WARNING
    assert finding.message.isprintable()
    assert len(finding.message) < 200


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_none(name: str) -> None:
    assert severities(Declared(metadata=(("disk_format", name),)), "qcow2") == []


@pytest.mark.parametrize("name", NAMES)
def test_every_format_may_be_declared_by_its_own_name(name: str) -> None:
    assert severities(Declared(f"disk.{name}", metadata=(("disk_format", name),)), name) == []


def test_a_content_type_may_be_a_familys() -> None:
    assert severities(Declared(content_type="application/x-qemu-disk"), "qcow") == []
    assert severities(Declared(content_type="application/x-apple-diskimage"), "sparseimage") == []
    assert severities(Declared(metadata=(("disk_format", "qcow2"),)), "qcow") == [Severity.WARNING]


def test_a_name_without_a_suffix_is_none() -> None:
    assert severities(Declared("raw"), "qcow2") == []


def test_a_disc_may_be_called_raw_and_nothing_is_said_of_what_is_not_known() -> None:
    assert severities(Declared(metadata=(("disk_format", "raw"),)), "iso") == []
    assert severities(Declared(metadata=(("disk_format", "qcow2"),)), None) == []


@pytest.mark.parametrize(
    ("image", "stored", "status", "reasons"),
    [
        (qcow2(GIB), {"Metadata": {"disk_format": "raw"}}, Status.UNSAFE, ("format_mismatch",)),
        (
            vmdk_sparse(GIB),
            {"ContentType": "application/x-raw-disk-image"},
            Status.UNSAFE,
            ("format_mismatch",),
        ),
        (qcow2(GIB), {"Metadata": {"disk_format": "vmdk"}}, Status.REJECTED, ("format_mismatch",)),
        (qcow2(GIB), {"Metadata": {"disk_format": "qcow2"}}, Status.SAFE, ()),
        (gpt_disk(4 * MIB), {"Metadata": {"disk_format": "raw"}}, Status.SAFE, ()),
        (iso(), {"ContentType": "application/x-iso9660-image"}, Status.SAFE, ()),
    ],
)
@pytest.mark.parametrize("key", ["read by obstore", "/read by boto3"])
def test_what_s3_says_of_an_object_is_compared(
    s3: "S3Client",
    bucket: str,
    moto_url: str,
    key: str,
    image: Image,
    stored: dict[str, object],
    status: Status,
    reasons: tuple[str, ...],
) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=image.to_bytes(), **stored)
    with s3_access(moto_url) as access:
        report = scan_s3(access, bucket, key, None, ScanSettings())
    assert (report.status, report.reasons) == (status, reasons)


def packed(image_format: str, content: str) -> Facts:
    inside = Facts(content, None, GIB, GIB, ())
    return Facts(image_format, None, GIB, GIB, (), members=(Member("content", None, GIB, inside),))


@pytest.mark.parametrize(
    ("image_format", "content_type"),
    [
        ("gzip", "application/gzip"),
        ("gzip", "application/x-gzip"),
        ("xz", "application/x-xz"),
        ("zstd", "application/zstd"),
        ("bzip2", "application/x-bzip2"),
    ],
)
def test_what_is_compressed_may_be_declared_so_or_as_what_it_holds(
    image_format: str, content_type: str
) -> None:
    """Uploaders derive the content type of `disk.vmdk.gz` from the suffix before `.gz`."""
    facts = packed(image_format, "vmdk")
    for said in (content_type, "application/x-vmdk"):
        assert list(compare(Declared(content_type=said), facts)) == []
    (finding,) = compare(Declared(content_type="application/x-qemu-disk"), facts)
    assert finding.severity is Severity.WARNING


def test_an_archive_that_is_compressed_may_be_declared_an_archive() -> None:
    assert list(compare(Declared(content_type="application/x-tar"), packed("gzip", "tar"))) == []
    assert severities(Declared(content_type="application/x-tar"), "ova") == []


def test_compressed_bytes_are_no_raw_disk_whatever_they_hold() -> None:
    (finding,) = compare(Declared(metadata=(("disk_format", "raw"),)), packed("gzip", "raw"))
    assert finding.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("suffix", "image_format"),
    [("gz", "gzip"), ("tgz", "gzip"), ("xz", "xz"), ("zst", "zstd"), ("bz2", "bzip2")],
)
def test_the_suffixes_of_compressed_files_are_known(suffix: str, image_format: str) -> None:
    assert severities(Declared(f"disk.raw.{suffix}"), image_format) == []
    assert severities(Declared(f"disk.raw.{suffix}"), "qcow2") == [Severity.INFO]


# Content encoding


def nested(*formats: str) -> Facts:
    """An object of these formats, from the outermost to the innermost."""
    inside: Facts | None = None
    for name in reversed(formats):
        members = () if inside is None else (Member("content", None, None, inside),)
        inside = Facts(name, None, GIB, GIB, (), members=members)
    assert inside is not None
    return inside


@pytest.mark.parametrize(
    ("encoding", "formats"),
    [
        ("gzip", ("gzip", "raw")),
        ("GZIP", ("gzip", "qcow2")),
        ("x-gzip", ("gzip", "tar", "raw")),
        ("aws-chunked", ("qcow2",)),
        ("aws-chunked,gzip", ("gzip", "raw")),
        ("gzip, aws-chunked", ("gzip", "raw")),
        ("gzip, gzip", ("gzip", "gzip", "raw")),
        ("zstd, gzip", ("gzip", "zstd", "raw")),
        ("identity", ("qcow2",)),
        ("utf-8", ("qcow2",)),
        ("", ("qcow2",)),
        (None, ("gzip", "raw")),
    ],
)
def test_a_content_encoding_that_holds_or_says_nothing_is_passed_over(
    encoding: str | None, formats: tuple[str, ...]
) -> None:
    assert [*compare(Declared("k", content_encoding=encoding), nested(*formats))] == []


@pytest.mark.parametrize(
    ("encoding", "formats"),
    [
        ("gzip", ("qcow2",)),
        ("gzip", ("zstd", "raw")),
        ("br", ("qcow2",)),
        ("deflate", ("raw",)),
        ("gzip, gzip", ("gzip", "raw")),
        ("gzip, zstd", ("gzip", "zstd", "raw")),
    ],
)
def test_one_that_does_not_hold_is_a_warning(encoding: str, formats: tuple[str, ...]) -> None:
    """A client that decodes it fails, or gets content that Keyhole has not inspected."""
    declared = Declared("k", content_encoding=encoding)
    assert [(one.check, one.severity) for one in compare(declared, nested(*formats))] == [
        ("format_mismatch", Severity.WARNING)
    ]


def test_what_is_not_recognised_contradicts_no_encoding() -> None:
    assert [*compare(Declared("k", content_encoding="gzip"), Facts(None, None, None, 9, ()))] == []


@pytest.mark.parametrize("key", ["read by obstore", "/read by boto3"])
def test_a_content_encoding_is_read_from_s3(moto_url: str, s3: "S3Client", bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=qcow2(MIB).to_bytes(), ContentEncoding="gzip")
    with s3_access(moto_url) as access:
        report = scan_s3(access, bucket, key, None, ScanSettings())
    assert (report.status, report.reasons) == (Status.REJECTED, ("format_mismatch",))
    assert "content encoding says gzip" in report.findings[0].message


@pytest.mark.parametrize(
    ("key", "told"),
    [("a/sample.vmdk", []), ("a/b.vmdk", ["extent_path"]), ("b", ["extent_path"]), (None, [])],
)
def test_another_name_in_a_sparse_vmdk_is_information(key: str | None, told: list[str]) -> None:
    findings = list(compare(Declared(key), facts_of(vmdk_sparse(GIB))))
    assert [finding.check for finding in findings] == told
    assert all(finding.severity is Severity.INFO for finding in findings)
