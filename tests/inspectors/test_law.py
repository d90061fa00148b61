"""The law of all inspectors: two runs that end with nothing missing know the same, however the bytes came.

The images are good ones of every format, and the same with bytes changed and ends cut off, for what an image
says must not make the answer depend on the order in which it is told.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import (
    Image,
    asif,
    bochs,
    cloop,
    cowd,
    dmg,
    ewf,
    ewf2,
    gpt_disk,
    iso,
    luks,
    luks2,
    mbr_disk,
    parallels,
    qcow1,
    qcow2,
    qed,
    sesparse,
    sparseimage,
    udf,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_flat_descriptor,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.inspectors import FileInspector, ImageFormatError, Inspection
from keyhole.inspectors.catalogue import ALL
from keyhole.inspectors.formats.raw import RawDiskInspector

MIB = 1024**2

IMAGES = {
    "qcow2": qcow2(3 * MIB, cluster_bits=12, allocated=5, backing_file="/etc/shadow", snapshots=1),
    "qcow2 data file": qcow2(2 * MIB, cluster_bits=9, data_file="disk.raw"),
    "vhd fixed": vhd_fixed(MIB, content=mbr_disk(MIB, [(0x83, 63, 100)])),
    "vhd 511": vhd_fixed(MIB, footer_size=511),
    "vhd dynamic": vhd_dynamic(7 * MIB, block_size=MIB, allocated=2),
    "vhdx": vhdx(8 * MIB, block_size=MIB, allocated=1),
    "vhdx, metadata behind": vhdx(8 * MIB, block_size=MIB, metadata_offset=6 * MIB, bat_offset=2 * MIB),
    "vhdx, parent": vhdx(8 * MIB, block_size=MIB, parent="base.vhdx"),
    "vmdk": vmdk_sparse(2 * MIB, allocated=3),
    "vmdk, stream": vmdk_stream_optimized(2 * MIB, allocated=3),
    "vdi": vdi(3 * MIB, allocated=2),
    "gpt": gpt_disk(2 * MIB),
    "gpt 4096": gpt_disk(3 * MIB, sector=4096),
    "mbr": mbr_disk(MIB, [(0x83, 63, 100)]),
    "qcow": qcow1(MIB, allocated=3, backing_file="/etc/shadow"),
    "qed": qed(4 * MIB, cluster_size=4096, allocated=3),
    "parallels": parallels(4 * MIB, cluster_size=65536, allocated=3),
    "bochs": bochs(4 * MIB, allocated=2),
    "cloop": cloop(MIB, allocated=3),
    "dmg": dmg(2 * MIB, allocated=2),
    "sparseimage": sparseimage(4 * MIB, allocated=2),
    "asif": asif(4 * MIB, allocated=1),
    "ewf": ewf(MIB, allocated=2),
    "ewf2": ewf2(),
    "luks1": luks(2 * MIB),
    "luks2": luks2(MIB),
    "iso": iso(el_torito=True, joliet=True),
    "iso and udf": iso(400, udf=True),
    "udf": udf(),
    "iso, hybrid": iso(400).patched(446, mbr_disk(MIB, [(0x83, 63, 100)]).read(446, 66)),
    "vmdk, text": vmdk_flat_descriptor('version=1\ncreateType="vmfs"\nRW 9 VMFS "a-flat.vmdk"\n'),
    "cowd": cowd(4 * MIB, allocated=3),
    "sesparse": sesparse(4 * MIB, allocated=2),
    "nothing": Image.of(70_000, [(100, b"nothing that is known")]),
}
INSPECTORS = ALL
#: Where the formats' structures begin: changes near them matter more than elsewhere.
PLACES = sorted({at for image in IMAGES.values() for at, _ in image.pieces if at < 8 * MIB})


@st.composite
def images(draw: st.DrawFn) -> Image:
    image = draw(st.sampled_from(list(IMAGES.values())))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.sampled_from(PLACES)) + draw(st.integers(0, 128))
        change = draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))))
        if at + len(change) <= image.size:
            image = image.patched(at, change)
    if draw(st.integers(0, 3)) == 0:
        image = image.truncated(draw(st.integers(0, image.size)))
    return image


class Single:
    """One inspector, as an `Inspection` has it: an image that breaks it is an answer, too."""

    def __init__(self, inspector: FileInspector) -> None:
        self.inspector = inspector
        self.error: str | None = None

    def feed(self, offset: int, data: bytes) -> None:
        self._try(lambda: self.inspector.feed(offset, data))

    def finish(self, size: int) -> None:
        self._try(lambda: self.inspector.finish(size))

    def _try(self, call: Callable[[], None]) -> None:
        if self.error is None:
            try:
                call()
            except ImageFormatError as error:
                self.error = str(error)

    def missing(self) -> list[tuple[int, int]]:
        return [] if self.error else [(gap.offset, gap.length) for gap in self.inspector.missing()]

    def facts(self) -> object:
        one = self.inspector
        known = (
            one.virtual_size,
            one.subformat,
            one.content,
            one.wholeness,
            dict(one.details()),
            one.checks(),
        )
        return (one.format_match, self.error) if self.error else (one.format_match, known)


Run = Inspection | Single


def fetch(run: Run, image: Image) -> Run:
    """Ask for what is missing until nothing is."""
    for _ in range(100):
        missing = run.missing()
        if not missing:
            return run
        offset, length = missing[0]
        run.feed(offset, image.read(offset, length))
    raise AssertionError(f"it never has enough: {run.missing()}")


def told_at_once(run: Run, image: Image) -> Run:
    """The reference: the length first, then each range whole."""
    run.finish(image.size)
    return fetch(run, image)


def streamed(run: Run, image: Image, draw: st.DrawFn) -> Run:
    """From front to end in chunks of a random size, the length at the end, then what the stream passed."""
    size = draw(st.sampled_from([4093, 16 * 1024, 64 * 1024, 100_003, MIB, 16 * MIB]))
    for offset in range(0, image.size, size):
        run.feed(offset, image.read(offset, min(size, image.size - offset)))
    run.finish(image.size)
    return fetch(run, image)


def scattered(run: Run, image: Image, draw: st.DrawFn) -> Run:
    """Pieces of the image in any order, some twice, the length somewhere between; then the rest."""
    cuts = draw(
        st.lists(st.integers(0, min(image.size, 6 * MIB)), max_size=8).map(lambda at: sorted({0, *at}))
    )
    spans = [(start, end - start) for start, end in pairwise(cuts)]
    order = draw(st.permutations([*spans, *spans[:2]]))
    told = draw(st.integers(0, len(order)))
    for number, (offset, length) in enumerate(order):
        if number == told:
            run.finish(image.size)
        run.feed(offset, image.read(offset, length))
    run.finish(image.size)
    return fetch(run, image)


def crumbled(run: Run, image: Image, draw: st.DrawFn) -> Run:
    """What is missing, but a part of it at a time, from its end or its middle, with bytes around it."""
    late = draw(st.booleans())
    if not late:
        run.finish(image.size)
    for number in range(400):
        missing = run.missing()
        if not missing:
            break
        offset, length = missing[number % len(missing)]
        part = max(1, length // draw(st.integers(1, 3)))
        start = max(0, offset + length - part - draw(st.integers(0, 20)))
        run.feed(start, image.read(start, min(part + 40, max(0, image.size - start))))
        if start >= image.size:
            run.finish(image.size)
    run.finish(image.size)
    return fetch(run, image)


WAYS = [streamed, scattered, crumbled]


@given(st.data(), images(), st.sampled_from(WAYS))
def test_an_inspection_knows_the_same_however_the_bytes_came(
    data: st.DataObject, image: Image, way: Callable[[Run, Image, st.DrawFn], Run]
) -> None:
    """The law, for all inspectors at once."""
    reference = told_at_once(Inspection(), image).facts()
    assert way(Inspection(), image, data.draw).facts() == reference


@pytest.mark.parametrize("kind", [*INSPECTORS, RawDiskInspector], ids=lambda kind: kind.__name__)
@given(data=st.data(), image=images(), way=st.sampled_from(WAYS))
def test_an_inspector_knows_the_same_however_the_bytes_came(
    kind: type[FileInspector],
    data: st.DataObject,
    image: Image,
    way: Callable[[Run, Image, st.DrawFn], Run],
) -> None:
    """The law, for each inspector alone, over images of its own and of other formats."""
    reference = told_at_once(Single(kind()), image).facts()
    assert way(Single(kind()), image, data.draw).facts() == reference


#: What they need lies before what leads to it, DMG's trailer.
LED_BACK = {"dmg"}


@pytest.mark.parametrize("name", sorted(set(IMAGES) - LED_BACK))
def test_a_stream_that_misses_nothing_knows_what_a_fetch_knows(name: str) -> None:
    """Laid out as tools lay them out, an image declares every region before the stream is there."""
    image = IMAGES[name]
    stream = Inspection()
    for offset in range(0, image.size, 64 * 1024):
        stream.eat_chunk(image.read(offset, min(64 * 1024, image.size - offset)))
    stream.finish()

    assert stream.missing() == []
    assert stream.complete
    assert stream.facts() == told_at_once(Inspection(), image).facts()


def test_a_stream_that_passed_a_region_says_so() -> None:
    """A metadata region before the region table that leads to it would be passed before it is known."""
    # Given a VHDX whose region tables lead to a place that the stream has passed
    image = vhdx(8 * MIB, block_size=MIB)
    stream = Inspection()
    for offset in range(256 * 1024, image.size, 64 * 1024):
        stream.feed(offset, image.read(offset, 64 * 1024))
    # When its head comes last
    stream.feed(0, image.read(0, 256 * 1024))
    stream.finish(image.size)
    # Then the region is still wanted, and nothing is complete
    assert stream.missing()
    assert not stream.complete
    assert not stream.facts().complete
    # And whoever can fetch it has the same facts as ever
    assert fetch(stream, image).facts() == told_at_once(Inspection(), image).facts()
