"""The size of a VHD by QEMU's rule, compared with the installed QEMU."""

import re

import pytest

from keyhole.builders import Image, vhd_dynamic, vhd_fixed
from keyhole.inspectors.readers import QEMU, QEMU_9
from tests.conftest import QemuImg
from tests.inspectors.formats.vhds import with_footer
from tests.inspectors.inspecting import facts_of

MIB, GIB = 1024**2, 1024**3
CREATORS = [
    b"vpc ",
    b"vs  ",
    b"win ",
    b"qemu",
    b"qem2",
    b"d2v ",
    b"CTXS",
    b"tap\0",
    b"wa\0\0",
    b"tap ",
    b"CTX ",
    b"WIN ",
]
OTHERS = [b"dutl", b"vbox", b"xo  ", b"caml", b"86Bx", b"\0\0\0\0"]
#: Geometries: the largest below the size, the maximum for IDE, none, and the maximum.
GEOMETRIES = {
    "nearest": b"",
    "capped": bytes([1, 0, 16, 63]),
    "none": bytes(4),
    "largest": b"\xff\xff\x10\xff",
}


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("creator", [*CREATORS, *OTHERS])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("build", [vhd_dynamic, vhd_fixed])
def test_qemu_takes_the_size_that_its_rule_says(
    qemu_img: QemuImg, creator: bytes, geometry: str, build: object
) -> None:
    assert callable(build)
    image: Image = build(513 * MIB, creator=creator)
    if GEOMETRIES[geometry]:
        if build is vhd_fixed:
            # `with_footer` also changes a copy at the front, which a fixed image does not have.
            image = with_footer(image, 56, GEOMETRIES[geometry], only=image.size - 512)
        else:
            image = with_footer(image, 56, GEOMETRIES[geometry])
    version = re.search(r"version (\d+)", qemu_img.run("--version"))
    assert version is not None
    reader = QEMU if int(version[1]) >= 10 else QEMU_9
    said = qemu_img(image.write_to(qemu_img.folder / "image"), "vpc")["virtual-size"]
    assert said == (facts_of(image).virtual_size_by(reader) or 0)
