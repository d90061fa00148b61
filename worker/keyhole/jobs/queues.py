"""The queues: what they are called, and what goes where.

Each way that work comes has its own, so that an audit of a million objects never delays an upload's verdict.
"""

from typing import Final

#: Objects that an event told of.
EVENTS: Final = "keyhole.events"
#: What a person or a program submitted.
JOBS: Final = "keyhole.jobs"
#: Batches of audits.
AUDITS: Final = "keyhole.audits"
#: Listing a bucket's pages, sweeping the ledger: short work that makes work.
HOUSEKEEPING: Final = "keyhole.housekeeping"

QUEUES: Final = (EVENTS, JOBS, AUDITS, HOUSEKEEPING)
