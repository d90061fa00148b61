"""Partition tables made by their own tools: Keyhole reports their types and the first partition's content."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.api import scan_path
from keyhole.builders import Image
from keyhole.inspectors import Facts, Wholeness
from keyhole.inspectors.partitions import bsd, dos, gpt, mac, sgi, sun
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.partitions.labels import bsd_disk
from tests.tools import environment, need, run

MIB = 1024**2

#: The commands that make each table on `{image}` of 64 MiB. If possible, the first partition begins at 4 MiB.
MADE = {
    "gpt by sgdisk": ("gpt", "sgdisk -a 2048 -n 1:8192:0 {image}"),
    "gpt by parted": ("gpt", "parted -s {image} mklabel gpt mkpart one 4MiB 60MiB"),
    "dos by parted": ("dos", "parted -s {image} mklabel msdos mkpart primary 4MiB 60MiB"),
    "mac by parted": ("mac", "parted -s {image} mklabel mac mkpart one 4MiB 60MiB"),
    "sun by parted": ("sun", "parted -s {image} mklabel sun mkpart 4MiB 60MiB"),
    "sgi by parted": ("sgi", "parted -s {image} mklabel dvh mkpart primary 4MiB 60MiB"),
}
#: The input of sfdisk for each table.
BY_SFDISK = {
    "gpt by sfdisk": ("gpt", "label: gpt\nstart=8192\n"),
    "dos by sfdisk": ("dos", "label: dos\nstart=8192, type=83\n"),
    "dos with four partitions": ("dos", "label: dos\n" + "size=8192, type=83\n" * 3 + "type=5\n"),
    "sun by sfdisk": ("sun", "label: sun\nsize=100000\n"),
    "sgi by sfdisk": ("sgi", "label: sgi\nsize=100000\n"),
}


def kind_by_libblkid(path: Path) -> str:
    """The type of the partition table that blkid prints."""
    need("blkid")
    done = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "PTTYPE", path],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    return done.stdout.strip()


def inspected(path: Path) -> Report:
    return scan_path(path, ScanSettings())


@pytest.fixture
def disk(tmp_path: Path) -> Callable[[str], Path]:
    """A disk of 64 MiB with a table of `MADE` or `BY_SFDISK`."""

    def make(name: str) -> Path:
        path = tmp_path / "disk.img"
        with path.open("wb") as file:
            file.truncate(64 * MIB)
        if name in MADE:
            run(MADE[name][1].format(image=path), tmp_path)
        else:
            need("sfdisk")
            subprocess.run(
                ["sfdisk", "-q", path], input=BY_SFDISK[name][1], text=True, check=True, env=environment()
            )
        return path

    return make


class TestByTheirTools:
    @pytest.mark.parametrize("name", [*MADE, *BY_SFDISK])
    def test_it_is_what_libblkid_says(self, disk: Callable[[str], Path], name: str) -> None:
        path = disk(name)

        report = inspected(path)

        kind = (MADE | BY_SFDISK)[name][0]
        assert kind_by_libblkid(path) == kind
        assert (report.format, report.content) == ("raw", (kind,))
        assert report.findings == ()
        assert report.wholeness is Wholeness.PROVEN
        assert report.requests <= 3

    @pytest.mark.parametrize("name", [name for name in [*MADE, *BY_SFDISK] if "sgi" not in name])
    def test_cut_short_it_is_not_whole(self, disk: Callable[[str], Path], name: str) -> None:
        path = disk(name)
        with path.open("r+b") as file:
            file.truncate(6 * MIB)

        assert "truncated" in inspected(path).reasons

    @pytest.mark.parametrize("name", ["gpt by sgdisk", "dos by parted", "mac by parted", "sgi by parted"])
    @pytest.mark.parametrize(
        ("command", "kind"),
        [
            ("mke2fs -q -F -t ext4 -E offset=4194304 {image} 20M", "ext4"),
            ("mkfs.fat --offset 8192 {image} 20000", "vfat"),
        ],
    )
    def test_it_says_what_the_first_partition_holds(
        self, disk: Callable[[str], Path], tmp_path: Path, name: str, command: str, kind: str
    ) -> None:
        path = disk(name)
        run(command.format(image=path), tmp_path)

        report = inspected(path)

        assert report.content == (MADE[name][0], kind)
        assert report.details["first_partition_offset"] == 4 * MIB
        assert report.requests <= 4


class TestBSD:
    @pytest.mark.parametrize("at", [512, 64])
    def test_a_disklabel_is_recognised(self, tmp_path: Path, at: int) -> None:
        """The table is built from its specification.

        `blkid -p` does not ask libblkid for disklabels, but `partx` does.
        """
        image = bsd_disk(4 * MIB, at=at)
        (tmp_path / "disk.img").write_bytes(image.to_bytes())

        facts = facts_of(image)

        assert (facts.format, facts.content, facts.findings) == ("raw", ("bsd",), ())
        assert facts.wholeness is Wholeness.PROVEN
        need("partx")
        printed = subprocess.run(
            ["partx", "--show", "-g", "-o", "SCHEME,START", tmp_path / "disk.img"],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        assert printed.stdout.split() == ["bsd", "2048"]

    def test_one_without_its_magic_number_is_none(self) -> None:
        assert facts_of(bsd_disk(4 * MIB).patched(512, b"x")).format is None

    @pytest.mark.parametrize(
        ("change", "check"),
        [
            ((512 + 132, b"x"), "structure"),
            ((512 + 138, b"\xff"), "structure"),
            ((512 + 40, b"\x01"), "structure"),
            ((512 + 148, b"x"), "checksum_mismatch"),
        ],
    )
    def test_one_that_contradicts_itself_is_damaged(self, change: tuple[int, bytes], check: str) -> None:
        facts = facts_of(bsd_disk(4 * MIB).patched(*change))
        assert facts.content == ("bsd",)
        assert check in [finding.check for finding in facts.findings]

    def test_the_whole_disk_s_partition_counts_although_it_has_no_type(self) -> None:
        sectors = 4 * MIB // 512
        assert checks_of(bsd_disk(4 * MIB, whole=sectors)) == []
        assert checks_of(bsd_disk(4 * MIB, whole=sectors + 1)) == ["truncated"]

    def test_cut_short_it_is_not_whole(self) -> None:
        assert checks_of(bsd_disk(4 * MIB).truncated(3 * MIB)) == ["truncated"]


def content_of(front: bytes) -> Facts:
    return facts_of(Image.of(max(len(front), 1024), [(0, front)]))


class TestWhatOnlyLooksLikeOne:
    @pytest.mark.parametrize(
        "front",
        [
            b"ER\x02\x00" + bytes(600),
            b"ER\x00\x00" + bytes(600),
            bytes(508) + b"\xda\xbe\x00\x00",
            bytes(508) + b"\xda\xbe" + bytes(100),
            (0x82564557).to_bytes(4, "little") * 10,
        ],
    )
    def test_a_mark_alone_is_no_table(self, front: bytes) -> None:
        assert content_of(front).format is None

    @given(front=st.binary(max_size=9000))
    def test_whatever_the_bytes_parsing_does_not_fail(self, front: bytes) -> None:
        for mark in (b"", b"ER\x02\x00", b"\x0b\xe5\xa9\x41", bytes(510) + b"\x55\xaa"):
            for parse in (sgi.parse, sun.parse, dos.parse, mac.parse, bsd.parse):
                parse(mark + front)
            for protected in (True, False):
                gpt.parse(mark + front, protected=protected)
