"""The block map of a DMG must match the trailer, and lead only into the data fork."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, dmg, gpt_disk, mbr_disk, qcow2
from keyhole.inspectors import Inspection, Wholeness
from keyhole.inspectors.formats import dmg_map
from keyhole.inspectors.formats.dmg import DMGInspector
from keyhole.inspectors.formats.dmg_map import RAW, parse
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.inspectors.compression.packed import PACKED, noise
from tests.inspectors.feeding import fetch
from tests.inspectors.formats.dmgs import (
    BZIP2,
    PACK,
    SECTOR,
    XZ,
    ZLIB,
    Stored,
    Table,
    assembled,
    packed,
    plist_of,
)
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.laws import keeps_the_law, survives_mutations
from tests.tools import environment, need

KIB, MIB = 1024, 1024**2
DISK = gpt_disk(4 * MIB).patched(MIB, noise(1, 300_000)).to_bytes()
SECTORS = len(DISK) // SECTOR
NAMES = {RAW: "UDRO", ZLIB: "UDZO", BZIP2: "UDBZ", XZ: "ULMO"}


@pytest.mark.parametrize("cuts", [(), (1, 34, 2048)], ids=["one table", "four tables"])
@pytest.mark.parametrize("kind", PACK, ids=NAMES.values())
def test_a_good_image_is_safe_however_its_chunks_are_compressed(kind: int, cuts: tuple[int, ...]) -> None:
    """Chunks of bzip2 and xz begin like files of these formats. The reported size is the disk's."""
    facts = facts_of(packed(DISK, kind, cuts=cuts))
    assert (facts.format, facts.virtual_size, facts.findings) == ("dmg", len(DISK), ())
    assert facts.wholeness is Wholeness.PROVEN
    assert judge(facts) == (Status.SAFE, ())
    assert facts.details["block_tables"] == len(cuts) + 1
    assert facts.content == (("gpt",) if kind == RAW else ())


@pytest.mark.qemu
@pytest.mark.parametrize("cuts", [(), (1, 34, 2048)], ids=["one table", "four tables"])
@pytest.mark.parametrize("kind", [RAW, ZLIB], ids=["UDRO", "UDZO"])
def test_qemu_and_7_zip_read_what_the_builder_made(tmp_path: Path, kind: int, cuts: tuple[int, ...]) -> None:
    path = packed(DISK, kind, cuts=cuts).write_to(tmp_path / "a.dmg")
    for command in (
        ["qemu-img", "convert", "-f", "dmg", "-O", "raw", path, tmp_path / "raw"],
        ["7zz", "t", path],
    ):
        need(str(command[0]))
        subprocess.run(command, env=environment(), check=True, capture_output=True)
    assert (tmp_path / "raw").read_bytes() == DISK


@pytest.mark.parametrize("kind", [BZIP2, XZ], ids=["UDBZ", "ULMO"])
def test_7_zip_reads_those_that_begin_as_a_stream(tmp_path: Path, kind: int) -> None:
    need("7zz")
    path = packed(DISK, kind).write_to(tmp_path / "a.dmg")
    subprocess.run(["7zz", "t", "-tdmg", path], env=environment(), check=True, capture_output=True)


def test_a_stream_in_front_of_another_part_of_the_disk_is_another_format() -> None:
    """A reader that decompresses the stream gets a part of the disk that is not its beginning."""
    inner = bzip2 = PACK[BZIP2](qcow2(MIB, backing_file="/etc/passwd").to_bytes())
    assert inner
    rest = PACK[ZLIB](bytes(range(256)) * 2)
    fork = bzip2 + rest
    table = Table(
        0,
        513,
        (Stored(ZLIB, 0, 1, len(bzip2), len(rest)), Stored(BZIP2, 1, 512, 0, len(bzip2))),
    )
    assert "ambiguous_format" in checks_of(assembled(fork, plist_of([table]), 513))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_stream_that_no_chunk_can_be_is_another_format(name: str) -> None:
    """The trailer's map uses the stream's bytes as a disk, so `gzip -d` and hdiutil find different disks."""
    fork = PACKED[name](DISK)
    fork += bytes(-len(fork) % SECTOR)
    table = Table(0, len(fork) // SECTOR, (Stored(RAW, 0, len(fork) // SECTOR, 0, len(fork)),))
    assert "ambiguous_format" in checks_of(assembled(fork, plist_of([table]), len(fork) // SECTOR))


def test_a_disk_in_front_that_is_not_what_the_map_begins_with_is_another_format() -> None:
    """blkid and the kernel ignore the trailer, and read the disk at the front."""
    front, hidden = mbr_disk(MIB).to_bytes(), DISK[:MIB]
    sectors = MIB // SECTOR
    table = Table(0, sectors, (Stored(RAW, 0, sectors, MIB, MIB),))
    assert "ambiguous_format" in checks_of(assembled(front + hidden, plist_of([table]), sectors))


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "bzip2"])
def test_a_dmg_that_is_compressed_is_one_format(name: str) -> None:
    data = PACKED[name](packed(DISK, XZ).to_bytes())
    assert checks_of(Image.of(len(data), [(0, data)])) == []


def test_the_map_comes_with_the_end_and_a_stream_in_front_costs_nothing() -> None:
    big = gpt_disk(8 * MIB).patched(MIB, noise(2, 6 * MIB)).to_bytes()
    image = packed(big, BZIP2)
    asked = []
    inspection = Inspection()
    inspection.feed(0, image.read(0, 256 * KIB))
    inspection.finish(image.size)
    while missing := inspection.missing():
        asked.append([(gap.offset, gap.length) for gap in missing])
        for offset, length in asked[-1]:
            inspection.feed(offset, image.read(offset, length))
    assert len(asked) == 1
    assert inspection.facts().findings == ()


# Contradictions


def chunk(**changes: int) -> Stored:
    """A raw chunk of eight sectors at the front, with these changes."""
    return Stored(**{"kind": RAW, "sector": 0, "sectors": 8, "offset": 0, "length": 8 * SECTOR, **changes})


def image_of(*tables: Table, sectors: int = 8, fork: int = 8 * SECTOR, **options: int) -> Image:
    return assembled(bytes(range(256)) * (fork // 256), plist_of(tables), sectors, **options)


GOOD = Table(0, 8, (chunk(),))
WRONG: dict[str, tuple[Image, str]] = {
    "trailer larger": (image_of(GOOD, sectors=9), "size_mismatch"),
    "trailer smaller": (image_of(GOOD, sectors=7), "size_mismatch"),
    "table larger than its chunks": (image_of(Table(0, 9, (chunk(),)), sectors=9), "size_mismatch"),
    "gap between tables": (
        image_of(GOOD, Table(16, 8, (chunk(kind=0, length=0),)), sectors=24),
        "size_mismatch",
    ),
    "tables over one another": (
        image_of(GOOD, Table(4, 8, (chunk(kind=0, length=0),)), sectors=16),
        "structure",
    ),
    "chunks over one another": (
        image_of(Table(0, 8, (chunk(sectors=4, length=4 * SECTOR), chunk(sectors=4, length=0, kind=0)))),
        "structure",
    ),
    "chunk beyond its table": (image_of(Table(0, 8, (chunk(sector=1),))), "structure"),
    "data over the property list": (image_of(Table(0, 8, (chunk(offset=SECTOR),))), "structure"),
    "data over the trailer": (image_of(Table(0, 8, (chunk(kind=ZLIB, offset=0, length=6000),))), "structure"),
    "data beyond the fork": (image_of(GOOD, fork_length=7 * SECTOR), "structure"),
    "data far away": (image_of(Table(0, 8, (chunk(offset=2**63),))), "structure"),
    "data in common": (
        image_of(
            Table(
                0,
                16,
                (chunk(), chunk(sector=8, offset=SECTOR, kind=ZLIB, length=SECTOR)),
            ),
            sectors=16,
        ),
        "structure",
    ),
    "raw of another length": (image_of(Table(0, 8, (chunk(length=7 * SECTOR),))), "structure"),
    "kind that is unknown": (image_of(Table(0, 8, (chunk(kind=0x80000009),))), "unknown_features"),
    "more chunks than there are": (image_of(Table(0, 8, (chunk(),), count=3)), "structure"),
    "no table at all": (image_of(), "structure"),
    "a table without its mark": (image_of(Table(0, 8, (chunk(),), mark=b"mash")), "structure"),
    "no sectors": (image_of(Table(0, 0, ()), sectors=0), "structure"),
    "a resource fork as well": (image_of(GOOD, resource_fork=(0, 512)), "unsupported_subformat"),  # type: ignore[arg-type] # two numbers
}


def test_as_it_is_the_small_one_is_in_order() -> None:
    assert judge(facts_of(image_of(GOOD))) == (Status.SAFE, ())
    assert facts_of(image_of(GOOD)).virtual_size == 8 * SECTOR


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_itself_is_found(name: str) -> None:
    image, check = WRONG[name]
    facts = facts_of(image)
    assert facts.format == "dmg"
    assert check in [finding.check for finding in facts.findings]
    assert judge(facts)[0] is not Status.SAFE


def test_a_resource_fork_alone_is_not_read_and_said_so() -> None:
    image = assembled(bytes(4096), b"", 8, resource_fork=(0, 512))
    assert judge(facts_of(image)) == (Status.REJECTED, ("unsupported_subformat",))


def test_a_property_list_that_is_too_long_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.inspectors.formats.dmg.MAX_PLIST_BYTES", 100)
    assert judge(facts_of(image_of(GOOD))) == (Status.REJECTED, ("unsupported_subformat",))


# The property list

OTHER = Table(0, 8, (chunk(kind=0, length=0),))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"AAAA", b"".join(plist_of([OTHER]).split(b"data>\n")[1].split())[:-2]),
        lambda text: text.replace(b"<dict><key>res", b"<!-- " + hidden() + b" --><dict><key>res"),
        lambda text: text.replace(b"<data>\n", b"<data >\n"),
    ],
    ids=["under another key", "in a comment", "white space in the tag"],
)
def test_a_table_that_only_some_readers_find_is_two_things(change: Callable[[bytes], bytes]) -> None:
    text = change(plist_of([GOOD]))
    assert text != plist_of([GOOD])
    assert "ambiguous_format" in checks_of(assembled(bytes(4096), text, 8))


def hidden() -> bytes:
    return b"<data>" + plist_of([OTHER]).split(b"<data>")[1].partition(b"</data>")[0] + b"</data>"


@pytest.mark.parametrize(
    "text",
    [
        b"<?xml",
        b'<?xml version="1.0"?><plist>',
        b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "b">]><plist>&a;</plist>',
        b'<?xml version="1.0" encoding="none"?><plist/>',
        b"<plist>" + b"<array>" * 1000,
        b"<plist>" + b"<dict>" * 10 + b"\0",
        b"<plist>\xff</plist>",
    ],
)
def test_a_property_list_that_cannot_be_read_is_a_finding(text: bytes) -> None:
    found = parse(text, 0)
    assert "structure" in {finding.check for finding in found.findings}
    assert all(finding.message.isprintable() for finding in found.findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [b"<data>", b"<dict/>", b"<key>blkx</key>", b"<data></data>", b"</data>", b"x"]
)
def test_a_property_list_of_four_mebibytes_is_read_in_linear_time(piece: bytes) -> None:
    text = b"<plist><dict>" + piece * ((dmg_map.MAX_PLIST_BYTES - 100) // len(piece))
    assert parse(text, 0).findings


@given(st.data())
def test_it_knows_the_same_however_the_bytes_came(data: st.DataObject) -> None:
    small = gpt_disk(2 * MIB).to_bytes()
    keeps_the_law(DMGInspector, [packed(small, ZLIB, cuts=(1, 34)), packed(small, BZIP2)], data)


def test_mutations_do_not_break_it() -> None:
    small = gpt_disk(2 * MIB).to_bytes()
    survives_mutations(DMGInspector, [packed(small, ZLIB, cuts=(1, 34)), packed(small, BZIP2), dmg(MIB)])


def test_an_inspection_of_one_that_begins_as_a_stream_ends() -> None:
    inspection = Inspection()
    image = packed(DISK, BZIP2)
    inspection.finish(image.size)
    assert fetch(inspection, image).facts().format == "dmg"
    assert inspection.complete
