"""A scan job: one object to scan.

A job is JSON in a Celery message and in the ledger. So every field is plain data, and unknown fields are
refused.
"""

from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class ScanJob(BaseModel):
    """One object to scan.

    `id` identifies the work: the same id is the same work, and its verdict is written once. `sequencer` is
    from the S3 event, if one led to the job; it orders the changes of one key (hexadecimal, compared as text
    after padding).
    `other_key` is set if it is unclear whether the event URL-encoded the key; it is scanned if no object has
    the first key. `storage_class` is from a listing and decides the price; `None` is S3 Standard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=200)
    bucket: str = Field(min_length=1, max_length=2048)
    key: str = Field(min_length=1, max_length=1024)
    other_key: str | None = Field(default=None, min_length=1, max_length=1024)
    version_id: str | None = Field(default=None, max_length=1024)
    sequencer: str | None = Field(default=None, max_length=128)
    storage_class: str | None = Field(default=None, max_length=64)
