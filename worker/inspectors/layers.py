"""Archives of container images, docker's and OCI's: of their layers only the disks count.

Source: OCI Image Format Specification, "Image Layout" and "Image Layer Filesystem Changeset"; Docker Image
Specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

A layer is an archive in the archive, perhaps compressed. It holds a file system's files, of which hardly one
is a disk, and whose links are meant from its own root: who unpacks a layer does so there.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from worker.inspectors.facts import Facts, Member
from worker.inspectors.findings import Severity

#: What makes an archive one of a container image, by the names at its root.
OCI = frozenset({b"oci-layout", b"index.json"})
DOCKER = frozenset({b"manifest.json"})
ROOT_NAMES = OCI | DOCKER
#: What a layer may be. One that has an OVF among its files is an archive like others.
LAYERS = frozenset({"tar", "ova", "gzip", "zstd"})
#: What is said of an archive that is unpacked where it does no harm, or that nobody takes for a machine.
OF_ARCHIVES = frozenset({"member_path", "ovf_reference", "parent_image", "size_mismatch", "format_mismatch"})


def archive_kind(names: Collection[bytes]) -> str | None:
    """`oci` or `docker`, if the names at an archive's root say that it is a container image's."""
    if OCI.issubset(names):
        return "oci"
    return "docker" if DOCKER.issubset(names) else None


def disks_of_layers(members: Sequence[Member]) -> tuple[Member, ...]:
    """A container image's members, without what is no disk in its layers, and layers that hold none."""
    disks = ((member, _layer(member) if member.facts.format in LAYERS else member) for member in members)
    return tuple(layer for _, layer in disks if layer is not None)


def _layer(layer: Member) -> Member | None:
    """A layer with its disks alone, or nothing if it has none and is in order."""
    inside = [
        _layer(one) if one.facts.format in LAYERS else one
        for one in layer.facts.members
        if one.facts.format is not None or not one.facts.complete
    ]
    disks = tuple(one for one in inside if one is not None)
    findings = tuple(
        replace(one, severity=Severity.INFO) if one.check in OF_ARCHIVES else one
        for one in layer.facts.findings
    )
    facts: Facts = replace(layer.facts, members=disks, findings=findings)
    in_order = facts.complete and all(one.severity is Severity.INFO for one in findings)
    return None if in_order and not disks else replace(layer, facts=facts)
