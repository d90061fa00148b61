"""The cost of scanning the other formats, counted at the server: as few requests as for common formats."""

import pytest

from keyhole.api import scan_s3
from keyhole.inspectors import Wholeness
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.examples import EXAMPLES
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

SIZE = 10 << 30
#: An E01 has checksums of all its chunks, which need time to compute.
EWF_SIZE = 256 << 20

NAMES = [
    *("qcow", "qcow, compressed", "qed", "parallels", "parallels, old", "bochs", "cloop", "dmg"),
    *("sparseimage", "asif", "ewf", "luks1", "luks2", "iso", "udf", "iso and udf"),
    *("vmdk text", "cowd", "sesparse"),
]
#: Formats whose end nothing marks, and extents of ESX, which are only a part of a disk.
UNCHECKED = {"asif", "luks1", "luks2", "vmdk text", "cowd", "sesparse"}
MOST_GETS = 4
#: A DMG's property list for 10,240 chunks has 560 KiB.
MOST_BYTES = 1024 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_takes_few_gets_and_bytes_and_says_so(
    scripted: ScriptedS3, scripted_access: S3Access, name: str
) -> None:
    size = EWF_SIZE if name == "ewf" else SIZE
    scripted.put("image", EXAMPLES[name].build(size, 300), version_id="v1")

    report = scan_s3(scripted_access, BUCKET, "image", None, ScanSettings())

    assert report.virtual_size == size
    assert (report.wholeness is Wholeness.UNCHECKED) == (name in UNCHECKED)
    assert [request.method for request in scripted.requests] == ["GET"] * report.requests
    assert report.requests <= MOST_GETS
    assert report.bytes_read == scripted.bytes_sent <= MOST_BYTES
