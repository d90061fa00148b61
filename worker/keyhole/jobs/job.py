"""A scan job: which object to look at, and on whose behalf.

A job travels as JSON inside a Celery message and lies as JSON in the ledger, so every field is plain data and
anything else in it is refused.
"""

from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field


class ScanJob(BaseModel):
    """One object to scan.

    `id` names the work: the same id is the same work, and its verdict is written once. `sequencer` is the
    order that an S3 event gives to changes of one key (hexadecimal, compared as padded text), if the job came
    from one. `other_key` is what the key may be instead, where it is not certain how an event writes keys: it
    is taken where the one is missing and the other is there. `storage_class` is what a listing said, for the
    price; `None` is S3's standard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=200)
    bucket: str = Field(min_length=1, max_length=2048)
    key: str = Field(min_length=1, max_length=1024)
    other_key: str | None = Field(default=None, min_length=1, max_length=1024)
    version_id: str | None = Field(default=None, max_length=1024)
    sequencer: str | None = Field(default=None, max_length=128)
    storage_class: str | None = Field(default=None, max_length=64)
