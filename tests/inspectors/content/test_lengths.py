"""How long a volume is by itself, against the files that tools make; and a raw disk that is one volume."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspectors.content.conftest import KINDS, Volumes
from tests.inspectors.content.made import MADE
from tests.inspectors.content.tools import run
from tests.inspectors.content.views import BytesView
from worker.api import scan_path
from worker.inspectors import Wholeness
from worker.inspectors.content.lengths import _LENGTHS, stated_length
from worker.scan.scanner import ScanSettings

#: Of each, the bytes that the file has beyond what the volume counts.
BEYOND = {"squashfs": 4096}
STATED = [made.name for made in MADE if made.kind in _LENGTHS] + ["hfsplus", "hfsx"]


@pytest.mark.parametrize("name", STATED)
def test_a_volume_is_as_long_as_its_tool_made_it(volumes: Volumes, name: str) -> None:
    path = volumes.path(name)

    report = scan_path(path, ScanSettings())

    assert report.content == (KINDS[name],)
    length = report.details["volume_length"]
    assert isinstance(length, int)
    size = path.stat().st_size
    assert size - BEYOND.get(KINDS[name], 0) <= length <= size
    assert (report.format, report.wholeness, report.findings) == ("raw", Wholeness.PROVEN, ())
    assert report.status == "safe"


@pytest.mark.parametrize("name", [name for name in STATED if KINDS[name] not in {"squashfs", "erofs"}])
def test_cut_short_it_is_not_whole(volumes: Volumes, tmp_path: Path, name: str) -> None:
    cut = tmp_path / "cut.img"
    run(f"cp --sparse=always {volumes.path(name)} {cut}", tmp_path)
    size = cut.stat().st_size
    os.truncate(cut, size - size // 8)

    report = scan_path(cut, ScanSettings())

    assert (report.status, report.reasons) == ("damaged", ("truncated",))
    assert report.wholeness is Wholeness.UNCHECKED


@given(name=st.sampled_from(sorted(_LENGTHS)), front=st.binary(max_size=8192))
def test_no_bytes_make_it_fail(name: str, front: bytes) -> None:
    length = stated_length(name, BytesView(front, None))
    assert length is None or length > 0
