"""Good disks in tar archives are safe, for every writer and each of its dialects."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from keyhole.api import scan_object
from keyhole.builders import OVADisk, gpt_disk, ovf, qcow2, vmdk_stream_optimized
from keyhole.scan.report import Report
from tests.inspectors.archives import readers
from tests.inspectors.archives.writers import WRITERS, Writer, go

MIB, GIB = 1024**2, 1024**3
VMDK = vmdk_stream_optimized(2 * GIB, allocated=3)
BOX = qcow2(GIB, allocated=2)
RAW = gpt_disk(16 * MIB).patched(5 * MIB, bytes([7]) * 4096).patched(9 * MIB, bytes([9]) * 4096)
#: A name that does not fit into the header's field, but can be divided between its two fields for names.
LONG = f"folder-{'n' * 60}/deep-{'m' * 70}/disk-{'o' * 40}.qcow2"
TEXTS = {
    "machine.ovf": ovf([OVADisk("disk1.vmdk", VMDK, 2 * GIB)]).encode(),
    "metadata.json": b'{"provider": "libvirt", "format": "qcow2", "virtual_size": 1}',
    "Vagrantfile": b'Vagrant.configure("2") do |config|\nend\n',
    "größe.txt": b"text",
    "new": b"text" * 200,
}
IMAGES = {"disk1.vmdk": VMDK, "box.img": BOX, "disk.raw": RAW, LONG: BOX}
#: An OVA, a Vagrant box, a disk in Compute Engine's format, and names that need a dialect's extensions.
KINDS: dict[str, tuple[Sequence[str], bool, str, set[str]]] = {
    "ova": (["machine.ovf", "disk1.vmdk"], False, "ova", {"vmdk"}),
    "box": (["./box.img", "./metadata.json", "./Vagrantfile"], True, "gzip", {"qcow2"}),
    "raw": (["disk.raw"], True, "gzip", {"raw"}),
    "names": ([LONG, "größe.txt", "new", "same", "link", "disk.raw"], False, "tar", {"qcow2", "raw"}),
}
#: Writers that omit a file whose name does not fit. Some report it by their exit code.
WITHOUT_LONG_NAMES = {"GNU tar v7", "bsdtar v7", "cpio tar", "pax tar"}
#: Python reads the times in these headers as a folder. A link in it then leads elsewhere.
WITHOUT_LINKS = {"GNU tar incremental"}
#: ustar cannot store the times that Go reads from a file.
GO = ("pax", "gnu", "any")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files to pack."""
    folder = tmp_path_factory.mktemp("files")
    (folder / LONG).parent.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(text)
    for name, image in IMAGES.items():
        image.write_to(folder / name)
    (folder / "same").hardlink_to(folder / "new")
    (folder / "link").symlink_to("new")
    return folder


def formats(report: Report) -> set[str]:
    """The formats of the disks in an archive, at every depth."""
    inside = [formats(member) for member in report.members]
    return set().union(*inside) if inside else {str(report.format)}


def is_safe(write: Writer, folder: Path, tmp_path: Path, kind: str) -> None:
    names, compressed, form, disks = KINDS[kind]
    path = tmp_path / f"{kind}.tar"
    write(folder, path, names)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    report = scan_object(str(path))
    findings = [finding.message for finding in report.findings]
    assert (str(report.status), report.format, formats(report)) == ("safe", form, disks), findings


@pytest.mark.parametrize("writer", WRITERS)
def test_an_ova_is_safe_whoever_wrote_it(folder: Path, tmp_path: Path, writer: str) -> None:
    is_safe(WRITERS[writer], folder, tmp_path, "ova")


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_writer_makes_of_good_disks_is_safe(folder: Path, tmp_path: Path, writer: str) -> None:
    for kind in KINDS:
        if kind != "names" or writer not in WITHOUT_LONG_NAMES | WITHOUT_LINKS:
            is_safe(WRITERS[writer], folder, tmp_path, kind)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", GO)
def test_what_go_makes_of_good_disks_is_safe(folder: Path, tmp_path: Path, dialect: str) -> None:
    program = readers.built_by_go(tmp_path, "writing.go")
    for kind in KINDS.keys() - ({"names"} if dialect == "gnu" else set()):
        is_safe(go(program, dialect), folder, tmp_path, kind)
