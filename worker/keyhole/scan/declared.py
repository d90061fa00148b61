"""Compares what an object is declared to be, by its name, content type and metadata, with what it is.

The dangerous case is an image of another format that is declared raw: an importer that believes it gives
the image's first bytes to a guest that may rewrite them, or to a reader that guesses the format.
"""

from collections.abc import Iterator
from typing import NamedTuple

from keyhole.inspectors.catalogue import (
    COMPRESSED_FORMATS,
    FORMAT_OF_NAME,
    FORMAT_OF_SUFFIX,
    FORMATS_OF_CONTENT_TYPE,
)
from keyhole.inspectors.facts import Facts
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.text import printable

#: The format of an object with a content coding. Some of them have no inspector.
CODINGS = {
    "gzip": "gzip",
    "x-gzip": "gzip",
    "zstd": "zstd",
    "xz": "xz",
    "bzip2": "bzip2",
    "x-bzip2": "bzip2",
    "deflate": "deflate",
    "br": "brotli",
    "compress": "compress",
    "x-compress": "compress",
}
#: The metadata keys with a format, in the spellings that are in use.
METADATA_KEYS = ("disk_format", "disk-format")
#: The most bytes of an unknown name in a finding.
SHOWN_BYTES = 32


class Declared(NamedTuple):
    """The declarations of the uploader about an object."""

    key: str | None = None
    content_type: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    content_encoding: str | None = None


class Statement(NamedTuple):
    """The source of a declaration, and the formats that fit it; the first one is the family's name."""

    source: str
    formats: tuple[str, ...]


def compare(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """Yield the declarations that contradict the facts; none if the format is unknown."""
    if facts.format is None:
        return
    statements = [*_by_metadata(declared), *_by_content_type(declared)]
    for source, formats in statements:
        # An ISO is a raw image of a disc. A compressed object may be declared as the format that it holds,
        # but not as a raw disk: an importer that believes it gives the compressed bytes to a guest.
        if facts.format in formats or {formats[0], facts.format} == {"raw", "iso"}:
            continue
        if formats[0] != "raw" and not _compressed(facts).isdisjoint(formats):
            continue
        severity = Severity.CRITICAL if formats[0] == "raw" else None
        yield found(
            "format_mismatch", f"{source} says {formats[0]}, but the object is {facts.format}", severity
        )
    yield from _by_encoding(declared, facts)
    _, dot, suffix = (declared.key or "").lower().rpartition(".")
    by_suffix = FORMAT_OF_SUFFIX.get(suffix, facts.format) if dot else facts.format
    if not statements and by_suffix != facts.format:
        yield found(
            "format_mismatch", f"the name ends in .{suffix}, but the object is {facts.format}", Severity.INFO
        )
    yield from _renamed(declared, facts)


def _by_encoding(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """Compare the object with its content encoding, whose last coding is the outermost.

    Clients of S3 read the stored bytes. Browsers and HTTP libraries decode them first, and fail if they
    cannot. They ignore codings that are not in `CODINGS`, such as `aws-chunked`, which uploads leave
    behind.
    """
    stated = [coding.strip().lower() for coding in (declared.content_encoding or "").split(",")]
    layer: Facts | None = facts
    for coding in reversed([coding for coding in stated if coding in CODINGS]):
        if layer is None or layer.format is None:
            return
        if layer.format != CODINGS[coding]:
            where = "the object" if layer is facts else "what it holds"
            yield found("format_mismatch", f"content encoding says {coding}, but {where} is {layer.format}")
            return
        layer = layer.members[0].facts if len(layer.members) == 1 else None


def _renamed(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """Find a sparse VMDK whose descriptor has another file name than the object.

    QEMU and VirtualBox ignore that name; libvmdk opens a file of that name beside the image. Uploads are
    often renamed, so it is only information.
    """
    extents = facts.details.get("extents")
    single = isinstance(extents, list) and len(extents) == 1 and facts.subformat == "monolithicSparse"
    if not single or not isinstance(extents, list) or not declared.key:
        return
    _, _, name = str(extents[0]).partition(" ")
    if name and name != declared.key.rpartition("/")[2]:
        yield found("extent_path", f"the descriptor calls this file {name[:511]!r}", Severity.INFO)


def _compressed(facts: Facts) -> set[str | None]:
    """The formats that a compressed object holds.

    Uploaders derive the content type of a name such as `disk.iso.gz` from the part before `.gz`.
    """
    inside = [member.facts for member in facts.members] if facts.format in COMPRESSED_FORMATS else []
    return {kind for one in inside for kind in (one.format, *_compressed(one))}


def _by_metadata(declared: Declared) -> Iterator[Statement]:
    """The declared formats of metadata. An unknown name contradicts every format."""
    for key, value in declared.metadata:
        name = value.strip().lower()
        if key.lower() in METADATA_KEYS and name:
            shown = printable(name.encode(errors="surrogatepass")[:SHOWN_BYTES])
            yield Statement(f"metadata {key.lower()}", (FORMAT_OF_NAME.get(name, shown),))


def _by_content_type(declared: Declared) -> Iterator[Statement]:
    content_type = (declared.content_type or "").partition(";")[0].strip().lower()
    if content_type in FORMATS_OF_CONTENT_TYPE:
        yield Statement(f"content type {content_type}", FORMATS_OF_CONTENT_TYPE[content_type])
