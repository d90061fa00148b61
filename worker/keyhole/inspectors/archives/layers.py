"""Reduces the layers of a container image (Docker's or OCI's) to the disk images in them.

Source: OCI Image Format Specification, "Image Layer Filesystem Changeset".

A container image is an archive, and each layer in it is an archive too, often a compressed one. A layer
contains the files of a file system. Very few of these files are disk images. So of a layer's files, Keyhole
reports only the disk images and the files with problems. A container runtime unpacks each layer into a root
folder, and the layer's links are relative to this folder. The image's manifests state which archives are
layers.
"""

from dataclasses import replace

from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import Severity

#: The formats that a layer can have. `ova` is among them, because Keyhole calls every tar archive with an OVF
#: descriptor an `ova`.
LAYERS = frozenset({"tar", "ova", "gzip", "zstd", "bzip2", "xz"})
#: The checks whose findings in a layer get the severity `INFO`. A link or a path in a layer cannot lead to
#: the host's files, because the container runtime resolves the link or path inside the folder into which it
#: unpacks the layer. An OVF descriptor in a layer has no effect, because no reader uses it as the description
#: of the container image.
OF_ARCHIVES = frozenset({"member_path", "ovf_reference", "parent_image", "size_mismatch", "format_mismatch"})


def disks_of_layer(layer: Member) -> Member | None:
    """Return a layer with only those members that are disks or have problems.

    Return `None` if the layer itself has no problems and no member is left. A layer whose format is not in
    `LAYERS` is returned unchanged.
    """
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
