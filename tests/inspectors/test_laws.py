"""Laws for all inspectors, tested with example images of all formats in the catalogue.

The first law: two runs that end with nothing missing give the same facts, whatever the order of the bytes. It
must also hold for images with changed bytes and images that are cut off, because an image must not be able to
make its verdict depend on the order in which it is read.
"""

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, vhdx
from keyhole.inspectors import FileInspector, ImageFormatError, Inspection, Wholeness
from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.inspectors.archives.vma import VMAInspector
from keyhole.inspectors.archives.zip.inspector import ZipInspector
from keyhole.inspectors.catalogue import FORMATS, FRONT_BYTES, NAMES, KnownBy, all_inspectors
from keyhole.inspectors.compression.bzip2 import Bzip2Inspector
from keyhole.inspectors.compression.gzip import GzipInspector
from keyhole.inspectors.compression.lz4 import Lz4Inspector
from keyhole.inspectors.compression.lzma_alone import LzmaInspector
from keyhole.inspectors.compression.xz import XzInspector
from keyhole.inspectors.compression.zstd import ZstdInspector
from keyhole.inspectors.formats.asif import ASIFInspector
from keyhole.inspectors.formats.bochs import BochsInspector
from keyhole.inspectors.formats.cloop import CloopInspector
from keyhole.inspectors.formats.dmg import DMGInspector
from keyhole.inspectors.formats.ewf import EWFInspector
from keyhole.inspectors.formats.iso import ISOInspector
from keyhole.inspectors.formats.luks.inspector import LUKSInspector
from keyhole.inspectors.formats.parallels import ParallelsInspector
from keyhole.inspectors.formats.qcow1 import QcowV1Inspector
from keyhole.inspectors.formats.qcow2.inspector import QcowInspector
from keyhole.inspectors.formats.qed import QEDInspector
from keyhole.inspectors.formats.raw import RawDiskInspector
from keyhole.inspectors.formats.sparseimage import SparseImageInspector
from keyhole.inspectors.formats.vdi import VDIInspector
from keyhole.inspectors.formats.vhd import VHDInspector
from keyhole.inspectors.formats.vhdx.inspector import VHDXInspector
from keyhole.inspectors.formats.vmdk.cowd import COWDInspector
from keyhole.inspectors.formats.vmdk.sesparse import SESparseInspector
from keyhole.inspectors.formats.vmdk.sparse import VMDKInspector
from keyhole.inspectors.formats.vmdk.text import VMDKTextInspector
from tests.examples import EXAMPLES, LEADS_OUTSIDE, NOTHING, images_of, is_small, whole
from tests.inspectors.feeding import WAYS, Run, Single, fetch, told_at_once
from tests.inspectors.inspecting import facts_of
from tests.inspectors.laws import (
    LONGEST_MESSAGE,
    MOST_HELD,
    Limits,
    exhaust,
    keeps_the_law,
    mutated,
    stays_small,
    survives_mutations,
)
from tests.inspectors.one_inspector import inspected
from tests.slow import slow

KIB, MIB = 1024, 1024**2
KINDS = (*all_inspectors(), RawDiskInspector)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
Way = Callable[[Run, Image, st.DrawFn], Run]
#: Limits of inspectors that need more than others, or must need less.
LIMITS = {
    QcowInspector: Limits(findings=50),
    VHDXInspector: Limits(ranges=3),
    VMDKInspector: Limits(held=MOST_HELD, ranges=6, findings=50),
    COWDInspector: Limits(held=256 * KIB, findings=50),
    SESparseInspector: Limits(held=128 * KIB, findings=50),
    VMDKTextInspector: Limits(held=1025 * KIB, findings=50),
    LUKSInspector: Limits(findings=50),
    # If the first anchor is missing, Keyhole looks for two others, each for three block sizes.
    ISOInspector: Limits(ranges=7),
    # A range for each member's header, and the ranges that the member's inspector needs.
    OVAInspector: Limits(held=MOST_HELD, ranges=100),
    ZipInspector: Limits(held=MOST_HELD, ranges=100),
    RawDiskInspector: Limits(held=MOST_HELD),
}
#: The number of bytes at the front that identify a format, for formats with marks at the front.
MARKS: dict[type[FileInspector], int] = {
    QcowInspector: 8,
    VHDXInspector: 8,
    VMDKInspector: 4,
    COWDInspector: 4,
    SESparseInspector: 8,
    VDIInspector: 68,
    VHDInspector: 8,
    QcowV1Inspector: 8,
    QEDInspector: 4,
    ParallelsInspector: 16,
    LUKSInspector: 6,
    BochsInspector: 23,
    CloopInspector: 38,
    SparseImageInspector: 4,
    ASIFInspector: 4,
    EWFInspector: 8,
    VMAInspector: 4,
    OVAInspector: 262,
    ZipInspector: 4,
    GzipInspector: 3,
    XzInspector: 6,
    ZstdInspector: 4,
    Bzip2Inspector: 10,
    Lz4Inspector: 4,
    LzmaInspector: 14,
}
each_with_marks = pytest.mark.parametrize("kind", MARKS, ids=lambda kind: kind.__name__)
#: Offsets of front bytes that are not marks: a text, a part of a version, a file's name, a block size.
NO_MARKS: dict[type[FileInspector], set[int]] = {
    QcowInspector: {7},
    VDIInspector: set(range(64)),
    OVAInspector: set(range(257)),
    Bzip2Inspector: {3},
    LzmaInspector: {0, 3},
}
#: Inspectors that find every cut, because the format's structures lead to the object's last byte.
FIND_EVERY_CUT = (
    *(COWDInspector, SESparseInspector, QcowV1Inspector, QEDInspector, ParallelsInspector),
    *(BochsInspector, CloopInspector, SparseImageInspector, EWFInspector, ZipInspector),
    *(GzipInspector, XzInspector, ZstdInspector, Bzip2Inspector, Lz4Inspector, LzmaInspector),
)
#: Examples, each with the number of a disk. Keyhole does not read the table entries that lead to the last
#: byte of these images. The last two examples are streams without content, in which the only finding is the
#: missing dictionary.
END_NOT_READ = {
    *(("parallels", 3), ("parallels, old", 1), ("bochs", 4)),
    *(("sparseimage", 3), ("sparseimage, 512 B bands", 1)),
    *(("lz4, dictionary", 0), ("zstd, dictionary", 0)),
}


@cache
def small_images(kind: type[FileInspector]) -> list[Image]:
    """Images of an inspector's own format that are read to their ends quickly."""
    return [*filter(is_small, images_of(FileInspector if kind is RawDiskInspector else kind))]


#: An image of every variant.
IMAGES = {**{name: one.image for name, one in EXAMPLES.items()}, "nothing": NOTHING}
#: The offsets of the formats' structures. Changes near them matter more than elsewhere.
PLACES = sorted({at for image in IMAGES.values() for at, _ in image.pieces if at < 8 * MIB})
#: Examples in which a structure at the end, such as a trailer or a directory, leads to earlier bytes.
LED_BACK = {name for name in EXAMPLES if name.startswith(("dmg", "zip"))} | {
    *("vmdk text, far extent", "udf, 4 KiB blocks", "ova, chunks"),
}
#: Inspectors that need ranges which a stream in small chunks has already passed.
MISS_SMALL_CHUNKS = {
    *(COWDInspector, DMGInspector, EWFInspector, ISOInspector, OVAInspector, ZipInspector, RawDiskInspector),
    *(GzipInspector, XzInspector, ZstdInspector, Bzip2Inspector, Lz4Inspector, LzmaInspector),
}


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Images of all formats, some with a few changed bytes or cut off."""
    image = draw(st.sampled_from(list(IMAGES.values())))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.sampled_from(PLACES)) + draw(st.integers(0, 128))
        change = draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))))
        if at + len(change) <= image.size:
            image = image.patched(at, change)
    if draw(st.integers(0, 3)) == 0:
        image = image.truncated(draw(st.integers(0, image.size)))
    return image


def test_every_format_of_the_catalogue_has_examples() -> None:
    assert {one.inspector for one in EXAMPLES.values()} == set(all_inspectors())
    assert {name for name in NAMES if whole(name)} == set(NAMES)
    assert [name for name, one in EXAMPLES.items() if not is_small(one.image)] == []


@pytest.mark.parametrize("kind", all_inspectors(), ids=lambda kind: kind.__name__)
def test_the_examples_of_a_format_are_what_they_are_said_to_be(kind: type[FileInspector]) -> None:
    (row,) = [row for row in FORMATS if row.inspector is kind]
    for one in EXAMPLES.values():
        for facts in map(facts_of, one.images) if one.inspector is kind else ():
            assert facts.format in row.names, one.name
            assert one.outside == bool({finding.check for finding in facts.findings} & LEADS_OUTSIDE), (
                one.name
            )


def test_the_formats_with_marks_at_their_fronts_are_all_that_are_known_by_them() -> None:
    assert set(MARKS) == {row.inspector for row in FORMATS if KnownBy.PREFIX in row.known_by}


@given(st.data(), images(), st.sampled_from(WAYS))
def test_an_inspection_knows_the_same_however_the_bytes_came(
    data: st.DataObject, image: Image, way: Way
) -> None:
    """The first law, for all inspectors at once."""
    reference = told_at_once(Inspection(), image).facts()
    assert way(Inspection(), image, data.draw).facts() == reference


@each_kind
@given(data=st.data(), image=images(), way=st.sampled_from(WAYS))
def test_an_inspector_knows_the_same_of_any_image_however_the_bytes_came(
    kind: type[FileInspector], data: st.DataObject, image: Image, way: Way
) -> None:
    """The first law for each inspector alone, over images of all formats."""
    reference = told_at_once(Single(kind()), image).facts()
    assert way(Single(kind()), image, data.draw).facts() == reference


@each_kind
@given(data=st.data())
def test_an_inspector_knows_the_same_of_its_own_images_however_the_bytes_came(
    kind: type[FileInspector], data: st.DataObject
) -> None:
    """The first law for each inspector alone, over images of its own format."""
    keeps_the_law(kind, small_images(kind), data)


@each_kind
def test_a_stream_that_misses_nothing_knows_what_a_fetch_knows(kind: type[FileInspector]) -> None:
    """In images that tools write, each region is declared before the stream reaches it."""
    # An object that is shorter than the front is identified only when its length is known.
    examples = [one for name, one in EXAMPLES.items() if one.inspector is kind and name not in LED_BACK]
    images = [image for one in examples for image in one.images if is_small(image)]
    for image in [*images, NOTHING]:
        stream = Inspection()
        for offset in range(0, image.size, 64 * KIB):
            stream.eat_chunk(image.read(offset, min(64 * KIB, image.size - offset)))
        stream.finish()

        assert stream.missing() == [] or image.size < FRONT_BYTES
        assert stream.complete or image.size < FRONT_BYTES
        assert fetch(stream, image).facts() == told_at_once(Inspection(), image).facts()


def test_a_stream_that_passed_a_region_says_so() -> None:
    """The stream passes the metadata region before it reads the region table that leads to it."""
    # Given a VHDX whose region tables refer to a place that the stream has passed
    image = vhdx(8 * MIB, block_size=MIB)
    stream = Inspection()
    for offset in range(256 * KIB, image.size, 64 * KIB):
        stream.feed(offset, image.read(offset, 64 * KIB))
    # When the front of the image comes last
    stream.feed(0, image.read(0, 256 * KIB))
    stream.finish(image.size)
    # Then the region is still missing, and nothing is complete
    assert stream.missing()
    assert not stream.complete
    assert not stream.facts().complete
    # And a caller that can fetch it gets the same facts as in every other order
    assert fetch(stream, image).facts() == told_at_once(Inspection(), image).facts()


@pytest.mark.parametrize(
    ("chunks", "most"), [((100, 4 * KIB, MIB), 100), slow((7,), 100), slow((1,), 1)], ids=str
)
@each_kind
def test_the_size_of_a_streams_chunks_does_not_matter(
    kind: type[FileInspector], chunks: tuple[int, ...], most: int
) -> None:
    for image in (one.truncated(70 * KIB) for one in small_images(kind)[:most]):
        reference = told_at_once(Single(kind()), image)
        data = image.to_bytes()
        for size in chunks:
            stream = Single(kind())
            for start in range(0, len(data), size):
                stream.feed(start, data[start : start + size])
            stream.finish(len(data))
            assert stream.missing() == [] or kind in MISS_SMALL_CHUNKS, size
            assert fetch(stream, image).facts() == reference.facts(), size


@pytest.mark.parametrize("mutations", [50, slow(1000)])
@each_kind
def test_a_mutated_image_never_breaks_an_inspector_that_never_asks_for_much(
    kind: type[FileInspector], mutations: int
) -> None:
    images = small_images(kind)
    survives_mutations(kind, images, -(-mutations // len(images)), LIMITS.get(kind, Limits()))


@pytest.mark.parametrize("mutations", [25, slow(500)])
@each_kind
def test_a_mutated_image_never_breaks_an_inspection(kind: type[FileInspector], mutations: int) -> None:
    choose = random.Random(kind.__name__)  # noqa: S311 - to choose mutations, the same in every run
    images = small_images(kind)
    for image in images:
        for _ in range(-(-mutations // len(images))):
            facts = exhaust(mutated(image, choose)).facts()
            assert facts.virtual_size is None or 0 < facts.virtual_size < 2**64 * 4096
            assert len(facts.findings) < 100
            assert all(len(finding.message) < LONGEST_MESSAGE for finding in facts.findings)


@each_with_marks
@given(data=st.data(), noise=st.binary(max_size=3000), chunk_size=st.integers(1, 4000))
def test_any_bytes_behind_the_marks_raise_nothing_but_the_formats_error(
    kind: type[FileInspector], data: st.DataObject, noise: bytes, chunk_size: int
) -> None:
    """The same is true for bytes after the first fields of a good image."""
    front = fronts(kind)[0]
    content = front[: data.draw(st.sampled_from([MARKS[kind], *range(MARKS[kind], 128, 4)]))] + noise
    stays_small(kind(), Image.of(len(content), [(0, content)]), LIMITS.get(kind, Limits()))
    inspector = kind()
    try:
        for start in range(0, len(content), chunk_size):
            inspector.eat_chunk(content[start : start + chunk_size])
        inspector.finish()
    except ImageFormatError:
        return
    assert inspector.virtual_size >= 0
    assert isinstance(inspector.checks(), list)
    assert isinstance(inspector.details(), dict)


@each_with_marks
def test_the_front_alone_tells_whether_it_is_one(kind: type[FileInspector]) -> None:
    for front in fronts(kind):
        for length in range(FRONT_BYTES + 1):
            assert kind.matches_prefix(front[:length]) == (length >= MARKS[kind]), length
        assert not kind.matches_prefix(front[1:])


@each_with_marks
def test_a_front_with_another_mark_is_another_format(kind: type[FileInspector]) -> None:
    for front in fronts(kind):
        for at in set(range(MARKS[kind])) - NO_MARKS.get(kind, set()):
            for change in (1, 2, 3, 0x20, 0x80, 0xFF):
                other = front[:at] + bytes([front[at] ^ change]) + front[at + 1 :]
                assert not kind.matches_prefix(other), (at, change)


@pytest.mark.parametrize(
    "kind", [kind for kind in MARKS if kind is not VHDInspector], ids=lambda kind: kind.__name__
)
def test_an_inspector_finds_nothing_in_an_image_with_another_mark(kind: type[FileInspector]) -> None:
    """VHD is the exception, because a dynamic VHD has a copy of its first bytes at its end."""
    for image in small_images(kind):
        at = MARKS[kind] - 1 if kind is not QcowInspector else 3
        inspector = inspected(kind, image.patched(at, bytes([image.read(at, 1)[0] ^ 0x80])))
        assert not inspector.format_match
        assert inspector.checks() == []


@pytest.mark.parametrize("kind", FIND_EVERY_CUT, ids=lambda kind: kind.__name__)
def test_every_cut_is_found(kind: type[FileInspector]) -> None:
    """Cuts are in the header and the tables, at the ends of the builder's pieces, and between them."""
    for one in EXAMPLES.values():
        for number, image in enumerate(one.images if one.inspector is kind else ()):
            if (one.name, number) in END_NOT_READ:
                continue
            for size in cuts(kind, image):
                inspector = inspected(kind, image.truncated(size))
                assert "truncated" in [finding.check for finding in inspector.checks()], (one.name, size)
                assert inspector.wholeness is Wholeness.UNCHECKED, (one.name, size)


def cuts(kind: type[FileInspector], image: Image) -> list[int]:
    """Return the lengths to which an image is cut, in bytes. The marks of its format stay whole."""
    ends = [at + more for at, data in image.pieces for more in (1, len(data) - 1, len(data))]
    near = [*range(MARKS[kind], 3000, 13), *ends[:60], *ends[-60:], image.size - 1]
    far = range(3000, image.size, max(97, image.size // 50))
    return sorted(size for size in {*near, *far} if MARKS[kind] <= size < image.size)


def fronts(kind: type[FileInspector]) -> list[bytes]:
    """The first bytes of a format's images. A fixed VHD is left out, because its only mark is at its end."""
    return [
        one.image.read(0, FRONT_BYTES)
        for one in EXAMPLES.values()
        if one.inspector is kind and not one.name.startswith("vhd fixed")
    ]
