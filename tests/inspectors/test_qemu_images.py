"""Images that qemu-img made: Keyhole reports qemu's format and size, no false alarm, and every cut."""

import random

import pytest

from keyhole.inspectors import Facts, Inspection, Wholeness
from tests.conftest import FACTS, QemuImage, QemuImages

#: The findings that each image should have.
EXPECTED = {
    "flat.vmdk": ["extent_path"],
    "split-sparse.vmdk": ["extent_path", "extent_path"],
    "backing-file.qcow": ["backing_file"],
    "backing-file.qcow2": ["backing_file"],
    "backing-file.qed": ["backing_file"],
    "backing-file-v2.qcow2": ["backing_file"],
    "data-file.qcow2": ["data_file"],
    "data-file-raw.qcow2": ["data_file"],
    "delta.vmdk": ["parent_image"],
    "dirty.qcow2": ["dirty"],
    "encrypted.qcow": ["encrypted"],
    "encrypted-aes.qcow2": ["encrypted"],
    "encrypted-luks.qcow2": ["encrypted"],
    "snapshot.qcow2": ["snapshots"],
}
INSPECTED = sorted(FACTS)
#: The content of the first two is in other files, so nothing proves it whole. The last image was not closed.
UNPROVEN = {"flat.vmdk", "split-sparse.vmdk", "dirty.qcow2"}


def inspect(image: QemuImage, size: int | None = None) -> Facts:
    """Inspect a file, or its first `size` bytes, by reading the missing ranges."""
    whole = image.path.stat().st_size
    size = whole if size is None else size
    inspection = Inspection()
    inspection.finish(size)
    with image.path.open("rb") as file:
        while missing := inspection.missing():
            offset, length = missing[0]
            file.seek(offset)
            inspection.feed(offset, file.read(min(length, size - offset)))
    return inspection.facts()


@pytest.mark.parametrize("name", INSPECTED)
def test_format_size_and_findings_are_what_qemu_made(qemu_images: QemuImages, name: str) -> None:
    image = qemu_images[name]
    facts = inspect(image)
    assert facts.format == image.facts["format"]
    assert facts.virtual_size == image.facts["virtual_size"]
    assert [finding.check for finding in facts.findings] == EXPECTED.get(name, [])
    assert facts.wholeness is not Wholeness.UNCHECKED or name in UNPROVEN


@pytest.mark.parametrize("name", INSPECTED)
def test_what_an_image_leads_to_is_named_as_qemu_names_it(qemu_images: QemuImages, name: str) -> None:
    """If qemu names no backing file, Keyhole names none either."""
    image = qemu_images[name]
    details = inspect(image).details
    named = details.get("backing_file", details.get("parent_file_name_hint"))
    assert named == image.facts.get("backing_file")


@pytest.mark.parametrize("name", [name for name in INSPECTED if "data" in name and name not in EXPECTED])
def test_a_cut_that_takes_what_is_needed_is_noticed(qemu_images: QemuImages, name: str) -> None:
    """Parts that can be short are not cut: a qcow2's last cluster, and the space after a compressed grain."""
    image = qemu_images[name]
    size = image.path.stat().st_size
    spare = 66048 if "qcow2" in name or "stream-optimized" in name else 1
    choose = random.Random(name)  # noqa: S311 - to choose cuts, the same in every run
    for cut in [size - spare - 1, *(choose.randrange(600, size - spare) for _ in range(30))]:
        facts = inspect(image, cut)
        decided = {finding.check for finding in facts.findings}
        assert decided & {"truncated", "structure"}, cut
        assert facts.wholeness is Wholeness.UNCHECKED
