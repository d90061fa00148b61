"""Actions in a Ceph bucket ("deeds"), and the message that each action should cause."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.intake.events.notifications import parse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CREATED, REMOVED = EventKind.CREATED, EventKind.REMOVED

#: A key that becomes another key if it is decoded or encoded.
KEY = "a/b c+\u00fc.img"
ENCODED_KEY = "p%2Bq%20r+s.img"
#: A key with characters that JSON must escape.
QUOTED_KEY = 'n\nl\t"q"\\.img'
BODY = b"0123456789"


class Told(NamedTuple):
    """The content of a message. `size` is in bytes. After a removal, size and ETag are not compared."""

    kind: EventKind
    name: str
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None

    @classmethod
    def of(cls, event: ObjectEvent) -> Self:
        """The fields of an event that tests compare."""
        of_object = (event.size, event.etag) if event.kind is CREATED else (None, None)
        return cls(event.kind, event.name, str(event.key), *of_object, event.version_id)


class Deed(NamedTuple):
    """An action, and the messages that it should cause: one for each item of `told`."""

    name: str
    told: tuple[Told, ...]


def one_event(body: bytes) -> ObjectEvent:
    """Return the only event of a message."""
    (event,) = parse(body)
    return event


def deeds(s3: "S3Client", bucket: str) -> Iterator[Deed]:
    """Do the deeds in a new bucket and yield each: first without versions, then with versions."""
    yield _put(s3, "put", bucket, KEY)
    yield _put(s3, "put_encoded_key", bucket, ENCODED_KEY, b"")
    yield _put(s3, "put_quoted_key", bucket, QUOTED_KEY)
    yield _put(s3, "put_with_tags", bucket, "tagged", Tagging="a=b")
    s3.put_object_tagging(Bucket=bucket, Key="tagged", Tagging={"TagSet": [{"Key": "a", "Value": "c"}]})
    yield Deed("tag", ())
    yield _copy(s3, "copy", bucket)
    yield _upload_in_parts(s3, "multipart", bucket)
    s3.delete_object(Bucket=bucket, Key="copy")
    yield Deed("delete", (Told(REMOVED, "ObjectRemoved:Delete", "copy"),))
    s3.delete_object(Bucket=bucket, Key="missing")
    yield Deed("delete_missing", (Told(REMOVED, "ObjectRemoved:Delete", "missing"),))
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "parts"}]})
    yield Deed("delete_in_bulk", (Told(REMOVED, "ObjectRemoved:Delete", "parts"),))

    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield (first := _put(s3, "versioned_put", bucket, KEY))
    yield _put(s3, "versioned_put_again", bucket, KEY, BODY * 2)
    yield _copy(s3, "versioned_copy", bucket)
    yield _upload_in_parts(s3, "versioned_multipart", bucket)
    marker = s3.delete_object(Bucket=bucket, Key=KEY)["VersionId"]
    yield Deed("delete_marker", (Told(REMOVED, "ObjectRemoved:DeleteMarkerCreated", KEY),))
    for name, version_id in (("delete_version", first.told[0].version_id), ("delete_delete_marker", marker)):
        s3.delete_object(Bucket=bucket, Key=KEY, VersionId=str(version_id))
        yield Deed(name, (Told(REMOVED, "ObjectRemoved:Delete", KEY, version_id=version_id),))
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    yield _put(s3, "suspended_put", bucket, KEY)


def _put(s3: "S3Client", name: str, bucket: str, key: str, body: bytes = BODY, **options: Any) -> Deed:
    answer = s3.put_object(Bucket=bucket, Key=key, Body=body, **options)
    return Deed(name, (_created(s3, "Put", bucket, key, answer.get("VersionId")),))


def _copy(s3: "S3Client", name: str, bucket: str) -> Deed:
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": KEY})
    return Deed(name, (_created(s3, "Copy", bucket, "copy", None),))


def _upload_in_parts(s3: "S3Client", name: str, bucket: str) -> Deed:
    upload: Any = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=BODY)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    return Deed(name, (_created(s3, "CompleteMultipartUpload", bucket, "parts", None),))


def _created(s3: "S3Client", how: str, bucket: str, key: str, version_id: str | None) -> Told:
    """What a creation should cause.

    The event names a version only if `version_id` is given. RGW 16.2 names no version for copies and
    multipart uploads.
    """
    head = s3.head_object(Bucket=bucket, Key=key)
    size, etag = head["ContentLength"], head["ETag"].strip('"')
    return Told(CREATED, f"ObjectCreated:{how}", key, size, etag, version_id)
