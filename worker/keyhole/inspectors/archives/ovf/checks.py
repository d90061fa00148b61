"""Finds contradictions between an OVF and the files of its archive.

Source for the behaviour of readers: virt-v2v, input/input_ova.ml and OVF.ml; VirtualBox, ovfreader.cpp and
ApplianceImplImport.cpp.

Readers treat a wrong declaration of the compression differently. If the OVF declares a file as `gzip` and the
file is not gzip, readers that decompress the file fail. Readers that ignore the declaration open the file. If
a file is gzip and the OVF does not declare this, only readers that detect gzip open the disk in the file. So
Keyhole reports each wrong declaration.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyhole.inspectors.archives.ovf.descriptor import Descriptor, Disk, File
from keyhole.inspectors.archives.ovf.files import ArchiveFiles, Found, leads_elsewhere, shown_text
from keyhole.inspectors.archives.ovf.host import OWN_RESOURCE
from keyhole.inspectors.facts import Facts, Member
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.readers import READERS

#: Maps a part of a disk's format URI to the format. Other URIs do not prove a format: for example, oVirt uses
#: the URI of qcow2 for raw disks, too.
FORMAT_URIS = {"vmdk.html": "vmdk"}
#: The values of `compression` that Keyhole supports. The values in `IDENTITY` mean no compression.
IDENTITY, GZIP = frozenset({"", "identity"}), "gzip"
COMPRESSED = frozenset({"gzip", "xz", "zstd", "bzip2", "lz4", "lzma"})
#: The CIM resource type of a hard disk.
HARD_DISK = 17


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive with which an OVF is compared.

    `disks` maps the id of a file in the OVF to the member of the archive that is this file. `all_seen` is
    true if Keyhole has seen all files of the archive.
    """

    files: ArchiveFiles
    disks: Mapping[str, Member]
    all_seen: bool


def compare(descriptor: Descriptor, folder: bytes, archive: Archive) -> Iterator[Finding]:
    """Yield findings on contradictions between a descriptor in the folder `folder` and its archive."""
    if descriptor.note is not None:
        yield found("structure", descriptor.note, Severity.INFO)
    if len({file.id for file in descriptor.files}) < len(descriptor.files):
        yield found("ambiguous_format", "two files of the OVF have the same id")
    for file in descriptor.files:
        if leads_elsewhere(file.href) is None:
            yield from _of_file(file, archive.files.find(folder, file), archive)
    files = descriptor.referred_to()
    for disk in descriptor.disks:
        yield from _of_disk(disk, files, archive)
    yield from _of_resources(descriptor)


def _of_file(file: File, there: Found, archive: Archive) -> Iterator[Finding]:
    name = shown_text(file.href)
    if file.compression not in {*IDENTITY, GZIP}:
        compression = shown_text(file.compression)
        yield found("unsupported_subformat", f"the OVF states that {name} is compressed by {compression}")
    if len(there.whole) > 1:
        yield found("ambiguous_format", f"readers open different files of the archive for {name} in the OVF")
    if there.whole:
        if file.chunk_size and there.chunks:
            yield found(
                "ambiguous_format", f"the archive has {name} of the OVF both as one file and in chunks"
            )
        yield from _of_size(file, archive.files.size(there.whole[0]), archive)
    elif not archive.all_seen:
        # The file can be in the part of the archive that Keyhole did not see, so do not report it as missing.
        return
    elif there.chunks and file.chunk_size is not None:
        yield from _of_chunks(file, there, archive.files)
    else:
        yield found("ovf_reference", f"the OVF names {name}, which is not a file of the archive")


def _of_size(file: File, size: int, archive: Archive) -> Iterator[Finding]:
    sizes = {size}
    member = archive.disks.get(file.id)
    if file.compression == GZIP and member is not None:
        # DSP0243 defines `size` as the compressed size, but some writers state the uncompressed size. So
        # accept both sizes.
        sizes |= {one.size for one in member.facts.members if one.size is not None}
    if file.size is not None and file.size not in sizes:
        message = f"the OVF states {file.size} bytes for {shown_text(file.href)}, but the file has {size}"
        yield found("size_mismatch", message)


def _of_chunks(file: File, there: Found, files: ArchiveFiles) -> Iterator[Finding]:
    name, length = shown_text(file.href), file.chunk_size
    if not length:
        yield found(
            "unsupported_subformat",
            f"the OVF states that {name} is in chunks, but not how large the chunks are",
        )
        return
    sizes = [files.size(number) for _, number in sorted(there.chunks.items())]
    stated = -(-file.size // length) if file.size is not None else 0
    missing = there.missing_chunk
    if missing is None and len(sizes) < stated:
        missing = len(sizes)
    if missing is not None:
        yield found("ovf_reference", f"chunk {missing} of {name} is not in the archive")
        return
    if file.size is not None and file.size != sum(sizes):
        message = f"the OVF states {file.size} bytes for {name}, but its chunks have {sum(sizes)}"
        yield found("size_mismatch", message)
    while len(sizes) > 1 and not sizes[-1]:
        sizes.pop()
    odd = next((place for place, size in enumerate(sizes[:-1]) if size != length), None)
    if odd is None and sizes[-1] > length:
        odd = len(sizes) - 1
    if odd is not None:
        message = f"the OVF states {length} bytes for chunks of {name}, but chunk {odd} has {sizes[odd]}"
        yield found("size_mismatch", message)


def _of_disk(disk: Disk, files: Mapping[str, File], archive: Archive) -> Iterator[Finding]:
    name = shown_text(disk.id)
    if disk.parent:
        parent = shown_text(disk.parent)
        yield found("parent_image", f"the OVF states that disk {name} is based on the disk {parent}")
    if not disk.file:
        # The disk has no file to compare, because the disk is empty. The hypervisor creates the disk together
        # with the machine.
        return
    file = files.get(disk.file)
    if file is None:
        # In an OVF of oVirt, `fileRef` can be a path, and a path that leads out of the archive is dangerous.
        severity = Severity.CRITICAL if leads_elsewhere(disk.file) else None
        message = (
            f"disk {name} of the OVF refers to {shown_text(disk.file)}, which is not in the OVF's references"
        )
        yield found("ovf_reference", message, severity)
        return
    member = archive.disks.get(file.id)
    facts = member.facts if member is not None else None
    if facts is None or facts.format is None:
        return
    if file.compression == GZIP and facts.format == GZIP:
        facts = facts.members[0].facts if facts.members else None
    elif file.compression == GZIP or (file.compression in IDENTITY and facts.format in COMPRESSED):
        said = "compressed by gzip" if file.compression == GZIP else "not compressed"
        message = f"the OVF states that {shown_text(file.href)} is {said}, but it is {facts.format}"
        yield found("format_mismatch", message)
        return
    if facts is None or facts.format is None:
        return
    yield from _of_capacity(disk, facts)
    stated = next((kind for part, kind in FORMAT_URIS.items() if part in disk.format.lower()), None)
    if stated not in {None, facts.format} and file.compression in {*IDENTITY, GZIP}:
        yield found(
            "format_mismatch", f"the OVF states that disk {name} is {stated}, but it is {facts.format}"
        )


def _of_capacity(disk: Disk, facts: Facts) -> Iterator[Finding]:
    """Yield a finding if the OVF states a wrong capacity for a disk.

    The disk's size can differ between readers, so the capacity is compared with each reader's size.
    """
    sizes = {reader: facts.virtual_size_by(reader) for reader in READERS}
    wrong = tuple(
        reader
        for reader, size in sizes.items()
        if size is not None and disk.capacity is not None and abs(size - disk.capacity) >= disk.unit
    )
    for_all = len(wrong) == sum(size is not None for size in sizes.values())
    # If the capacity is wrong for all readers, report it. If it is wrong only for some readers, report it
    # only if the disk has a `size_mismatch`. Without a `size_mismatch`, the readers' sizes differ only by
    # rounding.
    if wrong and (for_all or any(one.check == "size_mismatch" for one in facts.findings)):
        size = sizes[wrong[0]]
        message = (
            f"the OVF states {disk.capacity} bytes for disk {shown_text(disk.id)}, but the disk has {size}"
        )
        yield found("size_mismatch", message, readers=() if for_all else wrong)


def _of_resources(descriptor: Descriptor) -> Iterator[Finding]:
    """Yield a finding for each hard disk that the machine uses but the OVF does not describe.

    Only hard disks are checked, because a CD or floppy drive can be empty.
    """
    known = {disk.id for disk in descriptor.disks}
    for resource in descriptor.resources:
        own = OWN_RESOURCE.fullmatch(resource.text)
        if own and own[1] == "disk" and resource.kind == HARD_DISK and own[2] not in known:
            message = f"the machine has a disk {shown_text(own[2])}, which the OVF does not describe"
            yield found("ovf_reference", message)
