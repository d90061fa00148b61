"""Files and streams: the same image gets the same verdict, however it is read."""

import io
import os
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from keyhole.api import inspect_stream, scan_path
from keyhole.builders import (
    Image,
    gpt_disk,
    mbr_disk,
    qcow2,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.reasons import Status
from keyhole.scan.scanner import MAX_STARTS
from keyhole.scan.settings import ScanSettings

SIZE = 16 << 20

IMAGES = {
    "qcow2": qcow2(SIZE, allocated=5),
    "qcow2 version 2": qcow2(SIZE, version=2, allocated=5),
    "vhd dynamic": vhd_dynamic(SIZE, allocated=2),
    "vhd fixed": vhd_fixed(SIZE),
    "vhd fixed with a disk": vhd_fixed(SIZE, content=gpt_disk(SIZE)),
    "vhdx": vhdx(SIZE, block_size=1 << 20, allocated=2),
    "vmdk sparse": vmdk_sparse(SIZE, allocated=5),
    "vmdk streamOptimized": vmdk_stream_optimized(SIZE, allocated=5),
    "vdi": vdi(SIZE, allocated=5),
    "gpt": gpt_disk(SIZE),
    "mbr": mbr_disk(SIZE),
}


class Pipe:
    """A file object that supports only reading."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> Image:
    """A whole image of every format in turn."""
    return IMAGES[request.param]


def test_a_whole_image_is_safe_as_a_file(image: Image, tmp_path: Path) -> None:
    report = scan_path(image.write_to(tmp_path / "image"), ScanSettings())
    assert (report.status, report.virtual_size, report.size) == (Status.SAFE, SIZE, image.size)


def test_a_pipe_has_the_verdict_of_a_file(image: Image) -> None:
    data = image.to_bytes()
    by_range = inspect_stream(io.BytesIO(data))
    streamed = inspect_stream(cast("BinaryIO", Pipe(data)))
    costs = {"requests", "bytes_read", "ranges", "elapsed_ms", "cpu_ms", "scanned_at"}
    assert streamed.model_dump(exclude=costs) == by_range.model_dump(exclude=costs)


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = gpt_disk(4 << 20).write_to(tmp_path / "disk.raw")
    report = scan_path(path, ScanSettings())
    assert (report.target, report.bucket, report.etag) == (str(path), None, None)
    assert report.last_modified


def test_an_empty_file_is_unrecognized(tmp_path: Path) -> None:
    report = scan_path(Image(0).write_to(tmp_path / "empty"), ScanSettings())
    assert (report.status, report.reasons) == (Status.UNRECOGNIZED, ("empty",))


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "not_found"), ("", "unreadable_file"), ("fifo", "unreadable_file")]
)
def test_what_is_no_file_is_unreadable(tmp_path: Path, name: str, reason: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    report = scan_path(tmp_path / name, ScanSettings())
    assert (report.status, report.reasons) == (Status.UNREADABLE, (reason,))


class Shrinking(io.BytesIO):
    """A file that loses its last byte when its end has been looked for this many times."""

    def __init__(self, data: bytes, times: int) -> None:
        super().__init__(data)
        self.times = times

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        position = super().seek(offset, whence)
        if whence == os.SEEK_END and self.times:
            self.times -= 1
            self.truncate(position - 1)
        return position


def test_a_file_that_shrinks_under_every_scan_is_inconclusive() -> None:
    report = inspect_stream(Shrinking(gpt_disk(4 << 20).to_bytes(), times=MAX_STARTS))
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("object_changed",))


def test_a_file_that_shrinks_once_is_scanned_anew() -> None:
    disk = gpt_disk(4 << 20)
    report = inspect_stream(Shrinking(disk.to_bytes() + b"\0", times=1))
    assert (report.status, report.size) == (Status.SAFE, disk.size)


def test_a_name_that_is_no_utf_8_can_be_reported(tmp_path: Path) -> None:
    report = scan_path(tmp_path / os.fsdecode(b"\xff"), ScanSettings())
    assert report.status is Status.UNREADABLE
    assert report.target.endswith("\\xff")
