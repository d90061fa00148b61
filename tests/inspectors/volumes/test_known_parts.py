"""What is known of a volume when only parts of its bytes have been read: always enough, never misleading."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.volumes import FRONT, SIGNATURES, far, names
from tests.inspectors.volumes.conftest import Volume
from tests.inspectors.volumes.views import BytesView, NotingView, PartView

KIB, MIB, GIB = 1024, 1024**2, 1024**3
#: The number of random parts of each volume.
WAYS = 40


def lies_in(part: ByteRange, ranges: tuple[ByteRange, ...], size: int) -> bool:
    """Whether a range, as far as it is inside the volume, lies in one of these ranges."""
    end = min(part.end, size)
    return end <= part.offset or any(one.offset <= part.offset and end <= one.end for one in ranges)


def test_nothing_is_read_but_what_is_said_to_be(volume: Volume) -> None:
    """Every read is in the ranges for the volume's size or for an unknown size.

    The ranges for an unknown size include marks of larger volumes, which are read although they are not
    there.
    """
    size = volume.view.size
    assert size is not None
    noting = NotingView(volume.view)
    names(noting)
    said = (ByteRange(0, FRONT), *far(size), *far(None))
    assert [part for part in noting.noted if not lies_in(part, said, size)] == []


def test_what_is_said_to_be_read_is_enough(volume: Volume) -> None:
    size = volume.view.size
    assert size is not None
    assert names(PartView(volume.view, (ByteRange(0, min(FRONT, size)), *far(size)), size)) == (volume.kind,)


def test_the_front_is_enough_unless_what_tells_it_stands_behind(volume: Volume) -> None:
    size = volume.view.size
    assert size is not None
    behind = volume.kind in {"drbd", "VMFS"} or volume.name in {
        "raid 0.90 <",
        "raid 0.90 >",
        "raid 1.0",
        "nilfs2, its first superblock lost",
        f"ufs at {256 * KIB}",
    }
    front = PartView(volume.view, [ByteRange(0, FRONT)], size)
    assert names(front) == (() if behind else (volume.kind,))


def test_with_bytes_unknown_there_is_no_other_name(volume: Volume) -> None:
    random = Random(volume.name)  # noqa: S311 - the same parts in every run
    size = volume.view.size
    assert size is not None
    borders = [0, 512, 1024, 2048, 4096, 8192, 32 * KIB, 64 * KIB, 128 * KIB, FRONT, size - 4096, size]
    for _ in range(WAYS):
        cuts = sorted({random.choice(borders) + random.choice([0, 0, 1, 64, -1, 300]) for _ in range(6)})
        cuts = [cut for cut in cuts if 0 <= cut <= size]
        parts = [ByteRange(a, b - a) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
        known_size = random.choice([size, size, None])
        assert names(PartView(volume.view, parts, known_size)) in {(), (volume.kind,)}


#: Unknown sizes, small sizes around the relevant offsets, and all other sizes in bytes.
SIZES = st.none() | st.integers(0, 1 << 63) | st.integers(0, 4 * MIB)


@given(size=SIZES)
def test_what_is_read_lies_inside_the_volume_in_order_and_is_little(size: int | None) -> None:
    behind = far(size)
    assert sum(part.length for part in behind) <= 10 * KIB
    assert all(part.length > 0 and (size is None or part.end <= size) for part in behind)
    assert all(one.end < other.offset for one, other in pairwise(behind))


def test_without_a_size_the_end_is_not_read() -> None:
    assert [part.offset for part in far(None)] == [FRONT, MIB, 2 * MIB]
    *front, raid_0, last = far(GIB)
    assert [part.offset for part in front] == [FRONT, MIB, 2 * MIB]
    assert (raid_0.offset, last.offset) == (GIB - 64 * KIB, GIB - 8192)


@given(known=st.binary(max_size=3000), size=SIZES)
def test_any_bytes_have_a_name_or_none(known: bytes, size: int | None) -> None:
    view = BytesView(known, size)
    assert set(names(view)) <= {signature.name for signature in SIGNATURES}
    assert names(view) == names(view)


PLACES = [(signature, place) for signature in SIGNATURES for place in signature.places]


@pytest.mark.parametrize("size", [None, GIB])
@given(data=st.data())
def test_any_bytes_around_a_magic_number_have_a_name_or_none(size: int | None, data: st.DataObject) -> None:
    _, place = data.draw(st.sampled_from(PLACES))
    filler = data.draw(st.sampled_from([b"\0", b"\xff", b"\1", b"\x80"]))
    superblock = data.draw(st.binary(max_size=512))
    known = bytearray(filler * (place.offset + place.length))
    known[place.offset : place.offset + len(superblock)] = superblock
    known[place.offset + place.at : place.offset + place.at + len(place.magic)] = place.magic
    view = BytesView(bytes(known), size)
    assert set(names(view)) <= {signature.name for signature in SIGNATURES}
    shorter = BytesView(bytes(known[: data.draw(st.integers(0, len(known)))]), size)
    assert set(names(shorter)) <= set(names(view))
