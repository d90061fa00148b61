"""Archives of container images: disks are found in their layers, and the rest of these does not matter."""

from collections.abc import Sequence

import pytest

from tests.inspectors.archives.blocks import archive, file
from tests.inspectors.archives.walking import walk
from worker.demo.images import Image, OVADisk, ovf, qcow2, tar, tar_header
from worker.demo.images.tar import Entry
from worker.inspectors import Facts, Severity

MIB, GIB = 1024**2, 1024**3
DISK = qcow2(GIB, allocated=3)
MANIFEST = b'[{"Config":"c.json","Layers":["a/layer.tar"]}]'
#: A layer with a disk, as KubeVirt's container disks have it.
DISK_LAYER = tar([("disk/fedora.qcow2", DISK)])
#: One of a system: a large library, and links from its own root.
SYSTEM_LAYER = archive(
    tar_header(b"usr/", kind=b"5"),
    *file(b"usr/lib/libc.so", Image.of(3 * MIB, [(0, b"\x7fELF" + bytes(60))])),
    tar_header(b"etc/mtab", kind=b"2", link=b"/proc/mounts"),
    tar_header(b"dev/null", kind=b"3"),
)


def text(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def docker(*layers: Image) -> Image:
    named: Sequence[Entry] = [(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)]
    return tar([*named, ("c.json", text(b"{}")), ("manifest.json", text(MANIFEST))])


def oci(*layers: Image) -> Image:
    named: Sequence[Entry] = [(f"blobs/sha256/{number:064x}", layer) for number, layer in enumerate(layers)]
    return tar([*named, ("index.json", text(b"{}")), ("oci-layout", text(b"{}"))])


def checks(facts: Facts) -> list[str]:
    return [one.check for one in facts.findings if one.severity is not Severity.INFO]


@pytest.mark.parametrize(("build", "kind"), [(docker, "docker"), (oci, "oci")])
def test_a_disk_is_found_in_its_layer(build: object, kind: str) -> None:
    assert callable(build)
    facts = walk(build(DISK_LAYER))
    assert (facts.format, facts.details["archive"], facts.virtual_size) == ("tar", kind, GIB)
    (layer,) = facts.members
    (disk,) = layer.facts.members
    assert (disk.name, disk.facts.format) == ("disk/fedora.qcow2", "qcow2")


def test_what_is_no_disk_in_layers_is_only_counted() -> None:
    facts = walk(docker(SYSTEM_LAYER, DISK_LAYER))
    assert [layer.name for layer in facts.members] == ["1/layer.tar"]
    assert facts.details["other_files"] == 3
    assert facts.findings == ()


def test_links_of_a_layer_begin_at_its_own_root() -> None:
    layer = archive(tar_header(b"etc/mtab", kind=b"2", link=b"/proc/mounts"), *file(b"disk/a", DISK))
    facts = walk(docker(layer))
    assert [one.severity for one in facts.members[0].facts.findings] == [Severity.INFO]
    # Anywhere else they lead outside.
    assert checks(walk(tar([("layer.tar", layer)])).members[0].facts) == ["member_path"]


@pytest.mark.parametrize("build", [docker, oci])
def test_a_layer_with_an_ovf_among_its_files_is_a_layer(build: object) -> None:
    """Nobody takes a layer for a virtual machine."""
    assert callable(build)
    disk = OVADisk("other.vmdk", DISK, GIB)
    named = text(ovf([disk]).replace("other.vmdk", "/etc/shadow").encode())
    for layer in (tar([("box.ovf", named)]), tar([("usr/doc/box.ovf", named)])):
        facts = walk(build(layer, DISK_LAYER))
        assert (facts.findings, [one.facts.format for one in facts.members]) == ((), ["tar"])
    facts = walk(build(tar([("box.ovf", named), ("disk/a", DISK)])))
    assert checks(facts.members[0].facts) == []
    assert [one.name for one in facts.members[0].facts.members] == ["disk/a"]


def test_a_layer_that_is_damaged_stays() -> None:
    facts = walk(docker(SYSTEM_LAYER.patched(10, b"x"), DISK_LAYER))
    assert [checks(layer.facts) for layer in facts.members] == [["checksum_mismatch"], []]


def test_a_blob_that_nothing_recognises_stays() -> None:
    facts = walk(oci(DISK_LAYER, Image.of(2 * MIB, [(0, b"\xffwhat?")])))
    assert [layer.facts.format for layer in facts.members] == ["tar", None]


def test_names_of_the_archive_itself_lead_outside_as_ever() -> None:
    image = archive(*file(b"manifest.json", MANIFEST), tar_header(b"a", kind=b"2", link=b"/etc/shadow"))
    assert checks(walk(image)) == ["member_path"]


def test_without_a_manifest_it_is_an_archive_like_others() -> None:
    facts = walk(tar([("layer.tar", SYSTEM_LAYER)]))
    assert "archive" not in facts.details
    assert [member.facts.format for member in facts.members[0].facts.members] == [None]


def test_an_image_without_a_disk_has_no_members() -> None:
    assert walk(docker(SYSTEM_LAYER)).members == ()
