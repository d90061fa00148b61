"""qcow2: entries that lead to headers, tables or one cluster too often, and refcounts that allow that."""

import struct

import pytest

from keyhole.builders import Image, qcow2
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.qcow2.refcounts import ALL_BLOCKS, Refcounts, decoded
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.conftest import QemuImg
from tests.inspectors.formats.maps import OVERLAP, PROVEN, assert_good, overlaps_of, thorough_facts_of
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.one_inspector import image_of

KIB, MIB, GIB = 1024, 1024**2, 1024**3
COPIED, COMPRESSED = 1 << 63, 1 << 62
#: The offsets of the builder's tables, in clusters. The last two are data.
CLUSTERS = {"header": 0, "refcount table": 1, "refcount block": 2, "L1 table": 3, "L2 table": 4, "data": 6}
KINDS = {
    "v3": lambda: qcow2(4 * GIB, allocated=3),
    "v2": lambda: qcow2(4 * GIB, version=2, allocated=3),
    "4 KiB": lambda: qcow2(16 * MIB, cluster_bits=12, allocated=3),
    "512 bytes": lambda: qcow2(256 * KIB, cluster_bits=9, allocated=3),
    "extended": lambda: qcow2(4 * GIB, incompatible=1 << 4, allocated=3),
}


def cluster_of(image: Image) -> int:
    return 1 << int.from_bytes(image.read(20, 4), "big")


def entry(image: Image, table: str, index: int, value: int) -> Image:
    """An image with a changed entry in one of its tables."""
    size = 16 if table == "L2 table" and image.read(72, 8) == struct.pack(">Q", 16) else 8
    at = CLUSTERS[table] * cluster_of(image) + size * index
    return image.patched(at, struct.pack(">Q", value))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", CLUSTERS)
@pytest.mark.parametrize("index", [0, 7])
@pytest.mark.parametrize("flags", [0, COPIED])
def test_a_cluster_over_something_else_is_found(kind: str, target: str, index: int, flags: int) -> None:
    image = KINDS[kind]()
    if target == "header":
        # An offset of zero means that no cluster is allocated. A compressed cluster can begin within the
        # first one.
        patched = entry(image, "L2 table", index, COMPRESSED | 100)
    else:
        patched = entry(image, "L2 table", index, CLUSTERS[target] * cluster_of(image) | flags)
    assert overlaps_of(patched)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["L1 table", "refcount table"])
@pytest.mark.parametrize("target", list(CLUSTERS)[1:])
def test_a_table_over_something_else_is_found(kind: str, table: str, target: str) -> None:
    image = KINDS[kind]()
    patched = entry(image, table, 1, CLUSTERS[target] * cluster_of(image))
    assert OVERLAP in checks_of(patched)
    assert judge(facts_of(patched))[0] is Status.UNSAFE


@pytest.mark.parametrize(("at", "name"), [(40, "L1 table"), (48, "refcount table"), (64, "snapshot table")])
@pytest.mark.parametrize("target", ["header", "refcount table", "refcount block", "L1 table"])
def test_a_table_of_the_header_over_something_else_is_found(at: int, name: str, target: str) -> None:
    image = qcow2(8 * MIB, allocated=3)
    patched = image.patched(at, struct.pack(">Q", CLUSTERS[target] * 65536))
    if name == "snapshot table":
        patched = patched.patched(60, struct.pack(">I", 1))
    if target != name:
        assert judge(facts_of(patched))[0] in {Status.UNSAFE, Status.DAMAGED}


@pytest.mark.parametrize(("kind", "at", "length_at"), [(0x0537BE77, 0, 8), (0x23852875, 16, 8)])
def test_structures_that_extensions_point_at_count(kind: int, at: int, length_at: int) -> None:
    """The structures are the encryption header and the bitmap directory."""
    body = bytearray(24)
    body[at : at + 8], body[length_at : length_at + 8] = struct.pack(">Q", 3 * 65536), struct.pack(">Q", 100)
    assert OVERLAP in checks_of(qcow2(8 * MIB, allocated=3, extensions=[(kind, bytes(body))]))


def test_clusters_that_are_shared_beyond_their_refcounts_are_found() -> None:
    """393 KB that read as 512 GiB: one L2 table is used a thousand times, and refers only to one cluster."""
    image = qcow2(512 * GIB, allocated=1)
    assert image.size == 6 * 65536
    cluster, table = struct.pack(">Q", COPIED | 5 * 65536), struct.pack(">Q", COPIED | 4 * 65536)
    image = image.patched(4 * 65536, cluster * 8192).patched(3 * 65536, table * 1024)
    assert facts_of(image).virtual_size == 512 * GIB
    assert overlaps_of(image) == ["cluster 4 has more references than its refcount states"]
    # Even the widest refcounts allow fewer references.
    allowed = image.patched(2 * 65536 + 2 * 4, b"\xff" * 4)
    assert overlaps_of(allowed) == ["cluster 5 has more references than its refcount states"]


@pytest.mark.parametrize("written", [False, True])
def test_clusters_may_be_shared_as_often_as_the_refcounts_say(written: bool) -> None:
    """QEMU copies a shared cluster before writing, unless the entry marks the cluster as not shared."""
    image = qcow2(8 * MIB, allocated=3)
    shared = struct.pack(">Q", (COPIED if written else 0) | 5 * 65536)
    image = image.patched(4 * 65536, shared).patched(4 * 65536 + 8 * 9, shared)
    counted = image.patched(2 * 65536 + 2 * 5, struct.pack(">H", 2))
    assert overlaps_of(image)
    if written:
        assert overlaps_of(counted) == [
            "several entries point to a cluster, but one of them states that its refcount is one"
        ]
    else:
        assert_good(counted)


@pytest.mark.parametrize("cluster", range(8))
def test_what_is_free_by_its_refcount_is_found(cluster: int) -> None:
    """QEMU could allocate this cluster for other data."""
    image = qcow2(8 * MIB, allocated=3)
    assert overlaps_of(image.patched(2 * 65536 + 2 * cluster, bytes(2)))


def test_refcounts_of_an_image_that_was_not_closed_say_nothing() -> None:
    image = qcow2(8 * MIB, allocated=3, incompatible=1).patched(2 * 65536 + 2 * 5, bytes(2))
    assert checks_of(image) == ["dirty"]


@pytest.mark.parametrize("value", [5 * 65536 + 512, 5 * 65536 | 1 << 56, 5 * 65536 | 2])
def test_an_entry_that_no_version_knows_is_a_contradiction(value: int) -> None:
    assert "structure" in checks_of(entry(qcow2(8 * MIB, allocated=3), "L2 table", 0, value))


def test_snapshots_share() -> None:
    facts = thorough_facts_of(qcow2(8 * MIB, allocated=3, snapshots=2))
    assert [finding.check for finding in facts.findings] == ["snapshots"]
    assert facts.wholeness is Wholeness.PROVEN


def test_a_snapshots_tables_are_read_where_that_is_wanted() -> None:
    image = qcow2(8 * MIB, allocated=3, snapshots=1)
    # The snapshot's L1 table is cluster 4, and the L2 table is cluster 5.
    hidden = image.patched(4 * 65536, struct.pack(">Q", 65536))
    assert OVERLAP not in checks_of(hidden)
    assert OVERLAP in [finding.check for finding in thorough_facts_of(hidden).findings]


def test_a_snapshot_whose_l1_table_is_too_short_is_found() -> None:
    image = qcow2(8 * MIB, allocated=3, snapshots=1)
    table = int.from_bytes(image.read(64, 8), "big")
    larger = image.patched(table + 48, struct.pack(">Q", GIB))
    assert "size_mismatch" in [finding.check for finding in thorough_facts_of(larger).findings]


def test_all_tables_of_a_large_image_are_read_where_that_is_wanted() -> None:
    image = qcow2(16 * GIB, allocated=range(0, 16 * 16384, 8192))
    hidden = image.patched((image.read(3 * 65536 + 8 * 30, 8)[0] and 0) or 0, b"")
    last = int.from_bytes(image.read(3 * 65536 + 8 * 30, 8), "big") & ~COPIED
    hidden = image.patched(last + 8 * 77, struct.pack(">Q", 3 * 65536))
    assert checks_of(hidden) == []
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE
    assert_good(image)


@pytest.mark.parametrize("order", range(7))
def test_refcounts_of_any_width_are_read(order: int) -> None:
    bits = 1 << order
    counts = [1, 0, 1, 1] if bits == 1 else [3, 0, 2, 1]
    if bits < 8:
        packed = sum(count << (bits * index) for index, count in enumerate(counts))
        block = packed.to_bytes(8, "little")
    else:
        block = b"".join(count.to_bytes(bits // 8, "big") for count in counts)
    assert list(decoded(block, bits))[:4] == counts
    held = Refcounts(bits, len(block) * 8 // bits, [512], {512: block}, known=ALL_BLOCKS, shared=False)
    assert held.exceeded([0, 2, 3]) is None
    assert held.exceeded([0, 1, 2]) == 1
    assert held.exceeded([3, 3]) == 3
    assert (held.exceeded([0, 0, 2, 2]) is None) == (bits > 1)
    assert held.exceeded([2], times=3) == 2
    assert held.exceeded([10**9]) == 10**9


QEMU = [
    "",
    "compat=0.10",
    *(f"cluster_size={size}" for size in (512, 4096, 16384, 262144, 2097152)),
    *(f"refcount_bits={1 << order}" for order in range(7)),
    "extended_l2=on",
    "extended_l2=on,cluster_size=2M",
    "lazy_refcounts=on",
    "compression_type=zstd",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full",
]


def guest(qemu_img: QemuImg, size: int = 40 * MIB) -> None:
    """A disk with incompressible data at some offsets."""
    import random

    choose = random.Random(5)  # noqa: S311 - noise, the same in every run
    with (qemu_img.folder / "disk").open("wb") as disk:
        disk.truncate(size)
        for at in (0, 7 * MIB, 9 * MIB + 70_000, 30 * MIB):
            disk.seek(at)
            disk.write(choose.randbytes(200_000))


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("options", QEMU)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_qemu_makes_is_whole_by_all_its_tables(
    qemu_img: QemuImg, options: str, compressed: bool
) -> None:
    if compressed and "preallocation" in options:
        return
    guest(qemu_img)
    path = qemu_img.folder / "image"
    more = (["-c"] if compressed else []) + (["-o", options] if options else [])
    qemu_img.run("convert", "-f", "raw", "-O", "qcow2", *more, "disk", path)
    assert_good(image_of(path))


@pytest.mark.qemu
@pytest.mark.parametrize("options", ["", "compat=0.10", "cluster_size=4096", "extended_l2=on"])
def test_what_qemu_makes_of_an_image_in_use_is_whole_by_all_its_tables(
    qemu_img: QemuImg, options: str
) -> None:
    """The image then has snapshots, data written after them, bitmaps, and a larger disk."""
    guest(qemu_img)
    path = qemu_img.folder / "image"
    more = ["-o", options] if options else []
    qemu_img.run("convert", "-f", "raw", "-O", "qcow2", *more, "disk", path)
    for name in ("one", "two"):
        qemu_img.run("snapshot", "-c", name, path)
        (qemu_img.folder / "other").write_bytes(name.encode() * 300_000)
        qemu_img.run("convert", "-n", "-f", "raw", "-O", "qcow2", "other", path)
    qemu_img.run("snapshot", "-d", "one", path)
    if "0.10" not in options:
        qemu_img.run("bitmap", "--add", path, "dirty")
    for facts in (facts_of(image_of(path)), thorough_facts_of(image_of(path))):
        assert [finding.check for finding in facts.findings] == ["snapshots"]
        assert facts.wholeness is Wholeness.PROVEN


@pytest.mark.qemu
@pytest.mark.parametrize("target", list(CLUSTERS)[1:])
def test_qemu_finds_it_too(qemu_img: QemuImg, target: str) -> None:
    image = entry(qcow2(8 * MIB, allocated=3), "L2 table", 9, CLUSTERS[target] * 65536 | COPIED)
    path = image.write_to(qemu_img.folder / "image")
    with pytest.raises(AssertionError, match=r"errors were found|corrupt"):
        qemu_img.run("check", path)
