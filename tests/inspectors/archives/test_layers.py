"""Keyhole finds disks in the layers of container images, and ignores the layers' other files."""

import gzip
import json

import pytest

from keyhole.builders import Image, OVADisk, ovf, qcow2, tar, tar_header
from keyhole.builders.tar import Entry
from keyhole.inspectors import Facts, Severity
from tests.inspectors.archives.blocks import archive, file
from tests.inspectors.archives.walking import walk

MIB, GIB = 1024**2, 1024**3
DISK = qcow2(GIB, allocated=3)
#: A layer with a disk, as in KubeVirt's container disks.
DISK_LAYER = tar([("disk/fedora.qcow2", DISK)])
#: A layer of an operating system: a large library, and links from its root.
SYSTEM_LAYER = archive(
    tar_header(b"usr/", kind=b"5"),
    *file(b"usr/lib/libc.so", Image.of(3 * MIB, [(0, b"\x7fELF" + bytes(60))])),
    tar_header(b"etc/mtab", kind=b"2", link=b"/proc/mounts"),
    tar_header(b"dev/null", kind=b"3"),
)


def text(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def as_json(value: object) -> Image:
    return text(json.dumps(value).encode())


def named(*layers: Image) -> list[Entry]:
    return [(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)]


def docker(*layers: Image, manifest: object = None) -> Image:
    """An image as docker saved it before version 25."""
    entries = named(*layers)
    if manifest is None:
        manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [name for name, _ in entries]}]
    return tar([*entries, ("c.json", text(b"{}")), ("manifest.json", as_json(manifest))])


def blob(number: int) -> str:
    return f"blobs/sha256/{number:064x}"


def descriptor(number: int, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{number:064x}", "size": 1}


LAYER, LAYER_GZIP = (f"application/vnd.oci.image.layer.v1.tar{end}" for end in ("", "+gzip"))
MANIFEST, INDEX = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index"))


def oci(
    *layers: Image,
    indexes: int = 0,
    media_type: str = LAYER,
    index: Image | None = None,
    late: bool = False,
) -> Image:
    """An image in OCI's layout. There can be further indexes between the index and the manifest."""
    blobs: list[Entry] = [(blob(number), layer) for number, layer in enumerate(layers)]
    manifest = {"layers": [descriptor(number, media_type) for number in range(len(layers))]}
    manifests: list[Entry] = [(blob(1000), as_json(manifest))]
    manifests += [
        (blob(number), as_json({"manifests": [descriptor(number - 1, INDEX)]}))
        for number in range(1001, 1001 + indexes)
    ]
    if index is None:
        index = as_json({"manifests": [descriptor(1000 + indexes, MANIFEST)]})
    names = [("index.json", index), ("oci-layout", text(b'{"imageLayoutVersion": "1.0.0"}'))]
    return tar([*names, *blobs, *manifests] if not late else [*manifests, *blobs, *names])


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
    # In every other archive, these links lead outside.
    assert checks(walk(tar([("layer.tar", layer)])).members[0].facts) == ["member_path"]


@pytest.mark.parametrize("build", [docker, oci])
def test_a_layer_with_an_ovf_among_its_files_is_a_layer(build: object) -> None:
    """No program treats a layer as a virtual machine."""
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
    image = archive(*file(b"manifest.json", b"[]"), tar_header(b"a", kind=b"2", link=b"/etc/shadow"))
    assert checks(walk(image)) == ["member_path"]


def test_without_a_manifest_it_is_an_archive_like_others() -> None:
    facts = walk(tar([("layer.tar", SYSTEM_LAYER)]))
    assert "archive" not in facts.details
    assert [member.facts.format for member in facts.members[0].facts.members] == [None]


def test_an_image_without_a_disk_has_no_members() -> None:
    assert walk(docker(SYSTEM_LAYER)).members == ()
    assert walk(oci(SYSTEM_LAYER)).members == ()


# Which archives are layers


def is_layer(image: Image) -> bool:
    """Whether Keyhole treats the only archive in an image as a layer.

    A layer is reported only if it has a disk.
    """
    members = walk(image).members
    assert len(members) in {0, 1}
    return not members


@pytest.mark.parametrize("indexes", [0, 1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_oci_manifests_lead_to_layers(indexes: int, *, late: bool) -> None:
    assert is_layer(oci(SYSTEM_LAYER, indexes=indexes, late=late))


def test_a_compressed_layer_is_one() -> None:
    packed = gzip.compress(SYSTEM_LAYER.read(0, SYSTEM_LAYER.size))
    assert is_layer(oci(text(packed), media_type=LAYER_GZIP))
    assert is_layer(oci(text(packed), media_type="application/vnd.docker.image.rootfs.diff.tar.gzip"))


def test_the_manifest_may_name_layers_with_a_dot_in_front() -> None:
    assert is_layer(docker(SYSTEM_LAYER, manifest=[{"Layers": ["./0/layer.tar"]}]))


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        [[]],
        [{"Layers": None}],
        [{"Layers": "0/layer.tar"}],
        [{"Layers": [["0/layer.tar"], 1, None]}],
        [{"Layers": ["1/layer.tar"]}],
        [{"Config": "0/layer.tar"}],
        {"Layers": ["0/layer.tar"]},
    ],
)
def test_an_archive_that_no_manifest_names_is_no_layer(manifest: object) -> None:
    assert not is_layer(docker(SYSTEM_LAYER, manifest=manifest))


def test_of_two_archives_one_may_be_a_layer() -> None:
    image = docker(DISK_LAYER, SYSTEM_LAYER, manifest=[{"Layers": ["0/layer.tar"]}])
    assert [layer.name for layer in walk(image).members] == ["0/layer.tar", "1/layer.tar"]
    assert checks(walk(image).members[1].facts) == ["member_path", "member_path"]


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b"\xff", b"[" * 100_000, b'[{"Layers": ["0/layer.tar"]}]' + b" " * 200_000],
    ids=["empty", "cut", "no text", "deep", "long"],
)
def test_a_manifest_that_is_not_read_names_nothing(content: bytes) -> None:
    assert not is_layer(tar([*named(SYSTEM_LAYER), ("manifest.json", text(content))]))


@pytest.mark.parametrize("name", ["a/manifest.json", "manifest.jso", "MANIFEST.JSON"])
def test_a_manifest_elsewhere_names_nothing(name: str) -> None:
    content = as_json([{"Layers": ["0/layer.tar"]}])
    assert not is_layer(tar([*named(SYSTEM_LAYER), (name, content)]))


def test_two_manifests_name_nothing() -> None:
    """Readers differ about which manifest they use."""
    entry: Entry = ("manifest.json", as_json([{"Layers": ["0/layer.tar"]}]))
    assert is_layer(tar([*named(SYSTEM_LAYER), entry]))
    assert not is_layer(tar([*named(SYSTEM_LAYER), entry, entry]))
    assert not is_layer(tar([entry, *named(SYSTEM_LAYER), ("./manifest.json", as_json([]))]))


@pytest.mark.parametrize(
    "image",
    [
        oci(SYSTEM_LAYER, index=as_json({"manifests": []})),
        oci(SYSTEM_LAYER, index=as_json({"manifests": [descriptor(5, MANIFEST)]})),
        oci(SYSTEM_LAYER, index=as_json({"manifests": [{"digest": "sha256:../../a"}, {"digest": 5}, []]})),
        oci(SYSTEM_LAYER, media_type="application/vnd.oci.image.config.v1+json"),
        oci(SYSTEM_LAYER, media_type=""),
        oci(SYSTEM_LAYER, indexes=9),
        tar([(blob(0), SYSTEM_LAYER), ("oci-layout", text(b"{}")), ("index.json", text(b"{}"))]),
    ],
    ids=["no manifest", "another", "no digests", "a config", "no type", "too deep", "no manifests"],
)
def test_an_archive_that_no_index_leads_to_is_no_layer(image: Image) -> None:
    assert not is_layer(image)


def test_an_archive_in_a_layer_is_a_file_of_its_system() -> None:
    packed = archive(tar_header(b"l", kind=b"2", link=b"/x"), *file(b"a", b"text"))
    assert is_layer(docker(tar([("usr/src/headers.tar", packed)])))


def test_a_disk_in_a_layer_is_judged_as_ever() -> None:
    bad = tar([("disk/a", qcow2(GIB, backing_file="/etc/shadow"))])
    (layer,) = walk(docker(bad)).members
    assert checks(layer.facts.members[0].facts) == ["backing_file"]


def test_what_only_the_name_says_does_not_count_in_layers() -> None:
    assert is_layer(docker(tar([("boot/splash.img", text(b"no disk"))])))


def test_many_manifests_are_read_within_bounds() -> None:
    descriptors = [descriptor(number, MANIFEST) for number in range(1000)]
    many: list[Entry] = [(blob(number), as_json({"manifests": descriptors})) for number in range(40)]
    index = ("index.json", as_json({"manifests": descriptors}))
    image = tar([index, ("oci-layout", text(b"{}")), *many])
    assert checks(walk(image)) == []
