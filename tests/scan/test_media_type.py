"""Objects that are not disk images are `unrecognized`, with a reason, and with their type if known."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.inspectors import Inspection
from keyhole.reasons import Status
from keyhole.scan.media_type import media_type
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import load_policy
from keyhole.scan.scanner import scan, scan_stream
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import FileSource

PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 40
RANDOM = random.Random(7).randbytes(3000)  # noqa: S311 - the same in every run


def scanned(content: bytes | Image) -> Report:
    """Scan a file, and return the verdict."""
    data = content if isinstance(content, bytes) else content.to_bytes()
    return scan(Target("x"), lambda meter: FileSource(io.BytesIO(data), meter), ScanSettings())


@pytest.mark.parametrize(
    ("content", "reason", "kind"),
    [
        (b"", "empty", None),
        (b"x", "not_an_image", "text/plain"),
        (b"\x01", "no_known_format", None),
        (bytes(1), "zeros", None),
        (bytes(3 * 1024**2), "zeros", None),
        (b"Nothing to see here.\n" * 500, "not_an_image", "text/plain"),
        ("Straße, größer, schöner\n".encode() * 900, "not_an_image", "text/plain"),
        (PDF, "not_an_image", "application/pdf"),
        (PDF * 400, "not_an_image", "application/pdf"),
        (RANDOM, "no_known_format", None),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not_an_image", "image/png"),
        (b"<!DOCTYPE html><html><body>403</body></html>", "not_an_image", "text/html"),
    ],
)
def test_it_is_named_as_what_it_is(content: bytes, reason: str, kind: str | None) -> None:
    report = scanned(content)

    assert (report.status, report.reasons) == (Status.UNRECOGNIZED, (reason,))
    assert report.details.get("mime_type") == kind
    assert report.format is None


def test_a_stream_is_named_as_a_file_is() -> None:
    report = scan_stream(Target("-"), [PDF[:5], PDF[5:]], load_policy("default"))

    assert (report.reasons, report.details) == (("not_an_image",), {"mime_type": "application/pdf"})


def test_zeros_are_zeros_as_far_as_they_are_seen() -> None:
    """A disk of zeros has no partition table, so no machine can boot from it."""
    assert scanned(bytes(64 * 1024) + b"x" + bytes(1000)).reasons == ("no_known_format",)


def test_of_an_image_nothing_is_told() -> None:
    inspection = Inspection()
    inspection.feed(0, b"QFI\xfb\0\0\0\3")
    inspection.finish(8)

    assert inspection.facts().first_bytes == b""


@given(st.binary(max_size=5000))
def test_naming_never_fails(front: bytes) -> None:
    media_type(front)
