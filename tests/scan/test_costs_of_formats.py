"""What a scan of the other formats costs, counted at the server: no more requests than for the usual ones."""

from collections.abc import Callable

import pytest

from keyhole.api import scan_s3
from keyhole.builders import (
    Image,
    asif,
    bochs,
    cloop,
    cowd,
    dmg,
    ewf,
    iso,
    luks,
    luks2,
    parallels,
    qcow1,
    qed,
    sesparse,
    sparseimage,
    udf,
    vmdk_flat_descriptor,
)
from keyhole.inspectors import Wholeness
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3 import S3Access
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

SIZE = 10 << 30
#: An E01 has checksums of all its chunks, which take time to make.
EWF_SIZE = 256 << 20
BLOCKS = SIZE // 2048

IMAGES: dict[str, Callable[[], Image]] = {
    "qcow": lambda: qcow1(SIZE, allocated=300),
    "qcow compressed": lambda: qcow1(SIZE, allocated=300, compressed=True),
    "qed": lambda: qed(SIZE, allocated=300),
    "parallels": lambda: parallels(SIZE, allocated=300),
    "parallels, old": lambda: parallels(SIZE, allocated=300, extended=False),
    "bochs": lambda: bochs(SIZE, allocated=300),
    "cloop": lambda: cloop(SIZE, allocated=300),
    "dmg": lambda: dmg(SIZE, allocated=300),
    "sparseimage": lambda: sparseimage(SIZE, allocated=300),
    "asif": lambda: asif(SIZE, allocated=300),
    "ewf": lambda: ewf(EWF_SIZE, allocated=300),
    "luks1": lambda: luks(SIZE),
    "luks2": lambda: luks2(SIZE),
    "iso": lambda: iso(BLOCKS, joliet=True, el_torito=True, rock_ridge=True),
    "udf": lambda: udf(BLOCKS),
    "iso and udf": lambda: iso(BLOCKS, udf=True),
    "vmdk text": lambda: vmdk_flat_descriptor(
        f'version=1\ncreateType="vmfs"\nRW {SIZE // 512} VMFS "disk-flat.vmdk"\n'
    ),
    "vmdk cowd": lambda: cowd(SIZE, allocated=300),
    "vmdk sesparse": lambda: sesparse(SIZE, allocated=300),
}


#: What nothing marks the end of.
UNCHECKED = {"asif", "luks1", "luks2", "vmdk text"}
MOST_GETS = 4
#: A DMG's property list of 10,240 chunks has 560 KiB.
MOST_BYTES = 1024 * 1024


@pytest.mark.parametrize("name", IMAGES)
def test_a_scan_takes_few_gets_and_bytes_and_says_so(
    scripted: ScriptedS3, scripted_access: S3Access, name: str
) -> None:
    scripted.put("image", IMAGES[name](), version_id="v1")

    report = scan_s3(scripted_access, BUCKET, "image", None, ScanSettings())

    assert report.virtual_size == (EWF_SIZE if name == "ewf" else SIZE)
    assert (report.wholeness is Wholeness.UNCHECKED) == (name in UNCHECKED)
    assert [request.method for request in scripted.requests] == ["GET"] * report.requests
    assert report.requests <= MOST_GETS
    assert report.bytes_read == scripted.bytes_sent <= MOST_BYTES
