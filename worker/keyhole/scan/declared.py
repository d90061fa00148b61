"""Compares an object's declared format with its real format.

An uploader declares a format in the object's name, content type, content encoding and metadata.

The dangerous case is an image of another format that is declared raw. An importer that believes the
declaration treats the image's header as content of the disk. A guest can then rewrite the header, and a
program that detects formats can later open the files that the header names.
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

#: Maps each content coding to the format of an object that has this coding. Keyhole does not recognise all of
#: these formats.
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
#: The metadata keys that declare a format. Uploaders use both spellings.
METADATA_KEYS = ("disk_format", "disk-format")
#: The maximum number of bytes of an unknown format name that a finding shows.
SHOWN_BYTES = 32


class Declared(NamedTuple):
    """What an uploader declares about an object: the parts of its metadata that can state a format."""

    key: str | None = None
    content_type: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    content_encoding: str | None = None


class Statement(NamedTuple):
    """One declaration: its source, such as a content type, and the formats that it allows.

    If it allows several formats, findings name the first format.
    """

    source: str
    formats: tuple[str, ...]


def compare(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each declaration that contradicts the facts; none if the format is unknown."""
    if facts.format is None:
        return
    statements = [*_by_metadata(declared), *_by_content_type(declared)]
    for source, formats in statements:
        # An ISO may be declared raw, because it is a raw image of a disc.
        if facts.format in formats or {formats[0], facts.format} == {"raw", "iso"}:
            continue
        # A compressed object may be declared as the format of its content. Only "raw" is not allowed: an
        # importer that believes the declaration would give the compressed bytes to a guest.
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
    """Yield a finding if the object's formats differ from its `Content-Encoding`.

    The last coding in that header is the outermost one. S3 clients read the stored bytes and ignore the
    header. Browsers and HTTP libraries decode the bytes, and fail if the header is wrong. Unknown codings do
    no harm: browsers and HTTP libraries ignore them. An example is `aws-chunked`, which some upload clients
    leave in the header. So Keyhole ignores all codings that are not in `CODINGS`.
    """
    stated = [coding.strip().lower() for coding in (declared.content_encoding or "").split(",")]
    layer: Facts | None = facts
    for coding in reversed([coding for coding in stated if coding in CODINGS]):
        if layer is None or layer.format is None:
            return
        if layer.format != CODINGS[coding]:
            where = "the object" if layer is facts else "its decompressed content"
            yield found("format_mismatch", f"content encoding says {coding}, but {where} is {layer.format}")
            return
        layer = layer.members[0].facts if len(layer.members) == 1 else None


def _renamed(declared: Declared, facts: Facts) -> Iterator[Finding]:
    """Yield a finding if a sparse VMDK's descriptor names a file, and the object has a different name.

    QEMU and VirtualBox ignore the name in the descriptor. libvmdk opens the file with that name in the
    image's folder. Images are often renamed for an upload, so the severity is only "info".
    """
    extents = facts.details.get("extents")
    single = isinstance(extents, list) and len(extents) == 1 and facts.subformat == "monolithicSparse"
    if not single or not isinstance(extents, list) or not declared.key:
        return
    _, _, name = str(extents[0]).partition(" ")
    if name and name != declared.key.rpartition("/")[2]:
        yield found("extent_path", f"the descriptor calls this file {name[:511]!r}", Severity.INFO)


def _compressed(facts: Facts) -> set[str | None]:
    """Return the formats of a compressed object's content; an empty set if the object is not compressed.

    Declaring one of these formats is legitimate: many upload tools derive the content type of `disk.iso.gz`
    from `disk.iso`.
    """
    inside = [member.facts for member in facts.members] if facts.format in COMPRESSED_FORMATS else []
    return {kind for one in inside for kind in (one.format, *_compressed(one))}


def _by_metadata(declared: Declared) -> Iterator[Statement]:
    """Yield the formats that the metadata declare.

    If Keyhole does not know the declared format, the statement contradicts every known format.
    """
    for key, value in declared.metadata:
        name = value.strip().lower()
        if key.lower() in METADATA_KEYS and name:
            shown = printable(name.encode(errors="surrogatepass")[:SHOWN_BYTES])
            yield Statement(f"metadata {key.lower()}", (FORMAT_OF_NAME.get(name, shown),))


def _by_content_type(declared: Declared) -> Iterator[Statement]:
    content_type = (declared.content_type or "").partition(";")[0].strip().lower()
    if content_type in FORMATS_OF_CONTENT_TYPE:
        yield Statement(f"content type {content_type}", FORMATS_OF_CONTENT_TYPE[content_type])
