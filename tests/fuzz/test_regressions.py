"""The fuzzer's target without the fuzzer: inputs that failed in the past, example images, changed images."""

from random import Random

import pytest

from keyhole.builders import Image, ewf, gpt_disk, luks2, tar, udf, vdi, vhd_dynamic, vhdx
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.catalogue import NAMES
from tests.fuzz import corpus
from tests.fuzz.checksums import repaired
from tests.fuzz.mutator import mutate, simple_change
from tests.fuzz.sparse_input import SparseInput
from tests.fuzz.target import WAYS, check

MIB = 1024**2
CHANGED_INPUTS = 400
#: For each image, the offset of a byte that a checksum covers.
SUMMED = {
    "vhdx": (vhdx(8 * MIB, block_size=MIB), 192 * 1024 + 100),
    "gpt": (gpt_disk(2 * MIB), 1024 + 60),
    "luks2": (luks2(MIB), 30),
    "vhd": (vhd_dynamic(7 * MIB, block_size=MIB), 30),
    "ewf": (ewf(MIB), 13 + 60),
    "udf": (udf(), 96 * 2048 + 300),
    "tar": (tar([("a.vdi", vdi(MIB)), ("b", vdi(MIB))]), 512 + vdi(MIB).size + 10),
}


def test_a_failure_of_once_does_not_fail_again() -> None:
    for name, data in corpus.regressions().items():
        try:
            check(data)
        except Exception as error:
            raise AssertionError(name) from error


@pytest.mark.slow
@pytest.mark.parametrize("way", range(len(WAYS)), ids=lambda way: WAYS[way].__name__)
def test_what_should_hold_does_of_every_image_of_ours(way: int) -> None:
    for number, one in enumerate(corpus.seeds().values()):
        check(SparseInput(one.image, steer=way + len(WAYS) * number % 256, seed=number).encode())


@pytest.mark.slow
def test_what_should_hold_does_of_changed_images() -> None:
    choose = Random(3)  # noqa: S311 - to choose changes, the same in every run
    seeds = [*corpus.seeds().values()]
    images = tuple(one.image for one in seeds)
    for number in range(CHANGED_INPUTS):
        check(mutate(seeds[number % len(seeds)], choose, images, simple_change).encode())


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 13, b"\xff" * 200, bytes(100)])
def test_any_bytes_are_an_input(data: bytes) -> None:
    check(data)


def test_an_input_is_the_same_after_it_was_written_down() -> None:
    for one in corpus.seeds().values():
        again = SparseInput.decode(one.encode())
        assert again.encode() == one.encode()
        assert again.image.size == one.image.size
        assert all(again.image.read(at, len(data)) == data for at, data in one.image.pieces)


@pytest.mark.parametrize("name", SUMMED)
def test_a_repaired_image_has_its_checksums(name: str) -> None:
    image, at = SUMMED[name]
    changed = image.patched(at, bytes([image.read(at, 1)[0] ^ 1]))
    assert "checksum_mismatch" not in _checks(image)
    assert "checksum_mismatch" in _checks(changed)
    assert "checksum_mismatch" not in _checks(repaired(changed))


def test_it_has_a_seed_of_every_format() -> None:
    named = {_facts(one.image).format for one in corpus.seeds().values()}
    assert named >= set(NAMES)


def _facts(image: Image) -> Facts:
    inspection = Inspection()
    inspection.finish(image.size)
    while missing := inspection.missing():
        inspection.feed(missing[0].offset, image.read(*missing[0]))
    return inspection.facts()


def _checks(image: Image) -> set[str]:
    return {finding.check for finding in _facts(image).findings}
