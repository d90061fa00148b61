"""Reads the manifest of an inventory, which describes the bucket, the format and the parts.

The manifest is a JSON file `…/YYYY-MM-DDTHH-MMZ/manifest.json` (S3 User Guide, "Locating your inventory
list"):

| field | meaning |
|---|---|
| `sourceBucket` | the name of the listed bucket |
| `destinationBucket` | the ARN of the bucket that contains the inventory |
| `fileFormat` | `CSV` (compressed with gzip), `Parquet` or `ORC` |
| `fileSchema` | the columns of a CSV, separated by commas; Parquet and ORC files contain their column names |
| `files[]` | `key`, `size` in bytes and `MD5checksum` in hexadecimal of each part |

The file `manifest.checksum` in the same folder contains the manifest's MD5 in hexadecimal.

Keyhole does not trust a manifest. The manifest's source bucket must be the bucket of the audit. Keyhole reads
the parts only from the bucket that contains the manifest, and refuses a manifest that names another
destination bucket. The MD5 detects damage, but not forgery: an attacker who can write the manifest can also
write its checksum.
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

#: The largest accepted manifest, in bytes. A part has about a million rows, and its entry in the manifest
#: takes 200 bytes. So this limit allows about 10^11 objects.
MAX_MANIFEST_BYTES: Final = 16 << 20
#: The largest accepted checksum file, in bytes. The file contains hexadecimal digits, and sometimes a line
#: feed.
MAX_CHECKSUM_BYTES: Final = 256

BUCKET_ARN: Final = re.compile(r"arn:[a-z0-9-]+:s3:::(.+)")


class Part(NamedTuple):
    """A file of the inventory. `size` is in bytes, and `md5` is in hexadecimal, in lower case."""

    key: str
    size: int
    md5: str


class Manifest(NamedTuple):
    """A verified manifest.

    `digest` is the manifest's MD5, which identifies the inventory. If the parts are CSV files, `columns`
    contains their column names. Otherwise, `columns` is empty.
    """

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
    """Read the manifest of an inventory, and verify that the inventory lists `bucket`.

    Raises:
        SourceError: The manifest cannot be read; the message states the reason.
        ListingError: The manifest is invalid; the message states the reason.
    """
    if not uri.key.endswith("manifest.json"):
        raise ListingError(f"{shown(uri)} is not a manifest; use the URI of an inventory's manifest.json")
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
            f"{shown(uri)}: the format {written.fileFormat!r} is unknown; Keyhole reads CSV, Parquet and ORC"
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
            f"{shown(beside)} is missing; S3 writes it next to the manifest, and Keyhole needs it to verify "
            "the manifest"
        ) from error
    return stated.decode("ascii", "replace").strip().lower()


def _check_buckets(written: _Written, uri: S3Uri, bucket: str) -> None:
    source, destination = _bucket(written.sourceBucket), _bucket(written.destinationBucket)
    if source != bucket:
        raise ListingError(
            f"{shown(uri)} is an inventory of {source!r}, not of {bucket!r}; start the audit with the bucket "
            "name in the manifest"
        )
    # If the manifest's URI names an access point, the name of the bucket is unknown, so it cannot be
    # compared with the destination.
    if destination != uri.bucket and not uri.bucket.startswith("arn:"):
        raise ListingError(
            f"{shown(uri)} states that its parts are in {destination!r}, but Keyhole reads parts only from "
            "the bucket of the manifest; use the URI of the manifest that S3 wrote",
        )


def _bucket(stated: str) -> str:
    """Return the name of a bucket. `stated` is the bucket's name or its ARN."""
    arn = BUCKET_ARN.fullmatch(stated)
    return arn[1] if arn else stated
