"""Exports of hypervisors are recognised by name, and are not reported as truncated disks."""

import gzip

import pytest

from keyhole.builders import Image, qcow2, tar
from keyhole.inspectors import Facts
from keyhole.scan.policy import judge
from tests.inspectors.archives.backups import MIB, vma, xva
from tests.inspectors.inspecting import facts_of


def reasons(facts: Facts) -> tuple[str, str]:
    status, (first, *_) = judge(facts)
    return status, first


@pytest.mark.parametrize(
    "image",
    [xva(), xva(digests=".checksum"), xva(folder="Ref:1"), xva(xva())],
    ids=["xxhash", "checksum", "another reference", "of an archive"],
)
def test_an_xva_is_named(image: Image) -> None:
    facts = facts_of(image)
    assert (facts.format, facts.subformat) == ("tar", "xva")
    assert reasons(facts) == ("rejected", "unsupported_subformat")
    assert {finding.check for finding in facts.findings} == {"unsupported_subformat"}


def test_so_is_that_of_old_releases() -> None:
    packed = gzip.compress(bytes(1000))
    chunk = Image.of(len(packed), [(0, packed)])
    facts = facts_of(tar([("ova.xml", Image.of(9, [])), ("xvda/chunk-000000000.gz", chunk)]))
    assert facts.subformat == "xva"


@pytest.mark.parametrize(
    "name", ["Ref:1/0000000", "Ref:x/00000000", "Ref:1/00000000.txt", "a/Ref:1/00000000"]
)
def test_a_file_that_is_no_chunk_is_looked_at(name: str) -> None:
    facts = facts_of(tar([("ova.xml", Image.of(9, [])), (name, qcow2(MIB, backing_file="/etc/shadow"))]))
    assert facts.subformat is None
    assert [member.name for member in facts.members] == [name]


def test_chunks_without_a_description_are_looked_at() -> None:
    facts = facts_of(tar([("Ref:1/00000000", qcow2(MIB, backing_file="/etc/shadow"))]))
    assert facts.subformat is None
    assert [member.name for member in facts.members] == ["Ref:1/00000000"]


def test_what_an_xva_holds_besides_is_looked_at() -> None:
    """An image that someone hides in an XVA is found."""
    image = tar([("ova.xml", Image.of(9, [])), ("Ref:1/00000000", Image.of(MIB, [])), ("a", qcow2(MIB))])
    assert [member.name for member in facts_of(image).members] == ["a"]


@pytest.mark.parametrize(("sizes", "total"), [((5 * MIB,), 5 * MIB), ((MIB, 3 * MIB), 4 * MIB), ((), None)])
def test_a_vma_is_named(sizes: tuple[int, ...], total: int | None) -> None:
    facts = facts_of(vma(sizes))
    assert (facts.format, facts.virtual_size) == ("vma", total)
    assert facts.details["devices"] == len(sizes)
    assert judge(facts) == ("rejected", ("unsupported_subformat",))


def test_a_compressed_vma_is_named() -> None:
    packed = gzip.compress(vma().to_bytes())
    facts = facts_of(Image.of(len(packed), [(0, packed)]))
    assert [member.facts.format for member in facts.members] == ["vma"]


def test_a_vma_of_another_version_is_unknown() -> None:
    assert "unknown_features" in judge(facts_of(vma(version=2)))[1]


def test_a_vma_that_is_cut_is_cut() -> None:
    assert "truncated" in judge(facts_of(vma().truncated(4096)))[1]


def test_sizes_that_no_disks_have_are_none() -> None:
    assert facts_of(vma((2**64 - 1, 2**64 - 1))).virtual_size is None
