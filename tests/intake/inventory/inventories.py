"""Writes inventories to a bucket as S3 does, in its three formats, with a manifest and its checksum."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import md5
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pyarrow as pa
from pyarrow import orc, parquet

from keyhole.sources.s3_uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FORMATS = ("CSV", "Parquet", "ORC")
#: The column names in a CSV's schema, and the names and types in Parquet and ORC (S3 User Guide).
COLUMNS: Mapping[str, tuple[str, Any]] = {
    "Bucket": ("bucket", pa.string()),
    "Key": ("key", pa.string()),
    "VersionId": ("version_id", pa.string()),
    "IsLatest": ("is_latest", pa.bool_()),
    "IsDeleteMarker": ("is_delete_marker", pa.bool_()),
    "Size": ("size", pa.int64()),
    "LastModifiedDate": ("last_modified_date", pa.timestamp("ms", tz="UTC")),
    "ETag": ("e_tag", pa.string()),
    "StorageClass": ("storage_class", pa.string()),
    "IsMultipartUploaded": ("is_multipart_uploaded", pa.bool_()),
}
#: The fields of an inventory of current versions.
CURRENT = tuple(name for name in COLUMNS if name not in {"VersionId", "IsLatest", "IsDeleteMarker"})
#: The fields of an inventory of all versions.
ALL = tuple(COLUMNS)
CHANGED = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """An inventory's row for an object."""

    key: str
    bucket: str = ""
    version_id: str | None = None
    is_latest: bool | None = True
    is_delete_marker: bool | None = False
    size: int | None = 1
    last_modified_date: datetime | None = CHANGED
    e_tag: str | None = "d41d8cd98f00b204e9800998ecf8427e"
    storage_class: str | None = "STANDARD"
    is_multipart_uploaded: bool | None = False


def part(file_format: str, rows: Sequence[Row], columns: Sequence[str] = CURRENT) -> bytes:
    """A part with these rows."""
    return {"CSV": csv_part, "Parquet": parquet_part, "ORC": orc_part}[file_format](rows, columns)


def csv_part(rows: Iterable[Row], columns: Sequence[str] = CURRENT) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        told = replace(row, key=encoded(row.key))
        writer.writerow([_cell(getattr(told, COLUMNS[name][0])) for name in columns])
    return gzip.compress(text.getvalue().encode())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(rows: Iterable[Row], columns: Sequence[str] = CURRENT) -> pa.Table:
    """The content of a part in Parquet or ORC."""
    rows = list(rows)
    named = dict(COLUMNS[column] for column in columns)
    return pa.table(
        {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in named.items()}
    )


def parquet_part(rows: Iterable[Row], columns: Sequence[str] = CURRENT) -> bytes:
    return in_parquet(table(rows, columns))


def orc_part(rows: Iterable[Row], columns: Sequence[str] = CURRENT) -> bytes:
    return in_orc(table(rows, columns))


def in_parquet(content: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(content, file, **{"compression": "snappy", "store_schema": False} | options)
    return file.getvalue()


def in_orc(content: pa.Table) -> bytes:
    file = io.BytesIO()
    orc.write_table(content, file, compression="zlib")
    return file.getvalue()


class Inventories:
    """Writes inventories of one bucket to another bucket.

    Args:
        s3: A client of the server.
        source: The listed bucket.
        destination: The bucket for the inventories.
    """

    def __init__(self, s3: "S3Client", source: str, destination: str) -> None:
        self.s3, self.source, self.destination = s3, source, destination

    def write(
        self, file_format: str, *parts: Sequence[Row], columns: Sequence[str] = CURRENT, **fields: Any
    ) -> S3Uri:
        """Write an inventory with these rows. A row without a bucket is about the listed bucket."""
        bodies = [
            part(file_format, [replace(row, bucket=row.bucket or self.source) for row in rows], columns)
            for rows in parts
        ]
        return self.write_parts(file_format, *bodies, columns=columns, **fields)

    def write_parts(
        self, file_format: str, *bodies: bytes, columns: Sequence[str] = CURRENT, **fields: Any
    ) -> S3Uri:
        """Write an inventory with parts of any content; `fields` replace or add fields of the manifest."""
        folder = f"inventories/{self.source}/daily"
        files = []
        for number, body in enumerate(bodies):
            key = f"{folder}/data/part-{number}.{file_format.lower()}"
            self.s3.put_object(Bucket=self.destination, Key=key, Body=body)
            files.append({"key": key, "size": len(body), "MD5checksum": digest(body)})
        key = f"{folder}/2026-05-02T01-00Z/manifest.json"
        manifest = {
            "sourceBucket": self.source,
            "destinationBucket": f"arn:aws:s3:::{self.destination}",
            "version": "2016-11-30",
            "creationTimestamp": "1777683600000",
            "fileFormat": file_format,
            "fileSchema": ", ".join(columns),
            "files": files,
        }
        return self.write_manifest(key, json.dumps(manifest | fields).encode())

    def write_manifest(self, key: str, manifest: bytes) -> S3Uri:
        """Write a manifest with any content, and its checksum."""
        self.s3.put_object(Bucket=self.destination, Key=key, Body=manifest)
        checksum = key.removesuffix(".json") + ".checksum"
        self.s3.put_object(Bucket=self.destination, Key=checksum, Body=digest(manifest).encode())
        return S3Uri(self.destination, key)


def digest(body: bytes) -> str:
    """The MD5 of these bytes, as S3 writes it."""
    return md5(body, usedforsecurity=False).hexdigest()


def encoded(key: str) -> str:
    """A key, percent-encoded as in a CSV."""
    return quote_plus(key, safe="/")
