"""A scan job, which names one object to scan.

Celery messages and the ledger contain jobs as JSON, so every field is plain data. A job with unknown fields
is refused.
"""

from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class ScanJob(BaseModel):
    """One object to scan.

    `id` identifies the job: two jobs with the same id are the same work, and their verdict is written only
    once. `sequencer` comes from the S3 event that led to the job, if there was an event. It is a hexadecimal
    number. Of two changes of the same key, the later change has the greater number.

    `other_key` is set if it is unclear whether the event's key is URL-encoded. If no object has the key
    `key`, the worker scans the object with the key `other_key`. `storage_class` comes from a listing. It
    determines the price of the scan's requests; `None` means S3 Standard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=200)
    bucket: str = Field(min_length=1, max_length=2048)
    key: str = Field(min_length=1, max_length=1024)
    other_key: str | None = Field(default=None, min_length=1, max_length=1024)
    version_id: str | None = Field(default=None, max_length=1024)
    sequencer: str | None = Field(default=None, max_length=128)
    storage_class: str | None = Field(default=None, max_length=64)
