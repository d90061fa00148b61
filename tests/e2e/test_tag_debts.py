"""Tags that could not be written, and workers killed while writing: other workers write the tags."""

from collections.abc import Iterator
from threading import Event

import pytest

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetters
from keyhole.jobs.tag_debts import LOST_SECONDS, TagDebts
from keyhole.reasons import Status
from keyhole.results.tags import TagDebt
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.e2e.deeds import kill_who_scans, submit
from tests.jobs.clock import pass_seconds

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


@pytest.fixture
def site(faulty_site: Site) -> Iterator[Site]:
    """A site whose S3 can refuse tags."""
    faulty_site.held.release()
    yield faulty_site
    faulty_site.held.reset()


def test_a_worker_that_is_killed_after_its_write_leaves_no_safe_on_an_object_that_took_the_place(
    site: Site,
) -> None:
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="a", Body=SAFE)
    written, released = Event(), Event()

    def replace(_: str) -> None:
        site.s3.put_object(Bucket=bucket, Key="a", Body=UNSAFE)

    def hold_back(_: str) -> None:
        written.set()
        released.wait(commands.PATIENCE)

    # Given an object that is replaced just before its tags are written
    site.held.before_tag_write, site.held.after_tag_write = replace, hold_back
    with commands.worker(site.env, site.log) as process:
        entry = submit(site, bucket, "a")
        assert written.wait(commands.PATIENCE)
        # When the process is killed before it checks again, and the new object is not scanned
        site.ledger.complete(entry)
        kill_who_scans(process)
        assert site.tags(bucket, "a")["keyhole-status"] == "safe"
        site.held.reset()
        released.set()
        # Then the sweep finds the wrong tags
        pass_seconds(site.redis, LOST_SECONDS)
        commands.until(lambda: not site.tags(bucket, "a"))


def test_tags_that_are_refused_for_a_while_are_written_later_without_another_scan(site: Site) -> None:
    bucket = site.bucket()
    names = [f"{number}.qcow2" for number in range(20)]
    for name in names:
        site.s3.put_object(Bucket=bucket, Key=name, Body=SAFE)
    site.held.refuses_tags = lambda _: True
    site.held.reads.clear()
    with commands.worker(site.env, site.log, concurrency=2):
        # Given jobs that are done while tags cannot be written
        entry = submit(site, bucket, *names)
        site.completed(entry)
        debts = TagDebts(site.redis)
        assert {name: site.store.get(bucket, name) is not None for name in names} == dict.fromkeys(
            names, True
        )
        commands.until(lambda: debts.count() == len(names))
        reads = len(site.held.reads)

        # When tags can be written again
        site.held.reset()
        pass_seconds(site.redis, 60)

        # Then they are written, and no object is read for that
        commands.until(
            lambda: all(site.tags(bucket, name).get("keyhole-status") == Status.SAFE for name in names)
        )
        commands.until(lambda: debts.count() == 0 or not pass_seconds(site.redis, 60))
        assert len(site.held.reads) == reads
        assert DeadLetters(site.redis).count() == 0


def test_thousands_of_owed_tags_at_a_low_rate_do_not_hold_up_scans(site: Site) -> None:
    """The tags of one object take 18 seconds. The worker has two processes, and more tasks than that.

    No time limit ends a task during the test.
    """
    env = site.env | {"KEYHOLE_SOFT_SECONDS": "3000"}
    bucket = site.bucket()
    for number in range(4):
        site.s3.put_object(Bucket=bucket, Key=str(number), Body=SAFE)
    debts, owed = TagDebts(site.redis), 3_000
    with site.redis.pipeline(transaction=False) as pipeline:
        for number in range(owed):
            key, etag = f"owed/{number}", ""
            # The first debts are due first, and take all requests. Two processes have 32 threads for them.
            if number < 40:
                etag = site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)["ETag"].strip('"')
            debts.record(TagDebt(bucket, key, None, etag, {"keyhole-status": "safe"}, rate=0.22), pipeline)
        pipeline.execute()
    with commands.worker(env, site.log, concurrency=2):
        # Given that a process writes owed tags
        commands.until(lambda: site.redis.zcard(keys.debts("tags", "held")))

        # When objects are submitted, one after the other
        for number in range(4):
            site.verdicts(submit(site, bucket, str(number)))

        # Then they get their verdicts while nearly all tags are still owed
        assert owed - 100 < debts.count() <= owed
        assert DeadLetters(site.redis).count() == 0
