"""The verdicts on appliances and their costs: chunks, compressed disks, folders, files of the host."""

import gzip
from pathlib import Path

import pytest

from keyhole.api import scan_s3
from keyhole.builders import Image, gpt_disk, tar
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import load_policy
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import open_local
from keyhole.sources.s3_access import S3Access
from tests.inspectors.archives.appliances.building import (
    DISK,
    DISK_NAME,
    HARD_DISK,
    appliance,
    chunked,
    chunks,
    descriptor,
    plain,
)
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

KIB, MIB, GIB = 1024, 1024**2, 1024**3
CHUNK = 20_000


def scanned(image: Image, folder: Path, policy: str = "default") -> Report:
    path = image.write_to(folder / "a.ova")
    settings = ScanSettings(policy=load_policy(policy))
    return scan(Target("a.ova"), lambda meter: open_local(path, meter), settings)


def in_chunks(disk: Image, size: int) -> Image:
    text = descriptor(
        file=chunked(size=disk.size, chunk=size),
        disk='<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1"/>',
    )
    return appliance(text, *chunks(disk, size))


@pytest.mark.parametrize("policy", ["default", "aws-vm-import"])
def test_a_disk_in_chunks_is_safe(tmp_path: Path, policy: str) -> None:
    report = scanned(appliance(descriptor(file=chunked(chunk=CHUNK)), *chunks(DISK, CHUNK)), tmp_path, policy)
    assert (report.status, report.format, report.virtual_size) == (Status.SAFE, "ova", 2 * GIB)
    (disk,) = report.members
    assert (disk.status, disk.format, disk.details["name"]) == (Status.SAFE, "vmdk", DISK_NAME)


def test_a_disk_in_chunks_that_is_cut_is_damaged(tmp_path: Path) -> None:
    parts = chunks(DISK, CHUNK)[:-1]
    stated = descriptor(file=chunked(chunk=CHUNK))
    report = scanned(appliance(stated, *parts), tmp_path)
    assert (report.status, report.reasons[0]) == (Status.DAMAGED, "ovf_reference")
    unstated = descriptor(file=chunked(chunk=CHUNK, size=None))
    assert scanned(appliance(unstated, *parts), tmp_path).status is Status.DAMAGED


def test_a_compressed_disk_is_safe_where_it_is_declared(tmp_path: Path) -> None:
    packed = plain(gzip.compress(DISK.to_bytes()))
    stated = f'<File ovf:href="{DISK_NAME}" ovf:id="file1" ovf:size="{packed.size}" ovf:compression="gzip"/>'
    image = appliance(descriptor(file=stated), (DISK_NAME, packed))
    assert scanned(image, tmp_path).status is Status.SAFE
    undeclared = stated.replace(' ovf:compression="gzip"', "")
    image = appliance(descriptor(file=undeclared), (DISK_NAME, packed))
    assert scanned(image, tmp_path).reasons == ("format_mismatch",)


def test_an_encoding_that_is_not_supported_is_rejected(tmp_path: Path) -> None:
    report = scanned(appliance(descriptor().replace("UTF-8", "klingon")), tmp_path)
    assert (report.status, report.reasons) == (Status.REJECTED, ("unsupported_subformat",))


def test_a_device_of_the_host_is_unsafe(tmp_path: Path) -> None:
    hostile = descriptor(HARD_DISK.replace("ovf:/disk/vmdisk1", "/dev/sda"))
    for image in (
        appliance(hostile),
        appliance(hostile, (f"vm/{DISK_NAME}", DISK), name="vm/box.ovf"),
        tar([(DISK_NAME, DISK), ("doc/box.ovf", plain(hostile))]),
    ):
        report = scanned(image, tmp_path)
        assert (report.status, report.reasons) == (Status.UNSAFE, ("ovf_reference",))


@pytest.mark.parametrize(("count", "gets"), [(2, 6), (16, 21)])
def test_each_chunk_costs_a_get_as_a_file_of_its_own_does(
    scripted: ScriptedS3, scripted_access: S3Access, count: int, gets: int
) -> None:
    """A chunk's header is read in place. The disk in the chunks costs as much as one that is stored whole."""
    image = in_chunks(gpt_disk(10 * GIB), 10 * GIB // count)
    scripted.put("a.ova", image, version_id="v1")
    report = scan_s3(scripted_access, BUCKET, "a.ova", None, ScanSettings())
    assert (report.status, [one.virtual_size for one in report.members]) == (Status.SAFE, [10 * GIB])
    assert report.requests == len(scripted.requests) == gets
    assert report.bytes_read <= gets * ScanSettings().head_bytes
