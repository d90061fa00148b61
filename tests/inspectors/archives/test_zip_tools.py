"""Keyhole reads the ZIP archives of known tools, and reports what it cannot read in them."""

import io
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from keyhole.builders import gpt_disk, qcow2
from keyhole.inspectors import Facts, Severity, Wholeness
from tests.inspectors.archives.walking import walk
from tests.inspectors.compression.packed import noise
from tests.inspectors.inspecting import facts_of
from tests.inspectors.one_inspector import image_of
from tests.tools import environment, need, run

MIB = 1024**2
DISK = gpt_disk(2 * MIB).patched(MIB, noise(8, 100_000))
IMAGE = qcow2(MIB, allocated=2)
#: Archives that Keyhole reads, by the tool that packs them.
COMMANDS = {
    "zip": "zip -q out.zip disk.raw d/a.qcow2",
    "zip, folders": "zip -qr out.zip disk.raw d",
    "zip, stored": "zip -q0 out.zip disk.raw d/a.qcow2",
    "zip, best": "zip -q9 out.zip disk.raw d/a.qcow2",
    "zip, bzip2": "zip -q -Z bzip2 out.zip disk.raw d/a.qcow2",
    "zip, without extra fields": "zip -qX out.zip disk.raw d/a.qcow2",
    "zip, ZIP64": "zip -q -fz out.zip disk.raw d/a.qcow2",
    "7zz": "7zz a -bso0 out.zip disk.raw d",
    "7zz, stored": "7zz a -bso0 -mm=Copy out.zip disk.raw d/a.qcow2",
    "7zz, bzip2": "7zz a -bso0 -mm=BZip2 out.zip disk.raw d/a.qcow2",
    "7zz, LZMA": "7zz a -bso0 -mm=LZMA out.zip disk.raw d/a.qcow2",
    "bsdtar": "bsdtar -cf out.zip --format zip disk.raw d",
    "bsdtar, stored": "bsdtar -cf out.zip --format zip --options zip:compression=store disk.raw d/a.qcow2",
    "bsdtar, ZIP64": "bsdtar -cf out.zip --format zip --options zip:zip64 disk.raw d/a.qcow2",
    "python": "python -m zipfile -c out.zip disk.raw d",
    "jar": "jar cMf out.zip disk.raw d",
    "jar, stored": "jar cM0f out.zip disk.raw d",
}
#: Archives written to a pipe, so that the writer cannot return to a member's header.
PIPED = {
    "zip": "zip -q - disk.raw d/a.qcow2",
    "zip, stored": "zip -q0 - disk.raw d/a.qcow2",
    "zip, one file": "zip -q - -",
    "bsdtar": "bsdtar -cf - --format zip disk.raw d/a.qcow2",
}
#: Archives that Keyhole reports as not readable.
REFUSED = {
    "encrypted": ("7zz a -bso0 -psecret out.zip disk.raw", "encrypted"),
    "encrypted by AES": ("7zz a -bso0 -psecret -mem=AES256 out.zip disk.raw", "encrypted"),
    "encrypted by zip": ("zip -q -P secret out.zip disk.raw", "encrypted"),
    "Deflate64": ("7zz a -bso0 -mm=Deflate64 out.zip disk.raw", "unsupported_subformat"),
    "PPMd": ("7zz a -bso0 -mm=PPMd out.zip disk.raw", "unsupported_subformat"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DISK.write_to(tmp_path / "disk.raw")
    (tmp_path / "d").mkdir()
    IMAGE.write_to(tmp_path / "d/a.qcow2")
    return tmp_path


def both(facts: Facts) -> bool:
    """Whether both disks are in order, with the same facts as for plain files."""
    members = {member.name: member.facts for member in facts.members}
    return (facts.findings, facts.wholeness) == ((), Wholeness.PROVEN) and members == {
        "disk.raw": facts_of(DISK),
        "d/a.qcow2": facts_of(IMAGE),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_tool_packs_is_known_as_if_it_lay_there_plain(name: str, folder: Path) -> None:
    run(COMMANDS[name], folder)
    assert both(walk(image_of(folder / "out.zip")))


@pytest.mark.parametrize("name", PIPED)
def test_so_it_is_of_what_comes_out_of_a_pipe(name: str, folder: Path) -> None:
    words = shlex.split(PIPED[name])
    need(words[0])
    with (folder / "disk.raw").open("rb") as disk:
        piped = subprocess.run(
            words, cwd=folder, env=environment(), stdin=disk, capture_output=True, check=True
        )
    (folder / "out.zip").write_bytes(piped.stdout)
    facts = walk(image_of(folder / "out.zip"))
    assert {one.severity for one in facts.findings} <= {Severity.INFO}
    assert (facts.wholeness, facts.members[0].facts) == (Wholeness.PROVEN, facts_of(DISK))


class Pipe(io.RawIOBase):
    """A file that can only be written, without seeking."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] # zipfile writes bytes
        self.written += bytes(data)
        return len(data)


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_so_it_is_of_what_python_writes_into_a_pipe(method: int, folder: Path) -> None:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name in ("disk.raw", "d/a.qcow2"):
            archive.write(folder / name, name)
    (folder / "out.zip").write_bytes(pipe.written)
    assert both(walk(image_of(folder / "out.zip")))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_said(name: str, folder: Path) -> None:
    command, check = REFUSED[name]
    run(command, folder)
    facts = walk(image_of(folder / "out.zip"))
    assert ([one.check for one in facts.findings], facts.members) == ([check], ())


def test_a_volume_of_several_is_said(folder: Path) -> None:
    run("zip -q0 -s 64k out.zip disk.raw", folder)
    facts = walk(image_of(folder / "out.zip"))
    assert facts.format is None or [one.check for one in facts.findings] != []


def test_links_are_read(folder: Path) -> None:
    (folder / "inside").symlink_to("disk.raw")
    run("zip -qy out.zip disk.raw d/a.qcow2 inside", folder)
    assert both(walk(image_of(folder / "out.zip")))
    (folder / "outside").symlink_to("/etc/shadow")
    run("7zz a -bso0 -snl out2.zip disk.raw d/a.qcow2 outside", folder)
    assert [one.check for one in walk(image_of(folder / "out2.zip")).findings] == ["member_path"]


def test_a_comment_is_in_order(folder: Path) -> None:
    need("zip")
    subprocess.run(
        ["zip", "-qz", "out.zip", "disk.raw", "d/a.qcow2"], cwd=folder, input=b"a comment\n.\n", check=True
    )
    assert both(walk(image_of(folder / "out.zip")))


def test_a_changed_archive_is_in_order(folder: Path) -> None:
    """Tools that replace a member leave no gap."""
    run("zip -q out.zip disk.raw d/a.qcow2", folder)
    shutil.copy(folder / "d/a.qcow2", folder / "readme")
    run("zip -q out.zip readme", folder)
    run("zip -qd out.zip readme", folder)
    assert both(walk(image_of(folder / "out.zip")))
