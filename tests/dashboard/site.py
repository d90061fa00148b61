"""What the tests' dashboards show: verdicts on hostile names, audits, dead letters and workers."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from keyhole.inspectors.findings import Finding, Severity
from keyhole.intake.audits.audit import AuditSpec, How
from keyhole.intake.audits.records import Row
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store import keys

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    f"{SCRIPT}.qcow2",
    "\u202egpj.\u202cexe",
    "x" * 1024,
    "a/b \"c\" 'd' &amp; <b>.vmdk",
    "ünï/код.qcow2",
    "line\nbreak\x1b[31m",
    "{{ 7 * 7 }}{% include 'x' %}",
    "?bucket=a&key=b#c%2F",
)
DEBIAN = "releases/debian-12.qcow2"
AUDIT = "3f0c9a1b2d4e5566"


def report(key: str, *, minutes: float = 0, status: Status = Status.SAFE, **more: Any) -> Report:
    """A report on an object that was scanned some minutes ago."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "bucket": "images",
        "etag": '"0123456789abcdef"',
        "size": 5 << 30,
        "virtual_size": 20 << 30,
        "format": "qcow2",
        "subformat": "v3",
        "details": {"version": 3, "cluster_size": 65536},
        "requests": 3,
        "bytes_read": 475136,
        "ranges": ((0, 344064), (1 << 30, 65536), ((5 << 30) - 65536, 65536)),
        "elapsed_ms": 41.0,
        "cpu_ms": 3.2,
        "last_modified": now - timedelta(days=9),
        "scanned_at": now - timedelta(minutes=minutes),
        **more,
    }
    target = f"s3://{fields['bucket']}/{key}"
    return Report(target=target, key=key, status=status, scanner="keyhole/1", ruleset="5:default", **fields)


def audit_of(client: redis.Redis, objects: Iterable[tuple[str, Status]], batch: int = 100) -> None:
    """Store an audit with these keys and statuses, in batches."""
    AuditStore(client, expiry_seconds=None).create(
        AUDIT, AuditSpec(bucket="images", prefix=f"{SCRIPT}/"), ruleset="5:default", scanner="keyhole/1"
    )
    rows = [Row(keys.object_id("images", key, None), status, How.SCANNED) for key, status in objects]
    with client.pipeline(transaction=False) as pipe:
        for at in range(0, len(rows), batch):
            packed = b"".join(row.packed() for row in rows[at : at + batch])
            pipe.rpush(keys.audit(AUDIT, "objects"), packed)
        for status, count in Counter(row.status for row in rows).items():
            pipe.hset(keys.audit(AUDIT, "totals"), f"status:{status}", count)
        pipe.execute()


def fill(client: redis.Redis) -> None:
    """Store verdicts, audits, a dead letter and workers."""
    store = RedisStore(client, expiry_seconds=None, stream_length=100)
    for number, key in enumerate(HOSTILE):
        bad = report(
            key,
            minutes=number,
            status=Status.UNSAFE,
            reasons=("backing_file", "truncated"),
            findings=(
                Finding("backing_file", Severity.CRITICAL, f"opens its backing file '{SCRIPT}'"),
                Finding("truncated", Severity.ERROR, "the object ends early \u202e\x1b[31m"),
            ),
            details={"backing_file": SCRIPT, "features": [SCRIPT, "x"], "error": SCRIPT},
            members=(report("", status=Status.DAMAGED, details={"name": f"\u202e{SCRIPT}"}),),
        )
        store.write(bad, job_id=f"hostile-{number}", sequencer=None)
    for number, (status, reasons) in enumerate(
        [(Status.SAFE, ()), (Status.DAMAGED, ("truncated",)), (Status.SAFE, ())]
    ):
        one = report(DEBIAN, minutes=600 - number, status=status, reasons=reasons, etag=f'"etag-{number}"')
        store.write(one, job_id=f"debian-{number}", sequencer=None)
    audited = [(key, Status.UNSAFE) for key in HOSTILE]
    audit_of(client, [(DEBIAN, Status.SAFE), *audited, ("expired", Status.DAMAGED)])
    client.hset(
        keys.audit(AUDIT, "totals"),
        mapping={"listed": 12000, "scanned": 9000, "status:safe": 9000, "status:notimage": 2},
    )
    client.hset(keys.audit(AUDIT), "reason", f"{SCRIPT} redis://user:secret@host/0")
    DeadLetters(client).add(
        Dead.message(b"{}", "redis://user:secret@host/0", f"no event: {SCRIPT} \u202e", times=3)
    )
    client.zadd(keys.WORKERS, {f"celery@{SCRIPT}": time.time()})
