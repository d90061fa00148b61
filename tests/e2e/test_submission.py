"""Every published job is in the ledger first, so a job that the broker does not accept is not lost."""

import json
import subprocess
import sys

import pytest

from keyhole.jobs.queues import JOBS
from keyhole.store import keys
from tests.e2e.conftest import Site
from tests.slow import slow

#: Publishes one object with each method of Celery, and prints the result.
EVERY_WAY = """
import json
from celery import signature
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.tasks import scan, scan_batch, submit
from keyhole.jobs.job import ScanJob
ways = {
    "delay": lambda: scan.delay("s3://b/delay"),
    "apply_async": lambda: scan.apply_async(("s3://b/apply_async",)),
    "s": lambda: scan.s("s3://b/s").apply_async(),
    "signature": lambda: signature("keyhole.scan", ("s3://b/signature",)).apply_async(),
    "batch": lambda: scan_batch.delay(["s3://b/batch"]),
    "submit": lambda: submit([ScanJob(bucket="b", key="submit")], batch_size=1),
    "submit_batch": lambda: submit([ScanJob(bucket="b", key="submit_batch")] * 3, batch_size=2),
}
said = {}
for name, publish in ways.items():
    try:
        publish()
        said[name] = "published"
    except DeliveryUncertainError:
        said[name] = "uncertain"
print(json.dumps(said))
"""

#: Publishes this many objects, in bulk or one by one.
MANY = """
import sys
from keyhole.jobs.job import ScanJob
from keyhole.tasks import scan, submit
jobs = [ScanJob(bucket="b", key=str(number)) for number in range(int(sys.argv[2]))]
if sys.argv[1] == "in bulk":
    submit(jobs, batch_size=1)
else:
    for job in jobs:
        scan.delay(job)
"""


def run(site: Site, script: str, *arguments: str, **settings: str) -> str:
    """Run a script that publishes on the site, and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**site.env, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(site: Site) -> set[str]:
    """The keys of all objects in the ledger."""
    return {job.key for pending in site.ledger.idle(JOBS, 1000) for job in pending.entry.jobs}


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["amqp://127.0.0.1:1", slow("redis://127.0.0.1:1")])
def test_every_way_notes_the_work_though_the_broker_is_away(faulty_site: Site, broker: str) -> None:
    said = json.loads(run(faulty_site, EVERY_WAY, KEYHOLE_BROKER_URL=broker))

    assert set(said.values()) == {"uncertain"}, said
    assert recorded(faulty_site) == set(said)


@pytest.mark.slow
def test_every_way_publishes_what_it_notes(faulty_site: Site) -> None:
    said = json.loads(run(faulty_site, EVERY_WAY))

    assert set(said.values()) == {"published"}, said
    assert recorded(faulty_site) == set(said)
    messages = faulty_site.redis.lrange("keyhole:broker:keyhole.jobs", 0, -1)
    ids = {json.loads(message)["headers"]["id"] for message in messages}
    assert ids == {entry_id.decode() for entry_id in faulty_site.redis.hkeys(keys.LEDGER_ENTRIES)}
    assert len(messages) == faulty_site.ledger.count()


@pytest.mark.slow
def test_in_bulk_many_are_sent_in_one_round_trip(faulty_site: Site) -> None:
    count = 300
    trips = {}
    for how in ("in bulk", "one by one"):
        before = faulty_site.redis.info("stats")["total_reads_processed"]
        run(faulty_site, MANY, how, str(count))
        trips[how] = faulty_site.redis.info("stats")["total_reads_processed"] - before

    # The server can read many commands at once, but a long pipeline needs several reads.
    assert trips["one by one"] > count
    assert trips["in bulk"] < trips["one by one"] / 5
    assert faulty_site.ledger.count() == 2 * count
    assert faulty_site.redis.llen("keyhole:broker:keyhole.jobs") == 2 * count
