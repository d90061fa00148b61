"""Predicts the requests, dollars, hours and Redis memory of an audit from a few numbers, without a listing.

`keyhole.intake.audits.speed` predicts the number of objects per second, which determines the hours.

The model ignores errors and retries, objects that are unchanged since an earlier verdict, and archived
objects.
"""

from datetime import date
from typing import Final

from keyhole.intake.audits.estimate import Spending
from keyhole.intake.audits.owners import OWNER_BYTES
from keyhole.intake.audits.prices import Prices
from keyhole.intake.audits.records import ROW_BYTES
from keyhole.intake.audits.speed import Ceiling, Resource, ceilings, fleet_speed
from keyhole.intake.audits.workload import Fleet, Frozen, Work
from keyhole.intake.listing import PAGE_KEYS

# Bytes of Redis memory for one object, measured with Valkey 9.1 and keys of about 20 bytes. If a key is
# longer than 20 bytes, each further byte of the key takes two to three bytes of memory.
# `tests/e2e/test_plan.py` measures these constants again, from RECORD_BYTES to DONE_BYTES.
#: RECORD_BYTES: the record of the verdict, including the record's key and its share of the server's table of
#: keys.
RECORD_BYTES: Final = 384
#: The object's entries in the index by status and in the index by key, and its row for searches.
INDEX_BYTES: Final = 235
#: An entry in the stream of verdicts.
STREAM_BYTES: Final = 740
#: A job that is queued or in progress. Copies of the job are in the audit's list of batches, in the ledger
#: and in the broker.
JOB_BYTES: Final = 250
#: The marker that states that a batch is complete.
DONE_BYTES: Final = 90


class Kept(Frozen):
    """The data that Redis stores.

    Times are in seconds. If `record_seconds` is 0, Redis stores the records forever.
    """

    records: bool
    record_seconds: int
    stream_length: int
    done_seconds: int


class Memory(Frozen):
    """The memory of Redis at the end of the audit, in bytes."""

    records: int
    indexes: int
    stream: int
    audit_rows: int
    jobs: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.records + self.indexes + self.stream + self.audit_rows + self.jobs


class Plan(Frozen):
    """The prediction. The first of the `ceilings` is the lowest one, which bounds the speed of the audit."""

    work: Work
    fleet: Fleet
    kept: Kept
    spending: Spending
    ceilings: tuple[Ceiling, ...]
    objects_per_second: float
    seconds: float
    memory: Memory
    prices_date: date
    region: str
    #: Whether the price table contains the storage class. If not, the prediction uses the highest prices in
    #: the table.
    priced: bool

    @property
    def bound(self) -> Resource:
        """The resource that bounds the audit."""
        return self.ceilings[0].resource

    def ceiling(self, resource: Resource) -> float:
        """Return the number of objects per second that a resource can serve.

        If `ceilings` does not contain the resource, return infinity.
        """
        return next(
            (one.objects_per_second for one in self.ceilings if one.resource is resource), float("inf")
        )

    @property
    def bits_per_second(self) -> float:
        """The network traffic of all hosts together, in bits per second."""
        return 8 * self.work.bytes * self.objects_per_second


def plan(work: Work, fleet: Fleet, kept: Kept, prices: Prices) -> Plan:
    """Return the prediction for an audit in which no object has a valid verdict."""
    found = ceilings(work, fleet)
    speed = min(found[0].objects_per_second, fleet_speed(work, fleet, work.cpu_seconds))
    return Plan(
        work=work,
        fleet=fleet,
        kept=kept,
        spending=_spending(work, prices),
        ceilings=found,
        objects_per_second=speed,
        seconds=work.objects / speed,
        memory=_memory(work, fleet, kept, speed),
        prices_date=prices.date,
        region=prices.region,
        priced=prices.knows(work.storage_class),
    )


def _spending(work: Work, prices: Prices) -> Spending:
    tags = work.tagging
    objects = work.objects
    lists, gets = -(-objects // PAGE_KEYS), round(objects * work.gets)
    heads, reads, writes = objects * tags.looks, objects * tags.reads, objects * tags.writes
    dollars = lists * prices.list_request() + (gets + heads) * prices.get(work.storage_class, 0)
    dollars += prices.retrieval(work.storage_class, objects * work.bytes)
    dollars += reads * prices.get_tagging() + writes * prices.put_tagging()
    return Spending(
        lists=lists,
        gets=gets,
        heads=heads,
        tag_reads=reads,
        tag_writes=writes,
        bytes_read=objects * work.bytes,
        dollars=dollars,
    )


def _memory(work: Work, fleet: Fleet, kept: Kept, speed: float) -> Memory:
    objects, batch = work.objects, fleet.batch
    recorded = objects if kept.records else 0
    alive = min(recorded, speed * kept.record_seconds) if kept.record_seconds else recorded
    done = min(objects, speed * kept.done_seconds) / batch
    queued = min(objects, fleet.outstanding * fleet.prefixes * batch + fleet.prefixes * PAGE_KEYS)
    return Memory(
        records=round(alive * RECORD_BYTES),
        indexes=recorded * INDEX_BYTES,
        stream=min(recorded, kept.stream_length) * STREAM_BYTES,
        audit_rows=objects * (ROW_BYTES + (OWNER_BYTES if work.owners else 0)),
        jobs=round(queued * JOB_BYTES + done * DONE_BYTES),
    )
