"""The names of the queues.

There is one queue for each source of work, so that an audit of a million objects never delays the verdict on
an upload.
"""

from typing import Final

#: Objects that S3 events reported.
EVENTS: Final = "keyhole.events"
#: Objects that a user or a program submitted.
JOBS: Final = "keyhole.jobs"
#: Batches of objects from audits.
AUDITS: Final = "keyhole.audits"
#: Short tasks that create or resend work, for example listing a page of a bucket, or sweeping the ledger.
HOUSEKEEPING: Final = "keyhole.housekeeping"

QUEUES: Final = (EVENTS, JOBS, AUDITS, HOUSEKEEPING)
