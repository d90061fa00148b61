"""The names of the queues.

Each source of work has a queue of its own, so that an audit of a million objects never delays the verdict on
an upload.
"""

from typing import Final

#: Objects that events reported.
EVENTS: Final = "keyhole.events"
#: Objects that a person or a program submitted.
JOBS: Final = "keyhole.jobs"
#: Batches of audits.
AUDITS: Final = "keyhole.audits"
#: Short tasks that make work: listing a page of a bucket, sweeping the ledger.
HOUSEKEEPING: Final = "keyhole.housekeeping"

QUEUES: Final = (EVENTS, JOBS, AUDITS, HOUSEKEEPING)
