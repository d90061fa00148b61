"""The demo's samples in a real S3 get the same verdicts as local files, with the same number of requests."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyhole.api import scan_path, scan_s3
from keyhole.demo.samples import SAMPLES, Sample
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_obstore import can_name
from tests.servers.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

#: The fields of a report that depend on the place and the time, not on the image.
WHERE_AND_WHEN = {
    *("target", "bucket", "key", "version_id", "etag", "last_modified"),
    *("requests", "ranges", "elapsed_ms", "cpu_ms", "scanned_at"),
}
#: An object of 0 bytes has no valid range: a request with a range, and one without.
REQUESTS_FOR_NOTHING = 2


def what(report: Report) -> dict[str, object]:
    """The report on an object and on its members, without the fields that depend on the place."""
    return report.model_dump(exclude=WHERE_AND_WHEN) | {"members": [what(one) for one in report.members]}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.key for sample in SAMPLES])
def test_a_sample_is_what_it_is_as_a_file(
    sample: Sample, s3: "S3Client", bucket: str, access: S3Access, recorded: RecordingProxy, tmp_path: Path
) -> None:
    # Given an image as an object and as a file
    image = sample.build()
    s3.put_object(Bucket=bucket, Key=sample.key, Body=image.to_bytes())
    file = image.write_to(tmp_path / "image")
    # When Keyhole scans both
    report = scan_s3(access, bucket, sample.key, None, ScanSettings())
    local = scan_path(file, ScanSettings())
    # Then both get the same verdict
    assert report.status is sample.verdict
    assert what(report) == what(local)
    # And the server received as many requests as the report states, from obstore only if it can request the
    # key
    assert report.requests == len(recorded.requests)
    assert report.requests == (local.requests if image.size else REQUESTS_FOR_NOTHING)
    agents = {request.headers["user-agent"].split("/")[0] for request in recorded.requests}
    if image.size:
        assert agents == ({"keyhole"} if can_name(sample.key) else {"Boto3"})
    # Server and tests share this machine's memory.
    s3.delete_object(Bucket=bucket, Key=sample.key)
