"""UDF from mkudffs, in all block sizes and media, with the anchors and checksums that ECMA-167 allows."""

from binascii import crc_hqx
from itertools import product
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.builders import Image, iso, udf
from keyhole.builders.iso import MAIN_BLOCK
from keyhole.inspectors import Wholeness
from keyhole.scan.policy import judge
from keyhole.scan.settings import ScanSettings
from tests.inspectors.inspecting import facts_of
from tests.inspectors.one_inspector import image_of
from tests.inspectors.volumes.libblkid import printed_by_blkid
from tests.tools import need, run

MIB = 1024**2
SECTOR = 2048
ANCHOR = 256
BLOCK_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)
#: The largest blocks that libblkid 2.38 and Linux accept.
LARGEST_TAKEN = 4096
MEDIA = ("hd", "dvd", "dvdram", "dvdrw", "dvdr", "cdrw", "cdr", "cd", "bdr")
#: Media for which mkudffs 2.3 makes no smaller blocks, however large they are.
MEDIA_OF_LARGEST = ("worm", "mo")


def made(path: Path, options: str, size: int = 12 * MIB) -> Path:
    Image.of(size, []).write_to(path)
    run(f"mkudffs {options} {path}", path.parent)
    return path


@pytest.mark.parametrize(
    ("block_size", "medium"),
    [
        *product(BLOCK_SIZES, MEDIA),
        *product(BLOCK_SIZES[-1:], MEDIA_OF_LARGEST),
    ],
)
def test_it_is_recognised_and_whole(tmp_path: Path, block_size: int, medium: str) -> None:
    large = block_size > LARGEST_TAKEN
    disc = made(tmp_path / "disc", f"-b {block_size} -m {medium}", 64 * MIB if large else 12 * MIB)

    report = scan_path(disc, ScanSettings())

    assert (report.format, report.content, report.status) == ("iso", ("udf",), "safe")
    assert report.details["udf_block_size"] == block_size
    assert report.wholeness is Wholeness.PROVEN
    assert report.requests <= 4
    need("blkid")
    assert printed_by_blkid(disc) == ("" if large else "udf")


@pytest.mark.parametrize(
    "options",
    [
        *(f"-b 512 -r {revision}" for revision in ("1.01", "1.02", "1.50", "2.00", "2.01")),
        *(f"-b 2048 -m bdr -r {revision}" for revision in ("2.50", "2.60")),
        "-b 2048 -m cdr --closed",
        "-b 2048 --vat",
        "-b 512 --read-only",
    ],
)
def test_so_is_every_revision(tmp_path: Path, options: str) -> None:
    report = scan_path(made(tmp_path / "disc", options), ScanSettings())
    assert (report.content, report.status) == (("udf",), "safe")


@pytest.mark.parametrize("block_size", [512, 2048])
def test_with_an_mbr_it_is_a_disk_as_well(tmp_path: Path, block_size: int) -> None:
    report = scan_path(made(tmp_path / "disc", f"-b {block_size} --bootarea=mbr"), ScanSettings())
    assert (report.content, report.status) == (("udf", "dos"), "safe")


@pytest.mark.parametrize("block_size", BLOCK_SIZES[:4])
@pytest.mark.parametrize("kept", [("last",), ("before",), ("before", "last")])
def test_any_anchor_will_do(tmp_path: Path, block_size: int, kept: tuple[str, ...]) -> None:
    """Rewritable media wear out, so the standard has three anchors. libblkid reads only the first one."""
    disc = made(tmp_path / "disc", f"-b {block_size} -m hd")
    last = disc.stat().st_size // block_size - 1
    image = image_of(disc).patched(ANCHOR * block_size, bytes(block_size))
    for name, block in (("last", last), ("before", last - ANCHOR)):
        if name not in kept:
            image = image.patched(block * block_size, bytes(block_size))

    facts = facts_of(image)

    assert facts.content == ("udf",)
    assert judge(facts) == ("safe", ())
    run(f"udfinfo {image.write_to(tmp_path / 'changed')}", tmp_path)


def test_without_any_it_is_not_judged(tmp_path: Path) -> None:
    disc = made(tmp_path / "disc", "-b 2048 -m hd")
    last = disc.stat().st_size // SECTOR - 1
    image = image_of(disc)
    for block in (ANCHOR, last, last - ANCHOR):
        image = image.patched(block * SECTOR, bytes(SECTOR))
    assert judge(facts_of(image)) == ("rejected", ("unsupported_subformat",))


def with_crc(image: Image, block: int, length: int, block_size: int = SECTOR) -> Image:
    """A disc with another descriptor in a block. Its CRC covers this many bytes, which contain other data."""
    data = bytearray(image.read(block * block_size, block_size))
    data[512 : 16 + length] = b"x" * (16 + length - 512)
    data[8:10] = crc_hqx(bytes(data[16 : 16 + length]), 0).to_bytes(2, "little")
    data[10:12] = length.to_bytes(2, "little")
    data[4] = 0
    data[4] = sum(data[:16]) & 0xFF
    return image.patched(block * block_size, bytes(data))


@pytest.mark.parametrize("disc", [udf(400), iso(400, udf=True)], ids=["udf", "bridge"])
@pytest.mark.parametrize("length", [497, 1000, 2032])
def test_a_checksum_may_be_of_a_whole_block(disc: Image, length: int) -> None:
    image = disc
    for block in (ANCHOR, MAIN_BLOCK, MAIN_BLOCK + 1, MAIN_BLOCK + 2):
        image = with_crc(image, block, length)
    assert judge(facts_of(image)) == ("safe", ())
    assert judge(facts_of(image.patched(MAIN_BLOCK * SECTOR + 500, b"y"))) == (
        "damaged",
        ("checksum_mismatch",),
    )


def test_a_checksum_of_more_than_a_block_is_none() -> None:
    image = udf(400)
    data = bytearray(image.read(ANCHOR * SECTOR, SECTOR))
    data[10:12] = (2033).to_bytes(2, "little")
    data[4] = 0
    data[4] = sum(data[:16]) & 0xFF
    assert "unsupported_subformat" in judge(facts_of(image.patched(ANCHOR * SECTOR, bytes(data))))[1]


def test_a_sequence_that_goes_on_elsewhere_is_not_judged() -> None:
    """The partition's descriptor is replaced by a pointer to a further sequence."""
    image = udf(400)
    at = MAIN_BLOCK * SECTOR
    data = bytearray(image.read(at, 512))
    data[0] = 3
    data[4] = 0
    data[4] = sum(data[:16]) & 0xFF
    facts = facts_of(image.patched(at, bytes(data)))
    assert judge(facts) == ("rejected", ("unsupported_subformat",))
