"""The cost of a scan, counted at the server."""

import pytest

from keyhole.api import scan_s3
from keyhole.builders import Image
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.examples import EXAMPLES
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

SIZE = 10 << 30
#: The front, the end, and the part between them.
MOST_GETS = 4

#: Example images, and the number of stored blocks.
CASES = [
    *((name, 300) for name in ("qcow2", "qcow2, version 2", "vmdk sparse", "vmdk stream", "vdi")),
    *((name, 30) for name in ("vhd dynamic", "vhdx")),
    *((name, 0) for name in ("qcow2", "vhd fixed", "vhd fixed, with a disk", "gpt", "mbr")),
]


@pytest.fixture(params=CASES, ids=str)
def image(request: pytest.FixtureRequest) -> Image:
    """The image of each builder in turn."""
    name, stored = request.param
    return EXAMPLES[name].build(SIZE, stored)


@pytest.fixture
def report(scripted: ScriptedS3, scripted_access: S3Access, image: Image) -> Report:
    """The report on that image."""
    scripted.put("image", image, version_id="v1")
    return scan_s3(scripted_access, BUCKET, "image", None, ScanSettings())


def test_a_whole_image_is_safe_and_its_size_known(report: Report) -> None:
    assert (report.status, report.virtual_size) == (Status.SAFE, SIZE)


def test_a_scan_takes_at_most_four_gets_and_says_so(scripted: ScriptedS3, report: Report) -> None:
    assert [request.method for request in scripted.requests] == ["GET"] * report.requests
    assert report.requests <= MOST_GETS


def test_the_bytes_that_were_sent_are_the_bytes_that_the_report_states(
    scripted: ScriptedS3, report: Report
) -> None:
    assert report.bytes_read == scripted.bytes_sent


def test_every_get_after_the_first_is_pinned(scripted: ScriptedS3, report: Report) -> None:
    first, *later = scripted.requests
    assert (first.if_match, first.version_id) == (None, None)
    assert {(request.if_match, request.version_id) for request in later} <= {(report.etag, "v1")}


def test_what_is_no_image_takes_as_few_gets(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.put("image", Image(SIZE))
    scan_s3(scripted_access, BUCKET, "image", None, ScanSettings())
    assert len(scripted.requests) <= MOST_GETS
