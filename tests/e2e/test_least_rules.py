"""Every role of Keyhole works over TLS as a Redis user with the fewest permissions. No command is refused.

The tests run on Redis and on Valkey, with signed messages.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.fleet.scheduling import beat_entry
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.intake.schedule_runs import ScheduleRuns
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.tag_debts import TagDebts
from keyhole.limits import VISIBILITY
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED_SINCE
from tests.e2e.deeds import message
from tests.e2e.held_s3 import HeldS3
from tests.fleet.beat import due_last
from tests.intake.events.aws_messages import POISON, record
from tests.intake.events.aws_messages import message as event
from tests.intake.inventory.inventories import Inventories, Row
from tests.jobs.clock import pass_seconds
from tests.servers.access import aws_client
from tests.servers.redis_server import QUOTED, RedisServer, redis_server, valkey_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
#: The key of a list of events, which needs its own rule.
EVENTS = "uploads"
#: Tags that cannot be written are given up after this many seconds.
UNDECIDED = 30


@dataclass
class Site:
    """A Redis whose user has the fewest rules, an S3, and a worker."""

    server: RedisServer
    admin: redis.Redis
    held: HeldS3
    s3: "S3Client"
    env: dict[str, str]
    folder: Path

    def bucket(self, *names: str) -> str:
        """Make a bucket with images under these names."""
        bucket = f"least-{uuid4().hex}"
        self.s3.create_bucket(Bucket=bucket)
        for name in names:
            self.s3.put_object(Bucket=bucket, Key=name, Body=SAFE)
        return bucket

    def keyhole(self, *arguments: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return its output."""
        done = commands.keyhole(*arguments, env=self.env)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout.decode()

    def json(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Run a command that prints JSON, and return the parsed output."""
        return [json.loads(line) for line in self.keyhole(*arguments, "--json", code=code).splitlines()]

    def status(self, bucket: str, key: str) -> str | None:
        """The status in an object's tags."""
        tags = self.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}.get("keyhole-status")


@pytest.fixture(scope="module", params=[redis_server, valkey_server])
def running_site(
    request: pytest.FixtureRequest, s3_server: HeldS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("least")
    key = folder / "signing.key"
    key.touch(mode=0o600)
    key.write_text(bytes(range(32)).hex())
    with ExitStack() as stack:
        server: RedisServer = stack.enter_context(request.param("--appendonly", "yes"))
        s3 = aws_client("s3", s3_server.url)
        stack.callback(s3.close)
        env = commands.environment(
            KEYHOLE_REDIS_URL=server.add_user(f"~{EVENTS}"),
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            KEYHOLE_SINKS="redis,tags",
            KEYHOLE_SIGNING_KEY_FILE=key,
            KEYHOLE_UNDECIDED_SECONDS=UNDECIDED,
            KEYHOLE_RECORD_SECONDS=86_400,
            KEYHOLE_DEAD_AFTER=1,
            XDG_RUNTIME_DIR=folder,
            **commands.S3_CREDENTIALS,
        )
        admin = stack.enter_context(server.client())
        site = Site(server, admin, s3_server, s3, env, folder)
        # Two processes, so that one is idle while a test delays the other's request.
        stack.enter_context(commands.worker(env, folder / "worker.log", concurrency=2))
        yield site


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The site. At the end of the test, Redis must have refused the user nothing."""
    yield running_site
    running_site.held.reset()
    running_site.held.release()
    letters = DeadLetters(running_site.admin)
    letters.drop(letters.ids())
    # The doctor sends this command, and reports that it is refused.
    assert running_site.server.refused() <= {"config|get"}
    assert QUOTED.encode() not in (running_site.folder / "worker.log").read_bytes()


def test_jobs(site: Site) -> None:
    bucket = site.bucket("a.qcow2", "b.qcow2")

    reports = site.json("submit", "--wait", "-r", f"s3://{bucket}/")

    assert [report["status"] for report in reports] == ["safe", "safe"]
    assert site.status(bucket, "a.qcow2") == "safe"
    assert {report["key"] for report in site.json("results") if report["bucket"] == bucket} == {
        "a.qcow2",
        "b.qcow2",
    }
    site.keyhole("show", f"s3://{bucket}/a.qcow2")
    site.keyhole("verify", f"s3://{bucket}/a.qcow2", f"s3://{bucket}/b.qcow2")
    told = {line["what"]: line["state"] for line in site.json("doctor", f"s3://{bucket}/a.qcow2")}
    assert (told["redis user"], told["workers"], told["messages"]) == ("ok", "ok", "ok")


def test_a_worker_that_is_killed(site: Site) -> None:
    bucket = site.bucket("held/a.qcow2")
    site.held.hold()
    log = site.folder / "killed.log"
    with commands.worker(site.env, log) as killed:
        site.keyhole("submit", f"s3://{bucket}/held/a.qcow2")
        site.held.await_request()
        scanning = commands.children(killed.pid)
        killed.send_signal(signal.SIGKILL)
        commands.until(lambda: not any(map(commands.is_alive, scanning)))
    pass_seconds(site.admin, 60)
    for delivery in site.admin.zrange(UNACKNOWLEDGED_SINCE, 0, -1):
        site.admin.zincrby(UNACKNOWLEDGED_SINCE, -VISIBILITY, delivery)
    site.held.release()

    commands.until(lambda: site.status(bucket, "held/a.qcow2") == "safe")


def test_an_audit_is_paused_resumed_and_cancelled(site: Site) -> None:
    bucket = site.bucket("a.qcow2", "held/b.qcow2")
    site.held.hold()
    (audit,) = site.json("audit", "--detach", f"s3://{bucket}/")
    site.held.await_request()

    site.keyhole("audit", "--pause", audit["id"])
    assert site.json("audits", "--limit", "1")[0]["state"] == "paused"
    site.keyhole("audit", "--resume", audit["id"], "--detach")
    site.held.release()
    ended = site.json("audit", "--follow", audit["id"])[-1]

    assert (ended["state"], ended["totals"]["statuses"]) == ("done", {"safe": 2})
    site.held.hold()
    (audit,) = site.json("audit", "--detach", "--full", f"s3://{bucket}/")
    site.held.await_request()
    site.keyhole("audit", "--cancel", audit["id"])
    site.held.release()
    assert site.json("audits", "--limit", "1")[0]["state"] == "cancelled"
    store = AuditStore(site.admin, expiry_seconds=None)
    commands.until(lambda: (found := store.get(audit["id"])) and not found.outstanding)


def test_an_audit_finds_what_changed_and_what_is_gone(site: Site) -> None:
    bucket = site.bucket("a.qcow2", "b.qcow2")
    site.keyhole("audit", f"s3://{bucket}/")
    site.s3.delete_object(Bucket=bucket, Key="a.qcow2")
    site.s3.delete_object_tagging(Bucket=bucket, Key="b.qcow2")

    ended = site.json("audit", "--check-tags", f"s3://{bucket}/")[-1]

    assert (ended["totals"]["unchanged"], ended["totals"]["gone"]) == (1, 1)
    report = site.keyhole("report", ended["id"], "--to", str(site.folder / f"{bucket}.jsonl"))
    assert report is not None
    site.keyhole("audit", "--versions", "--sample", "50%", f"s3://{bucket}/")


def test_an_audit_by_an_inventory(site: Site) -> None:
    bucket, inventories = site.bucket("a.qcow2", "b.qcow2"), site.bucket()
    manifest = Inventories(site.s3, bucket, inventories).write("CSV", [Row("a.qcow2")], [Row("b.qcow2")])

    ended = site.json("audit", f"s3://{bucket}/", "--inventory", f"s3://{inventories}/{manifest.key}")[-1]

    assert (ended["state"], ended["totals"]["statuses"]) == ("done", {"safe": 2})


def test_schedulers(site: Site) -> None:
    bucket = site.bucket("a.qcow2")
    file = site.folder / "schedules.toml"
    file.write_text(f'[[schedules]]\nname = "{bucket}"\nbucket = "{bucket}"\nevery = "6h"\n')
    env = site.env | {"KEYHOLE_SCHEDULES": str(file)}
    runs, audits = ScheduleRuns(site.admin), AuditStore(site.admin, expiry_seconds=None)

    def scheduled(before: str | None = None) -> str:
        """Let the schedule be due, and wait until its audit ends."""
        commands.until(lambda: beat_entry(site.admin, bucket))
        due_last(site.admin, bucket, datetime.now(UTC) - timedelta(days=1))
        commands.until(lambda: (run := runs.last(bucket).audit_id) and run != before)
        audit_id = str(runs.last(bucket).audit_id)
        commands.until(lambda: (audit := audits.get(audit_id)) and audit.state.ended)
        return audit_id

    with commands.started("scheduler", env=env, log=site.folder / "first.log") as first:
        commands.until(lambda: site.admin.exists(keys.BEAT_LOCK))
        with commands.started("scheduler", env=env, log=site.folder / "second.log"):
            audit_id = scheduled()
            # The first scheduler releases its lock, and the second one works.
            first.terminate()
            assert first.wait(commands.PATIENCE) == 0
            scheduled(before=audit_id)
            site.keyhole("scheduler", "--check")
    (line,) = map(json.loads, commands.keyhole("schedules", "--json", env=env).stdout.splitlines())
    assert line["last_run"]["state"] == "done"
    assert DeadLetters(site.admin).count() == 0


def test_tags_that_are_owed_given_up_and_owed_again(site: Site) -> None:
    bucket = site.bucket("a.qcow2")
    uri = f"s3://{bucket}/a.qcow2"
    debts, letters = TagDebts(site.admin), DeadLetters(site.admin)
    site.held.refuses_tags = lambda _: True

    site.keyhole("submit", "--wait", uri, code=3)
    assert debts.owed(bucket, "a.qcow2", None) is not None
    assert "not written since" in site.keyhole("show", uri)
    # The next attempt is due, which is the last one.
    pass_seconds(site.admin, 2 * UNDECIDED)
    commands.until(letters.count)
    site.held.reset()
    site.keyhole("dead", "list")
    site.keyhole("dead", "retry", "--all")

    commands.until(lambda: site.status(bucket, "a.qcow2") == "safe")
    assert letters.count() == 0


def test_dead_letters(site: Site) -> None:
    bucket = site.bucket("a.qcow2", "b.qcow2")
    letters = DeadLetters(site.admin)
    jobs = [ScanJob(id=uuid4().hex, bucket=bucket, key=key) for key in ("a.qcow2", "b.qcow2")]
    # Dead letters of a job, of a message without a signature, and of an invalid message
    letters.add(Dead.entry(Entry(jobs[0].id, (jobs[0],)), "a test says so"))
    unsigned = Entry(jobs[1].id, (jobs[1],))
    argument = ENTRY.dump_python(unsigned, mode="json", exclude_none=True)
    for item in (message("keyhole.scan", [[argument], {}, {}]), b"no message"):
        site.admin.lpush("keyhole:broker:keyhole.jobs", item)
    commands.until(lambda: letters.count() == 3)

    listed = site.json("dead", "list")
    for letter in listed:
        site.keyhole("dead", "show", letter["id"])
    # The unsigned and the invalid message stay, unless the first is named
    site.keyhole("dead", "retry", "--all", code=3)
    forged = next(letter["id"] for letter in listed if "signed" in letter["reason"])
    site.keyhole("dead", "retry", forged)
    site.keyhole("dead", "drop", "--all", "--yes")

    commands.until(lambda: [site.status(bucket, job.key) for job in jobs] == ["safe", "safe"])
    assert letters.count() == 0


def test_events_of_a_list(site: Site) -> None:
    bucket = site.bucket("new.qcow2", "old.qcow2")
    site.keyhole("submit", "--wait", f"s3://{bucket}/old.qcow2")
    created = event(record("new.qcow2", bucket=bucket))
    now = {"eventTime": datetime.now(UTC).isoformat()}
    deleted = event(record("old.qcow2", name="ObjectRemoved:Delete", bucket=bucket) | now)
    site.s3.delete_object(Bucket=bucket, Key="old.qcow2")
    site.admin.rpush(EVENTS, created, created, deleted, POISON)

    url = site.env["KEYHOLE_REDIS_URL"].replace("/0?", f"/0/{EVENTS}?")
    site.keyhole("listen", "--until-empty", url)

    commands.until(lambda: site.status(bucket, "new.qcow2") == "safe")
    assert [report["key"] for report in site.json("results") if report["bucket"] == bucket] == ["new.qcow2"]
    site.keyhole("dead", "retry", "--all", code=3)
    site.keyhole("dead", "drop", "--all", "--yes")


def test_a_worker_that_lacks_a_channel_says_so_and_ends(s3_server: HeldS3) -> None:
    with redis_server() as server:
        env = commands.environment(
            KEYHOLE_REDIS_URL=server.add_user("resetchannels", "&keyhole:*", "-xadd"),
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            **commands.S3_CREDENTIALS,
        )

        done = commands.keyhole("worker", env=env)

    assert done.returncode == 2
    *_, last = map(json.loads, done.stderr.splitlines())
    assert last["event"].startswith(
        "the user of KEYHOLE_REDIS_URL lacks +xadd &keyhole:broker:/0.celery.pidbox"
    )
