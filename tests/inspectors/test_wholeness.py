"""What `wholeness` says beside the findings on an image."""

from collections.abc import Iterator

import pytest

from keyhole.builders import vmdk_sparse, zip_archive
from keyhole.inspectors import Facts, Wholeness
from tests.examples import EXAMPLES, GIB
from tests.inspectors.inspecting import facts_of

UNSUPPORTED = "unsupported_subformat"


def all_facts(facts: Facts) -> Iterator[Facts]:
    """The facts of an image and of all its members."""
    yield facts
    for member in facts.members:
        yield from all_facts(member.facts)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_keyhole_cannot_determine_is_unchecked(name: str) -> None:
    """The check says that the size or the wholeness is unknown, so nothing is proven beside it."""
    for image in EXAMPLES[name].images:
        for facts in all_facts(facts_of(image)):
            if any(finding.check == UNSUPPORTED for finding in facts.findings):
                assert facts.wholeness is Wholeness.UNCHECKED


def test_a_sparse_vmdk_with_another_create_type_is_unchecked() -> None:
    """Its content is the file that its descriptor names, so its own grains prove nothing."""
    flat = vmdk_sparse(GIB, create_type="monolithicFlat", extent_line='RW 2097152 FLAT "/etc/shadow" 0')
    facts = facts_of(flat)
    assert (facts.virtual_size, facts.wholeness) == (None, Wholeness.UNCHECKED)
    assert facts_of(vmdk_sparse(GIB)).wholeness is Wholeness.PROVEN


def test_a_member_that_is_unchecked_does_not_change_its_archive() -> None:
    """An archive and each of its members have their own wholeness."""
    disks = [("flat.vmdk", vmdk_sparse(GIB, create_type="monolithicFlat")), ("disk.vmdk", vmdk_sparse(GIB))]
    archive = facts_of(zip_archive(disks))
    assert archive.wholeness is Wholeness.PROVEN
    assert [member.facts.wholeness for member in archive.members] == [Wholeness.UNCHECKED, Wholeness.PROVEN]
