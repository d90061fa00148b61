"""The cost of scanning an archive, counted at the server, and the verdict on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyhole.api import scan_s3
from keyhole.builders import (
    Image,
    OVADisk,
    gpt_disk,
    ova,
    ovf,
    qcow2,
    tar,
    vdi,
    vhd_dynamic,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
    zip_archive,
)
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import load_policy
from keyhole.scan.scanner import scan, scan_stream
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import open_local
from keyhole.sources.meter import Budget
from keyhole.sources.s3_access import S3Access
from tests.servers.scripted_s3 import BUCKET, ScriptedS3
from tests.slow import slow

KIB, MIB, GIB = 1024, 1024**2, 1024**3
SIZE = 10 * GIB
AHEAD = 336 * KIB
#: Sparse disks that use about 100 MiB or more in the archive.
DISKS: dict[str, Callable[[], Image]] = {
    "raw": lambda: gpt_disk(SIZE),
    "qcow2": lambda: qcow2(SIZE, allocated=1600),
    "vhd": lambda: vhd_dynamic(SIZE, allocated=200),
    "vhdx": lambda: vhdx(SIZE, allocated=30),
    "vdi": lambda: vdi(SIZE, allocated=200),
    "vmdk": lambda: vmdk_sparse(SIZE, allocated=3000),
    "stream": lambda: vmdk_stream_optimized(SIZE, allocated=300),
}
#: The number of GETs of a scan, by the disks' format and number. The first GET reads the descriptor and the
#: first disk's front; if the disks are short, it also reads the fronts of further disks. A disk's end is read
#: together with the bytes after it.
GETS = {
    ("raw", 1): 3,
    ("raw", 3): 8,
    ("raw", 200): 402,
    ("qcow2", 1): 2,
    ("qcow2", 3): 5,
    ("qcow2", 200): 203,
    ("vhd", 1): 2,
    ("vhd", 3): 5,
    ("vhdx", 1): 4,
    ("vhdx", 3): 11,
    ("vhdx", 200): 603,
    ("vdi", 1): 2,
    ("vdi", 3): 5,
    ("vmdk", 1): 3,
    ("vmdk", 3): 8,
    ("stream", 1): 1,
    ("stream", 3): 2,
    ("stream", 200): 102,
}


def scanned(image: Image, folder: Path, policy: str = "default", name: str = "a.tar") -> Report:
    path = image.write_to(folder / name)
    settings = ScanSettings(policy=load_policy(policy))
    return scan(Target(name), lambda meter: open_local(path, meter), settings)


def machine(disks: int, build: Callable[[], Image]) -> Image:
    """A virtual machine with this many disks."""
    disk = build()
    named = [OVADisk(f"disk{number}", disk, SIZE) for number in range(disks)]
    return ova(named, descriptor=ovf(named).replace("vmdk.html", "other"))


# Costs


@pytest.mark.parametrize(("name", "disks"), [slow(*each) if each[1] == 200 else each for each in GETS])
def test_a_scan_reads_headers_and_what_each_disk_needs_and_nothing_between(
    scripted: ScriptedS3, scripted_access: S3Access, name: str, disks: int
) -> None:
    image = machine(disks, DISKS[name])
    scripted.put("a.ova", image, version_id="v1")

    report = scan_s3(scripted_access, BUCKET, "a.ova", None, ScanSettings())

    assert (report.status, report.format) == (Status.SAFE, "ova")
    assert [member.virtual_size for member in report.members] == [SIZE] * disks
    assert [request.method for request in scripted.requests] == ["GET"] * report.requests
    assert report.requests == GETS[name, disks]
    assert report.bytes_read == scripted.bytes_sent
    # Each GET reads ahead by the same amount, seldom more. A sparse VMDK has two maps of 640 KiB.
    further = 3 if name == "vmdk" else 2
    assert report.bytes_read <= (report.requests + further * disks) * AHEAD


@pytest.mark.parametrize(
    ("name", "disks"), [("raw", 1), ("raw", 3), ("qcow2", 3), slow("qcow2", 200), ("stream", 3)]
)
def test_of_a_zip_it_reads_the_directory_as_well(
    scripted: ScriptedS3, scripted_access: S3Access, name: str, disks: int
) -> None:
    disk = DISKS[name]()
    scripted.put("a", disk)
    scripted.put("a.zip", zip_archive([(f"{number}", disk) for number in range(disks)]))

    alone = scan_s3(scripted_access, BUCKET, "a", None, ScanSettings())
    report = scan_s3(scripted_access, BUCKET, "a.zip", None, ScanSettings())

    assert (report.status, report.format) == (Status.SAFE, "zip")
    assert [member.virtual_size for member in report.members] == [SIZE] * disks
    assert alone.requests + report.requests == len(scripted.requests)
    assert report.requests <= disks * alone.requests + 1


def test_a_zip_takes_two_gets_however_long_it_is(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.put(
        "a.zip", zip_archive([("disk.vdi", DISKS["vdi"]()), ("readme", Image.of(9, [(0, b"see there")]))])
    )

    report = scan_s3(scripted_access, BUCKET, "a.zip", None, ScanSettings())

    assert (report.status, report.requests) == (Status.SAFE, 2)
    assert report.bytes_read == scripted.bytes_sent <= 2 * AHEAD


def test_a_disk_that_was_packed_sparsely_costs_no_more(
    scripted: ScriptedS3, scripted_access: S3Access
) -> None:
    from tests.inspectors.archives.blocks import archive, old_sparse

    disk = gpt_disk(SIZE)
    pairs = [(0, 2 * MIB), (SIZE - MIB, MIB)]
    data = Image.of(3 * MIB, [(0, disk.read(0, 2 * MIB)), (2 * MIB, disk.read(SIZE - MIB, MIB))])
    scripted.put("a.tar", archive(*old_sparse(b"disk.raw", SIZE, pairs, data.size), data))

    report = scan_s3(scripted_access, BUCKET, "a.tar", None, ScanSettings())

    assert (report.status, report.members[0].virtual_size) == (Status.SAFE, SIZE)
    assert report.requests == len(scripted.requests) <= 4
    assert report.bytes_read == scripted.bytes_sent <= 2 * MIB


def test_a_scan_that_runs_out_says_what_it_knows(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.put("a.ova", machine(200, DISKS["raw"]))
    settings = ScanSettings(budget=Budget(requests=4), container_budget=Budget(requests=50, bytes=64 * MIB))

    report = scan_s3(scripted_access, BUCKET, "a.ova", None, settings)

    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("budget",))
    assert report.requests == len(scripted.requests) == 50
    statuses = [member.status for member in report.members]
    assert statuses[:15] == [Status.SAFE] * 15
    assert len(statuses) < 30


# Verdicts


def test_a_member_is_reported_as_an_object_of_its_own(tmp_path: Path) -> None:
    report = scanned(tar([("disks/a.qcow2", qcow2(GIB, allocated=3))]), tmp_path)
    (member,) = report.members
    assert (member.status, member.format, member.virtual_size) == (Status.SAFE, "qcow2", GIB)
    assert member.target == "a.tar!/disks/a.qcow2"
    assert (member.details["name"], member.details["offset"]) == ("disks/a.qcow2", 512)
    assert (report.requests, member.requests) == (2, 0)


def test_the_worst_member_counts(tmp_path: Path) -> None:
    disks = [
        ("good.qcow2", qcow2(GIB)),
        ("bad.qcow2", qcow2(GIB, backing_file="/etc/shadow")),
        ("what", Image(2 * MIB)),
    ]
    report = scanned(tar(disks), tmp_path)
    assert report.status is Status.UNSAFE
    assert report.reasons[0] == "backing_file"
    assert [member.status for member in report.members] == [
        Status.SAFE,
        Status.UNSAFE,
        Status.UNRECOGNIZED,
    ]


def test_an_archive_without_a_disk_is_no_disk_image(tmp_path: Path) -> None:
    report = scanned(tar([("readme", Image.of(4, [(0, b"text")]))]), tmp_path)
    assert (report.status, report.reasons, report.format) == (
        Status.UNRECOGNIZED,
        ("no_known_format",),
        "tar",
    )


def test_an_archive_that_is_not_known_to_be_whole_is_in_doubt(tmp_path: Path) -> None:
    image = tar([("a.vdi", vdi(GIB))])
    report = scanned(image.truncated(512 + vdi(GIB).size), tmp_path)
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def test_a_policy_takes_archives_and_what_they_hold(tmp_path: Path) -> None:
    streams = ova([OVADisk("a.vmdk", vmdk_stream_optimized(SIZE, allocated=3), SIZE)])
    others = ova([OVADisk("a.vmdk", vmdk_sparse(SIZE, allocated=3), SIZE)])
    assert scanned(streams, tmp_path, "aws-vm-import").status is Status.SAFE
    refused = scanned(others, tmp_path, "aws-vm-import")
    assert (refused.status, refused.reasons) == (Status.REJECTED, ("banned_format",))
    assert refused.members[0].findings[0].check == "banned_format"
    packed = scanned(tar([("a.vmdk", vmdk_stream_optimized(SIZE, allocated=3))]), tmp_path, "aws-vm-import")
    assert "banned_format" in [one.check for one in packed.findings]
    for policy in ("azure", "openstack", "kubevirt", "gcp"):
        assert scanned(streams, tmp_path, policy).status is Status.REJECTED


@pytest.mark.parametrize(
    ("policy", "status"),
    [("default", Status.SAFE), ("openstack", Status.REJECTED), ("kubevirt", Status.REJECTED),
     ("aws-vm-import", Status.REJECTED), ("azure", Status.REJECTED), ("gcp", Status.REJECTED)],
)  # fmt: skip
def test_a_zip_is_taken_by_those_who_have_not_decided(tmp_path: Path, policy: str, status: Status) -> None:
    image = zip_archive([("disk.raw", gpt_disk(GIB))])
    assert scanned(image, tmp_path, policy, "a.zip").status is status


def test_a_rule_may_take_a_disk_in_a_zip(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nformats = ["zip", "raw"]\ncontainers = ["zip"]\nmember_name = "disk.raw"\n')
    good = zip_archive([("disk.raw", gpt_disk(GIB))])
    assert scanned(good, tmp_path, str(rules), "a.zip").status is Status.SAFE
    other = zip_archive([("other.raw", gpt_disk(GIB))])
    assert scanned(other, tmp_path, str(rules), "b.zip").reasons == ("banned_format",)


def test_a_limit_of_size_is_one_of_each_disk(tmp_path: Path) -> None:
    disk = vmdk_stream_optimized(10 * 1024 * GIB, allocated=3)
    disks = [OVADisk(f"{number}.vmdk", disk, 10 * 1024 * GIB) for number in range(2)]
    assert scanned(ova(disks), tmp_path, "aws-vm-import").status is Status.SAFE


@pytest.mark.parametrize(
    ("disk", "status"),
    [
        (OVADisk("disk.vmdk", "/etc/shadow", GIB), Status.UNSAFE),
        (OVADisk("/etc/cron.d/a", vmdk_stream_optimized(GIB), GIB), Status.UNSAFE),
        (OVADisk("disk.vmdk", vmdk_stream_optimized(GIB), 2 * GIB), Status.DAMAGED),
        (OVADisk("disk.vmdk", qcow2(GIB), GIB), Status.REJECTED),
        (OVADisk("disk.vmdk", Image.of(9, [(0, b"no disk")]), GIB), Status.UNRECOGNIZED),
    ],
)
def test_a_hostile_or_broken_ova_is_not_let_in(tmp_path: Path, disk: OVADisk, status: Status) -> None:
    good = OVADisk("good.vmdk", vmdk_stream_optimized(GIB), GIB)
    assert scanned(ova([good, disk]), tmp_path, name="a.ova").status is status


def test_a_stream_of_an_archive_is_inspected_as_it_passes() -> None:
    image = machine(3, lambda: qcow2(SIZE, allocated=30))
    chunks = (image.read(at, 64 * KIB) for at in range(0, image.size, 64 * KIB))
    report = scan_stream(Target("-"), chunks, load_policy("default"))
    assert (report.status, len(report.members)) == (Status.SAFE, 3)
