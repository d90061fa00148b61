"""The layers of a container image (docker's or OCI's). Keyhole reports only the disks in them.

Source: OCI Image Format Specification, "Image Layer Filesystem Changeset".

A layer is an archive in the archive, perhaps compressed. It holds the files of a file system, and hardly any
of them is a disk. Its links are relative to the layer's own root, because it is unpacked there. The image's
manifests say which archives are layers.
"""

from dataclasses import replace

from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import Severity

#: The formats of layers. A layer that contains an OVF is reported like any archive.
LAYERS = frozenset({"tar", "ova", "gzip", "zstd", "bzip2", "xz"})
#: Checks that do not matter for a layer, because it is unpacked where it does no harm and is not a machine.
OF_ARCHIVES = frozenset({"member_path", "ovf_reference", "parent_image", "size_mismatch", "format_mismatch"})


def disks_of_layer(layer: Member) -> Member | None:
    """Return a layer with only its disks as members, or `None` if it has neither disks nor problems."""
    if layer.facts.format not in LAYERS:
        return layer
    inside = [
        disks_of_layer(one)
        for one in layer.facts.members
        if one.facts.format is not None or one.facts.findings or not one.facts.complete
    ]
    disks = tuple(one for one in inside if one is not None)
    findings = tuple(
        replace(one, severity=Severity.INFO) if one.check in OF_ARCHIVES else one
        for one in layer.facts.findings
    )
    facts: Facts = replace(layer.facts, members=disks, findings=findings)
    in_order = facts.complete and all(one.severity is Severity.INFO for one in findings)
    return None if in_order and not disks else replace(layer, facts=facts)
