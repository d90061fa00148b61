"""Volumes state the length of the files that tools make, and a volume can be a whole raw disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.api import scan_path
from keyhole.inspectors import Wholeness
from keyhole.inspectors.volumes.lengths import STATED as TYPES
from keyhole.inspectors.volumes.lengths import stated_length
from keyhole.scan.settings import ScanSettings
from tests.inspectors.volumes.conftest import KINDS, Volumes
from tests.inspectors.volumes.made import MADE
from tests.inspectors.volumes.views import BytesView
from tests.tools import run

#: The maximum number of bytes in the file after the stated end of the volume.
BEYOND = {
    "squashfs": 4096,
    "romfs": 1024,
    "hfsplus in a wrapper": 64 * 1024,
    "raid 0.90 <": 64 * 1024,
    "raid 0.90 >": 64 * 1024,
    "raid 1.0": 8192,
    "raid 1.1": 8192,
    "raid 1.2": 8192,
}
#: Volumes made by tools. Volumes without a tool are built from their specifications.
BUILT = (
    "hfsplus",
    "hfsx",
    "befs <",
    "befs >",
    "lvm2 in sector 0",
    "lvm2 in sector 3",
    "zfs",
    "ceph_bluestore",
)
STATED = [made.name for made in MADE if made.kind in TYPES and made.name != "bcache's backing device"]
STATED += [*BUILT, *(name for name in BEYOND if name in KINDS and name not in STATED)]
#: Volumes whose superblock at the end states its own offset. If they are cut, they are not recognised.
AT_END = ("raid 0.90 <", "raid 0.90 >", "raid 1.0", "drbd 8", "drbd 9")


@pytest.mark.parametrize("name", STATED)
def test_a_volume_is_as_long_as_its_tool_made_it(volumes: Volumes, name: str) -> None:
    path = volumes.path(name)

    report = scan_path(path, ScanSettings())

    assert report.content == (KINDS[name],)
    length = report.details["volume_length"]
    assert isinstance(length, int)
    size = path.stat().st_size
    assert size - BEYOND.get(name, 0) <= length <= size
    assert (report.format, report.wholeness, report.findings) == ("raw", Wholeness.PROVEN, ())
    assert report.status == "safe"


@pytest.mark.parametrize("name", [name for name in STATED if name not in AT_END])
@pytest.mark.parametrize(
    "missing", [512, pytest.param(1, marks=pytest.mark.slow), pytest.param(4096, marks=pytest.mark.slow)]
)
def test_cut_short_it_is_not_whole(volumes: Volumes, tmp_path: Path, name: str, missing: int) -> None:
    path = volumes.path(name)
    length = scan_path(path, ScanSettings()).details["volume_length"]
    assert isinstance(length, int)
    cut = tmp_path / "cut.img"
    run(f"cp --sparse=always {path} {cut}", tmp_path)
    with cut.open("r+b") as file:
        file.truncate(length - missing)

    report = scan_path(cut, ScanSettings())

    assert (report.status, report.reasons) == ("damaged", ("truncated",))
    assert report.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("name", AT_END)
def test_one_that_is_known_by_its_end_is_no_such_member_without_it(
    volumes: Volumes, tmp_path: Path, name: str
) -> None:
    cut = tmp_path / "cut.img"
    run(f"cp --sparse=always {volumes.path(name)} {cut}", tmp_path)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size - 64 * 1024)
    assert scan_path(cut, ScanSettings()).status == "unrecognized"


@pytest.mark.parametrize("name", ["gfs2", "zonefs", "bitlocker of Windows 7", "bcache's backing device"])
def test_what_states_no_length_is_not_known_to_be_whole(volumes: Volumes, name: str) -> None:
    report = scan_path(volumes.path(name), ScanSettings())
    assert (report.status, report.reasons) == ("inconclusive", ("wholeness_unchecked",))


@given(name=st.sampled_from(sorted(TYPES)), front=st.binary(max_size=8192))
def test_no_bytes_make_it_fail(name: str, front: bytes) -> None:
    length = stated_length(name, BytesView(front, None))
    assert length is None or length > 0
