"""The constants of `keyhole plan` that a small real audit can measure: requests, and bytes in Redis."""

from collections import Counter
from collections.abc import Iterator

import pytest

from keyhole.intake.audits import plan as model
from keyhole.intake.audits.plan import Kept, Plan
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.audits.workload import Fleet, Work
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.audit_site import AuditSite, synthetic_site
from tests.servers.synthetic_s3 import IMAGE

OBJECTS = 3_000
#: The server's table of keys has a few bytes for each key, which MEMORY USAGE does not include.
SHARE_OF_TABLE = 16
BUCKET = "images"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditSite]:
    """A site with a bucket, and a worker with one process."""
    with synthetic_site(tmp_path_factory.mktemp("plan")) as site, site.worker(concurrency=1):
        yield site


def planned(site: AuditSite, **work: object) -> Plan:
    """The plan for the bucket, with the settings of the site. One GET decides each object."""
    settings = site.settings
    return model.plan(
        Work.model_validate(
            {"objects": OBJECTS, "gets": 1, "bytes": len(IMAGE), "ttfb_seconds": 0.001, **work}
        ),
        Fleet(
            processes=1,
            threads=settings.scan_threads,
            rate=0,
            outstanding=settings.audit_outstanding,
            batch_size=settings.batch_size,
        ),
        Kept(
            records=True,
            record_seconds=settings.record_seconds,
            stream_length=settings.stream_length,
            done_seconds=settings.done_seconds,
        ),
        load_prices(None),
    )


def memory(site: AuditSite) -> Counter[str]:
    """The bytes of all keys, added up by the kinds of memory in a plan."""
    found: Counter[str] = Counter()
    for key in site.redis.scan_iter(count=1000):
        name = key.decode()
        used = site.redis.memory_usage(key, samples=0)
        assert used is not None
        if name.startswith(keys.RECORD_PREFIX):
            found["records"] += used + SHARE_OF_TABLE
        elif ":idx:" in name or name.startswith(keys.ROWS_PREFIX):
            found["indexes"] += used
        elif name == keys.VERDICTS:
            found["stream"] += used
        elif name.endswith(":objects"):
            found["audit_rows"] += used
        elif name.startswith(keys.entry_done("")):
            found["jobs"] += used + SHARE_OF_TABLE
        elif name.endswith((":outstanding", ":entries", ":broker:keyhole.audits", ":broker:unacked")):
            found["queued"] += used
    return found


@pytest.mark.slow
def test_an_audit_takes_the_requests_and_the_memory_of_its_plan(site: AuditSite) -> None:
    site.s3.fill(BUCKET, OBJECTS)
    site.s3.forget()

    audit = site.ended(site.begin(BUCKET, rate=0))

    commands.until(lambda: site.services.ledger.count() == 0)
    found, used = planned(site), memory(site)
    asked = site.s3.counts()
    assert (asked["LIST"], asked["GET"]) == (found.spending.lists, found.spending.gets)
    assert audit.totals.requests == found.spending.requests
    assert audit.totals.bytes_read == found.spending.bytes_read
    assert audit.totals.dollars == pytest.approx(found.spending.dollars)
    for name in ("records", "indexes", "stream", "audit_rows"):
        assert used[name] == pytest.approx(getattr(found.memory, name), rel=0.1), name
    assert used["jobs"] / (OBJECTS / site.settings.batch_size) == pytest.approx(model.DONE_BYTES, rel=0.1)


@pytest.mark.slow
def test_jobs_that_wait_take_the_memory_of_the_plan(site: AuditSite) -> None:
    """S3 answers no GET, so the audit fills its batches and then waits."""
    site.s3.fill(BUCKET, OBJECTS)
    site.s3.hold("GET")
    audit_id = site.begin(BUCKET, rate=0, full=True)

    commands.until(lambda: len(site.audits.outstanding(audit_id)) == site.settings.audit_outstanding)
    commands.until(lambda: site.s3.held() > 0)

    used, batches = memory(site)["queued"], site.redis.hlen(keys.audit(audit_id, "outstanding"))
    site.s3.release()
    site.ended(audit_id)
    assert used / (batches * site.settings.batch_size) == pytest.approx(model.JOB_BYTES, rel=0.25)
