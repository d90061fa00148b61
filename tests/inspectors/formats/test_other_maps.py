"""The other formats with a map: entries that lead to headers, to tables, or to one place twice."""

import struct
from collections.abc import Callable

import pytest

from keyhole.builders import Image, bochs, cloop, cowd, parallels, qcow1, qed, sesparse, sparseimage
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.conftest import QemuImg
from tests.inspectors.formats.maps import OVERLAP, assert_good
from tests.inspectors.inspecting import facts_of
from tests.inspectors.one_inspector import image_of

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def number(image: Image, at: int, form: str) -> int:
    """Read a number from an image."""
    return int(struct.unpack(form, image.read(at, struct.calcsize(form)))[0])


def changed(image: Image, at: int, form: str, value: int) -> Image:
    """An image with a changed number."""
    return image.patched(at, struct.pack(form, value))


def qcow1_with(table: str, target: str) -> Image:
    """A qcow with an entry that leads to one of its own structures."""
    image = qcow1(GIB, allocated=3)
    l1 = number(image, 40, ">Q")
    l2 = number(image, l1, ">Q")
    places = {"header": 1, "L1": l1, "L2": l2, "block": number(image, l2 + 8, ">Q")}
    at = {"L1": l1 + 8, "L2": l2 + 8 * 77}[table]
    return changed(image, at, ">Q", places[target])


def qed_with(table: str, target: str) -> Image:
    """A QED with an entry that leads to one of its own structures."""
    image = qed(8 * GIB, allocated=3)
    l1 = number(image, 40, "<Q")
    l2 = number(image, l1, "<Q")
    places = {"L1": l1, "L2": l2, "block": number(image, l2 + 8, "<Q")}
    at = {"L1": l1 + 8, "L2": l2 + 8 * 77}[table]
    return changed(image, at, "<Q", places[target])


def parallels_with(target: str, *, extended: bool) -> Image:
    """A Parallels image with an entry that leads to one of its own structures."""
    image = parallels(64 * GIB, cluster_size=64 * KIB, allocated=3, extended=extended)
    unit = 64 * KIB if extended else 512
    places = {"BAT": 64 * KIB // unit, "block": number(image, 64, "<I")}
    return changed(image, 64 + 4 * 77, "<I", places[target])


def cowd_with(table: str, target: str) -> Image:
    """A COWD with an entry that leads to one of its own structures."""
    image = cowd(GIB, allocated=3)
    directory = number(image, 20, "<I")
    first = number(image, directory * 512, "<I")
    block = number(image, first * 512 + 4, "<I")
    places = {"header": 1, "directory": directory, "table": first, "block": block}
    at = {"directory": directory * 512 + 4, "table": first * 512 + 4 * 77}[table]
    return changed(image, at, "<I", places[target])


def sesparse_with(target: str) -> Image:
    """A SESparse with two structures at one place, or two entries for one grain."""
    image = sesparse(GIB, allocated=3)
    if target == "table":
        directory = number(image, 128, "<Q") * 512
        return changed(image, directory + 8, "<Q", number(image, directory, "<Q"))
    if target == "block":
        table = number(image, 144, "<Q") * 512
        return changed(image, table + 8 * 77, "<Q", number(image, table + 8, "<Q"))
    return changed(image, 144, "<Q", {"header": 0, "directory": number(image, 128, "<Q")}[target])


def bochs_with_a_block_twice() -> Image:
    """A Bochs image with two entries for one extent."""
    image = bochs(GIB, allocated=3)
    catalog = number(image, 68, "<I")
    return changed(image, catalog + 4 * 77, "<I", number(image, catalog, "<I"))


HOSTILE: dict[str, Callable[[], Image]] = {
    **{f"qcow L1 at {t}": lambda t=t: qcow1_with("L1", t) for t in ("header", "L1", "L2", "block")},
    **{f"qcow L2 at {t}": lambda t=t: qcow1_with("L2", t) for t in ("header", "L1", "L2", "block")},
    **{f"qed L1 at {t}": lambda t=t: qed_with("L1", t) for t in ("L1", "L2", "block")},
    **{f"qed L2 at {t}": lambda t=t: qed_with("L2", t) for t in ("L1", "L2", "block")},
    **{f"parallels at {t}": lambda t=t: parallels_with(t, extended=True) for t in ("BAT", "block")},
    **{f"old parallels at {t}": lambda t=t: parallels_with(t, extended=False) for t in ("BAT", "block")},
    **{
        f"cowd directory at {t}": lambda t=t: cowd_with("directory", t)
        for t in ("header", "directory", "table", "block")
    },
    **{
        f"cowd table at {t}": lambda t=t: cowd_with("table", t)
        for t in ("header", "directory", "table", "block")
    },
    **{f"sesparse at {t}": lambda t=t: sesparse_with(t) for t in ("header", "directory", "table", "block")},
    "bochs at block": bochs_with_a_block_twice,
    "cloop at table": lambda: changed(cloop(MIB, allocated=3), 136, ">Q", 140),
    "sparseimage node at bands": lambda: changed(sparseimage(GIB, allocated=3), 20, ">Q", 4096 + 8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_map_that_points_at_something_else_is_found(name: str) -> None:
    facts = facts_of(HOSTILE[name]())
    status, reasons = judge(facts)
    assert status is Status.UNSAFE
    assert OVERLAP in reasons


@pytest.mark.parametrize(
    "image",
    [
        qcow1(GIB, allocated=3),
        qcow1(GIB, allocated=3, compressed=True),
        qed(8 * GIB, allocated=3),
        parallels(8 * GIB, allocated=3),
        parallels(8 * GIB, allocated=3, extended=False),
        bochs(GIB, allocated=3),
        cloop(MIB, allocated=3),
        sparseimage(GIB, allocated=3),
    ],
)
def test_good_ones_are_safe(image: Image) -> None:
    assert_good(image)


@pytest.mark.qemu
@pytest.mark.parametrize("kind", ["qed", "parallels"])
def test_qemu_finds_it_too_where_it_looks(qemu_img: QemuImg, kind: str) -> None:
    name = {"qed": "qed L2 at block", "parallels": "parallels at block"}[kind]
    path = HOSTILE[name]().write_to(qemu_img.folder / "image")
    assert OVERLAP in [finding.check for finding in facts_of(image_of(path)).findings]
    if kind == "qed":
        with pytest.raises(AssertionError, match="errors were found"):
            qemu_img.run("check", path)
