"""What is said of an object, its name, content type and metadata, against what it is.

A disk that is declared raw and is an image of another format is the dangerous one: whoever believes the
declaration hands the image's first bytes to a guest that may rewrite them, or to a reader that guesses.
"""

from collections.abc import Iterator
from typing import NamedTuple

from worker.inspectors.facts import Facts
from worker.inspectors.findings import Finding, Severity, found

#: Formats by the names that clouds have for them: glance's disk formats among them.
NAMES = {
    "raw": "raw",
    "ami": "raw",
    "ari": "raw",
    "aki": "raw",
    "qcow2": "qcow2",
    "qcow": "qcow",
    "vmdk": "vmdk",
    "vhd": "vhd",
    "vpc": "vhd",
    "vhdx": "vhdx",
    "vdi": "vdi",
    "iso": "iso",
    "ploop": "parallels",
    "luks": "luks",
    "qed": "qed",
    "dmg": "dmg",
}
CONTENT_TYPES = {
    "application/x-qemu-disk": "qcow2",
    "application/x-qcow2": "qcow2",
    "application/x-vmdk": "vmdk",
    "application/vmdk": "vmdk",
    "application/x-vhd": "vhd",
    "application/x-vhdx": "vhdx",
    "application/x-vhd-disk": "vhd",
    "application/x-vhdx-disk": "vhdx",
    "application/x-vmdk-disk": "vmdk",
    "application/x-vdi-disk": "vdi",
    "application/x-virtualbox-vdi": "vdi",
    "application/x-virtualbox-vhd": "vhd",
    "application/x-virtualbox-vhdx": "vhdx",
    "application/x-virtualbox-vmdk": "vmdk",
    "application/x-raw-disk-image": "raw",
    "application/x-iso9660-image": "iso",
    "application/vnd.efi.iso": "iso",
    "application/x-cd-image": "iso",
    "application/x-apple-diskimage": "dmg",
}
SUFFIXES = {
    **NAMES,
    "hdd": "parallels",
    "e01": "ewf",
    "ex01": "ewf",
    "sparseimage": "sparseimage",
    "asif": "asif",
}
#: The metadata that names a format, in the spellings that are in use.
METADATA_KEYS = ("disk_format", "disk-format")


class Declared(NamedTuple):
    """What is said of an object by those who stored it."""

    key: str | None = None
    content_type: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


def compare(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """What contradicts what the object is; nothing does if that is not known."""
    if facts.format is None:
        return
    stated = [*_by_metadata(declared), *_by_content_type(declared)]
    for source, image_format in stated:
        if image_format == facts.format or {image_format, facts.format} == {"raw", "iso"}:
            # An ISO is a raw image of a disc.
            continue
        severity = Severity.CRITICAL if image_format == "raw" else None
        yield found(
            "format_mismatch", f"{source} says {image_format}, but the object is {facts.format}", severity
        )
    suffix = (declared.key or "").rpartition(".")[2].lower()
    by_suffix = SUFFIXES.get(suffix, facts.format)
    if not stated and by_suffix != facts.format:
        yield found(
            "format_mismatch", f"the name ends in .{suffix}, but the object is {facts.format}", Severity.INFO
        )


def _by_metadata(declared: Declared) -> Iterator[tuple[str, str]]:
    for name, value in declared.metadata:
        if name.lower() in METADATA_KEYS and value.strip().lower() in NAMES:
            yield f"metadata {name.lower()}", NAMES[value.strip().lower()]


def _by_content_type(declared: Declared) -> Iterator[tuple[str, str]]:
    content_type = (declared.content_type or "").partition(";")[0].strip().lower()
    if content_type in CONTENT_TYPES:
        yield f"content type {content_type}", CONTENT_TYPES[content_type]
