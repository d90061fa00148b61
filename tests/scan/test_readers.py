"""Readers: a policy judges a disk by the size that its importer's programs use."""

from math import prod
from pathlib import Path

import pytest

from keyhole.builders import (
    Image,
    OVADisk,
    ova,
    ovf,
    vhd_dynamic,
    vhd_fixed,
    vhd_geometry,
    vmdk_stream_optimized,
)
from keyhole.inspectors import Severity
from keyhole.reasons import Status
from keyhole.scan.profile_names import PROFILES
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import load_policy
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import open_local
from keyhole.toml_files import FileError
from tests.inspectors.formats.vhds import with_footer

MIB, GIB = 1024**2, 1024**3
SIZE = 20 * GIB
GEOMETRY = prod(vhd_geometry(SIZE // 512)) * 512
#: Creator codes that QEMU up to 9.2 does not know.
UNKNOWN = [b"dutl", b"vbox", b"xo  ", b"caml", b"86Bx"]


def judged(folder: Path, image: Image, policy: str) -> Report:
    path = image.write_to(folder / "image")
    return scan(
        Target("image"), lambda meter: open_local(path, meter), ScanSettings(policy=load_policy(policy))
    )


def appliance(disk: Image, capacity: int) -> Image:
    disks = [OVADisk("disk.vhd", disk, capacity)]
    return ova(disks, descriptor=ovf(disks).replace("vmdk.html#streamOptimized", "vhd"))


def far(creator: bytes, size: int = GIB) -> Image:
    """A disk whose geometry is far below its size."""
    return with_footer(vhd_dynamic(size, creator=creator), 56, bytes([1, 0, 16, 63]))


@pytest.mark.parametrize("creator", UNKNOWN)
@pytest.mark.parametrize(
    ("profile", "size"),
    [("default", SIZE), ("aws-vm-import", SIZE), ("openstack", GEOMETRY), ("kubevirt", GEOMETRY)],
)
def test_the_virtual_size_is_what_the_policys_reader_takes(
    tmp_path: Path, creator: bytes, profile: str, size: int
) -> None:
    report = judged(tmp_path, vhd_dynamic(SIZE, creator=creator, allocated=2), profile)
    assert (report.status, report.virtual_size, report.findings) == (Status.SAFE, size, ())
    assert (report.details["current_size"], report.details["geometry_size"]) == (SIZE, GEOMETRY)


@pytest.mark.parametrize("creator", [*UNKNOWN, b"win ", b"wa\0\0", b"vpc ", b"qemu"])
def test_azure_counts_the_current_size_of_every_creator(tmp_path: Path, creator: bytes) -> None:
    report = judged(tmp_path, vhd_fixed(513 * MIB, creator=creator), "azure")
    assert (report.status, report.virtual_size) == (Status.SAFE, 513 * MIB)
    odd = judged(tmp_path, vhd_fixed(513 * MIB + 512, creator=creator), "azure")
    assert odd.reasons == ("virtual_size_multiple",)


@pytest.mark.parametrize("capacity", [SIZE, GEOMETRY])
@pytest.mark.parametrize("creator", [*UNKNOWN, b"vpc "])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_capacity_agrees_with_either_size_of_a_good_disk(
    tmp_path: Path, capacity: int, creator: bytes, profile: str
) -> None:
    report = judged(tmp_path, appliance(vhd_dynamic(SIZE, creator=creator, allocated=2), capacity), profile)
    assert "size_mismatch" not in {one.check for one in report.findings}


def test_a_capacity_that_no_reader_sees_is_a_contradiction(tmp_path: Path) -> None:
    report = judged(tmp_path, appliance(vhd_dynamic(SIZE, creator=b"vbox"), SIZE + MIB), "default")
    assert (report.status, report.reasons) == (Status.DAMAGED, ("size_mismatch",))


@pytest.mark.parametrize(
    ("creator", "concerned"),
    [
        (b"vbox", {"default", "openstack", "kubevirt"}),
        (b"vpc ", {"default", "openstack", "kubevirt"}),
        (b"win ", set()),
    ],
)
@pytest.mark.parametrize("profile", ["default", "openstack", "aws-vm-import", "kubevirt"])
def test_a_geometry_far_off_matters_to_policies_with_a_reader_that_goes_by_it(
    tmp_path: Path, creator: bytes, concerned: set[str], profile: str
) -> None:
    report = judged(tmp_path, far(creator), profile)
    assert report.reasons == (("size_mismatch",) if profile in concerned else ())
    # Findings that concern no reader of the policy are still reported.
    told = [one.severity for one in report.findings if one.check == "size_mismatch"]
    severity = Severity.ERROR if profile in concerned else Severity.INFO
    assert told == ([] if creator == b"win " else [severity])


def test_a_capacity_by_the_wrong_size_matters_to_the_readers_of_the_other(tmp_path: Path) -> None:
    by_geometry = appliance(far(b"vbox"), 256 * 16 * 63 * 512)
    assert judged(tmp_path, by_geometry, "aws-vm-import").reasons == ("size_mismatch",)
    by_size = appliance(far(b"vbox"), GIB)
    assert judged(tmp_path, by_size, "aws-vm-import").status is Status.SAFE


def test_the_sizes_of_an_archives_disks_add_up_for_each_reader(tmp_path: Path) -> None:
    disk = OVADisk("disk1.vmdk", vmdk_stream_optimized(2 * GIB, allocated=3), 2 * GIB)
    disks = [disk, OVADisk("disk.vhd", vhd_dynamic(SIZE, creator=b"vbox"), SIZE)]
    image = ova(disks, descriptor=ovf(disks).replace("vmdk.html#streamOptimized", "any"))
    assert judged(tmp_path, image, "default").virtual_size == 2 * GIB + SIZE
    assert judged(tmp_path, image, "openstack").virtual_size == 2 * GIB + GEOMETRY


def test_a_rule_names_its_readers(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rules]]\nreaders = ["qemu-9"]\n')
    assert judged(tmp_path, vhd_dynamic(SIZE, creator=b"dutl"), str(policy)).virtual_size == GEOMETRY
    policy.write_text('[[rules]]\nreaders = ["qemu"]\n')
    with pytest.raises(FileError, match=r"rules\[0\].readers\[0\]: 'qemu' is not a reader"):
        load_policy(str(policy))
    policy.write_text("[[rules]]\nreaders = []\n")
    with pytest.raises(FileError, match=r"rules\[0\].readers"):
        load_policy(str(policy))
