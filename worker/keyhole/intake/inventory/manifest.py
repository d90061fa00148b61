"""The manifest of an inventory: its bucket, its format, and its parts.

`…/YYYY-MM-DDTHH-MMZ/manifest.json`, in JSON (S3 User Guide, "Locating your inventory list"):

| field | is |
|---|---|
| `sourceBucket` | the name of the bucket that is listed |
| `destinationBucket` | the ARN of the bucket where all of this lies |
| `fileFormat` | `CSV` (compressed by gzip), `Parquet` or `ORC` |
| `fileSchema` | the columns of a CSV, separated by commas; files of the other formats name their columns |
| `files[]` | `key`, `size` in bytes and `MD5checksum` in hexadecimal of each part |

`manifest.checksum` beside it is its MD5 in hexadecimal.

A manifest is not trusted. It must be for the bucket of the audit, and its parts are only read from the
manifest's own bucket; a manifest that names another one is refused. MD5 finds damage, but not forgery:
anybody who can write the manifest can write its checksum.
"""

import re
from hashlib import md5
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from keyhole.intake.errors import ListingError
from keyhole.intake.inventory.download import read_whole, shown
from keyhole.intake.inventory.part import FileFormat
from keyhole.reasons import Reason
from keyhole.sources.errors import SourceError
from keyhole.sources.meter import Meter
from keyhole.sources.s3_uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: A part has about a million rows and takes 200 bytes in the manifest, so this is enough for 10^11 objects.
MAX_MANIFEST_BYTES: Final = 16 << 20
#: Hexadecimal digits, and perhaps the end of a line.
MAX_CHECKSUM_BYTES: Final = 256

BUCKET_ARN: Final = re.compile(r"arn:[a-z0-9-]+:s3:::(.+)")


class Part(NamedTuple):
    """A file of the inventory; `size` in bytes, `md5` in hexadecimal, in lower case."""

    key: str
    size: int
    md5: str


class Manifest(NamedTuple):
    """A manifest. `digest` identifies it; `columns` are those of a CSV."""

    digest: str
    file_format: FileFormat
    columns: tuple[str, ...]
    parts: tuple[Part, ...]


class _File(BaseModel):
    model_config = ConfigDict(strict=True)

    key: str = Field(min_length=1)
    size: int = Field(ge=0)
    MD5checksum: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{32}$")]


class _Written(BaseModel):
    model_config = ConfigDict(strict=True)

    sourceBucket: str  # noqa: N815 - as S3 writes it
    destinationBucket: str  # noqa: N815 - the same
    fileFormat: str  # noqa: N815 - the same
    fileSchema: str  # noqa: N815 - the same
    files: tuple[_File, ...] = Field(strict=False)


def read_manifest(client: "S3Client", uri: S3Uri, bucket: str, meter: Meter) -> Manifest:
    """Read and verify the manifest of an inventory of `bucket`.

    Raises:
        SourceError: The manifest cannot be read; the message says why.
        ListingError: The manifest is invalid; the message says why.
    """
    if not uri.key.endswith("manifest.json"):
        raise ListingError(f"{shown(uri)} is not a manifest; name the manifest.json of an inventory")
    text = read_whole(client, uri, MAX_MANIFEST_BYTES, meter)
    digest = md5(text, usedforsecurity=False).hexdigest()
    if _checksum(client, uri, meter) != digest:
        raise ListingError(
            f"{shown(uri)} does not have the MD5 that its manifest.checksum states; was it just replaced?"
        )
    try:
        written = _Written.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ListingError(f"{shown(uri)} is not an inventory's manifest: {place}: {first['msg']}") from error
    _check_buckets(written, uri, bucket)
    try:
        file_format = FileFormat(written.fileFormat.lower())
    except ValueError as error:
        raise ListingError(
            f"{shown(uri)}: the format {written.fileFormat!r} is unknown; there are CSV, Parquet and ORC"
        ) from error
    columns = written.fileSchema.split(",") if file_format is FileFormat.CSV else ()
    return Manifest(
        digest,
        file_format,
        tuple(column.strip() for column in columns),
        tuple(Part(file.key, file.size, file.MD5checksum.lower()) for file in written.files),
    )


def _checksum(client: "S3Client", uri: S3Uri, meter: Meter) -> str:
    beside = uri._replace(key=uri.key.removesuffix(".json") + ".checksum")
    try:
        stated = read_whole(client, beside, MAX_CHECKSUM_BYTES, meter)
    except SourceError as error:
        if error.reason != Reason.NOT_FOUND:
            raise
        raise ListingError(
            f"{shown(beside)} is missing; S3 writes it beside the manifest, which cannot be verified without"
        ) from error
    return stated.decode("ascii", "replace").strip().lower()


def _check_buckets(written: _Written, uri: S3Uri, bucket: str) -> None:
    source, destination = _bucket(written.sourceBucket), _bucket(written.destinationBucket)
    if source != bucket:
        raise ListingError(
            f"{shown(uri)} is an inventory of {source!r}, not of {bucket!r}; name the bucket as it does"
        )
    # An access point has a name of its own.
    if destination != uri.bucket and not uri.bucket.startswith("arn:"):
        raise ListingError(
            f"{shown(uri)} says that its parts lie in {destination!r}; they are read from the manifest's own "
            "bucket alone, so name the manifest where S3 wrote it",
        )


def _bucket(stated: str) -> str:
    """The name of a bucket, which may be given as an ARN."""
    arn = BUCKET_ARN.fullmatch(stated)
    return arn[1] if arn else stated
