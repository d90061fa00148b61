"""The demo's samples in a real S3: the verdicts of local files, in the same number of requests."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyhole.api import scan_path, scan_s3
from keyhole.demo.samples import SAMPLES, Sample
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3 import S3Access
from keyhole.sources.s3_obstore import can_name
from tests.servers.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

#: The fields of a report about the place and the time, not about the image.
WHERE_AND_WHEN = {
    *("target", "bucket", "key", "version_id", "etag", "last_modified"),
    *("requests", "elapsed_ms", "cpu_ms", "scanned_at"),
}
#: An object without a byte has no range to ask for: obstore's try, boto3's, and one without a range.
REQUESTS_FOR_NOTHING = 3


def what(report: Report) -> dict[str, object]:
    """What a report says of the object, and of what lies in it."""
    return report.model_dump(exclude=WHERE_AND_WHEN) | {"members": [what(one) for one in report.members]}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.key for sample in SAMPLES])
def test_a_sample_is_what_it_is_as_a_file(
    sample: Sample, s3: "S3Client", bucket: str, access: S3Access, recorded: RecordingProxy, tmp_path: Path
) -> None:
    # Given an image as an object and as a file
    image = sample.build()
    s3.put_object(Bucket=bucket, Key=sample.key, Body=image.to_bytes())
    file = image.write_to(tmp_path / "image")
    # When both are scanned
    report = scan_s3(access, bucket, sample.key, None, ScanSettings())
    local = scan_path(file, ScanSettings())
    # Then the object's verdict is the file's
    assert report.status is sample.verdict
    assert what(report) == what(local)
    # And the server was asked as often as the report says, and by obstore alone where it can name the key
    assert report.requests == len(recorded.requests)
    assert report.requests == (local.requests if image.size else REQUESTS_FOR_NOTHING)
    agents = {request.headers["user-agent"].split("/")[0] for request in recorded.requests}
    if image.size:
        assert agents == ({"keyhole"} if can_name(sample.key) else {"Boto3"})
    # The server's memory is this machine's.
    s3.delete_object(Bucket=bucket, Key=sample.key)
