"""`keyhole audit --fix-tags` writes missing and wrong tags from recorded verdicts, and reads no object."""

import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from keyhole.builders import qcow2
from keyhole.jobs.tag_debts import LOST_SECONDS, TagDebts
from keyhole.results.tags import own_tags, without_time
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.e2e.deeds import kill_who_scans
from tests.jobs.clock import pass_seconds

pytestmark = pytest.mark.slow

BODIES = {
    "a.qcow2": qcow2(1024**3).to_bytes(),
    "b.qcow2": qcow2(1024**3).to_bytes(),
    "unsafe.qcow2": qcow2(1024**3, backing_file="/etc/shadow").to_bytes(),
}
FORGED = "unsafe.qcow2"


@pytest.fixture
def site(faulty_site: Site) -> Iterator[Site]:
    """A site whose S3 the test controls."""
    faulty_site.held.release()
    yield faulty_site
    faulty_site.held.reset()


@pytest.fixture
def bucket(site: Site) -> str:
    """A bucket that was scanned without tags. One object has a foreign tag and one has a forged tag."""
    name = site.bucket()
    for key, body in BODIES.items():
        site.s3.put_object(Bucket=name, Key=key, Body=body)
    site.s3.put_object_tagging(
        Bucket=name, Key="b.qcow2", Tagging={"TagSet": [{"Key": "team", "Value": "storage"}]}
    )
    site.s3.put_object_tagging(
        Bucket=name, Key=FORGED, Tagging={"TagSet": [{"Key": "keyhole-status", "Value": "safe"}]}
    )
    with commands.worker(site.env | {"KEYHOLE_SINKS": "redis"}, site.log):
        audited = audit(site, name, "KEYHOLE_SINKS=redis")
    assert audited["totals"]["scanned"] == len(BODIES)
    site.held.reads.clear()
    site.held.tag_writes.clear()
    return name


def audit(site: Site, bucket: str, *arguments: str) -> dict[str, Any]:
    """Run an audit, and return its last state. An argument NAME=VALUE is a setting of the command."""
    settings = dict(argument.split("=") for argument in arguments if "=" in argument)
    options = [argument for argument in arguments if "=" not in argument]
    done = commands.keyhole("audit", f"s3://{bucket}/", "--json", *options, env=site.env | settings)
    assert done.returncode in {0, 1}, done.stderr
    ended: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return ended


def has_right_tags(site: Site, bucket: str) -> bool:
    """Return whether every object has the tags of its verdict, and nothing else but foreign tags."""
    for key in BODIES:
        report = site.store.get(bucket, key)
        assert report is not None
        wanted = own_tags(report) | ({"team": "storage"} if key == "b.qcow2" else {})
        if without_time(site.tags(bucket, key)) != without_time(wanted):
            return False
    return True


def test_objects_that_were_scanned_before_tags_were_on_get_them_and_are_not_read(
    site: Site, bucket: str
) -> None:
    with commands.worker(site.env, site.log):
        audited = audit(site, bucket, "--fix-tags")

        totals = audited["totals"]
        assert (totals["unchanged"], totals["tag_mismatches"], totals["tag_fixes"]) == (3, 3, 3)
        commands.until(lambda: has_right_tags(site, bucket))
        assert site.tags(bucket, FORGED)["keyhole-status"] == "unsafe"
        commands.until(lambda: TagDebts(site.redis).count() == 0)

        writes = len(site.held.tag_writes)
        again = audit(site, bucket, "--fix-tags")["totals"]
        assert (again["unchanged"], again["tag_mismatches"], again["tag_fixes"]) == (3, 0, 0)
    assert len(site.held.tag_writes) == writes == len(BODIES)
    assert site.held.reads == []


def test_a_user_sees_what_is_corrected(site: Site, bucket: str) -> None:
    with commands.worker(site.env, site.log):
        hinted = commands.keyhole("audit", f"s3://{bucket}/", env=site.env)
        fixed = commands.keyhole("audit", f"s3://{bucket}/", "--fix-tags", env=site.env)
        audit_id = json.loads(commands.keyhole("audits", "--json", env=site.env).stdout.splitlines()[0])["id"]
        told = commands.keyhole("report", audit_id, "--to", "-", "-o", "jsonl", env=site.env).stdout.decode()

    assert (
        "The tags of 3 unchanged objects were not compared with the verdicts; "
        "--fix-tags compares them, and writes missing tags.\n"
    ) in hinted.stderr.decode()
    assert b"3 of these tags will be corrected" in fixed.stdout
    assert b"3 objects had missing or wrong tags" in fixed.stderr
    assert b"not compared" not in fixed.stderr
    assert "the verdict is unsafe, but the tag keyhole-status says safe; the tags will be corrected" in told


def test_a_worker_that_is_killed_while_it_writes_loses_no_tags(site: Site, bucket: str) -> None:
    written, released = Event(), Event()

    def hold_back(_: str) -> None:
        written.set()
        released.wait(commands.PATIENCE)

    site.held.before_tag_write = hold_back
    with commands.worker(site.env, site.log) as process:
        assert audit(site, bucket, "--fix-tags")["totals"]["tag_fixes"] == 3
        assert written.wait(commands.PATIENCE)
        kill_who_scans(process)
        site.held.reset()
        released.set()
        pass_seconds(site.redis, 2 * LOST_SECONDS)

        commands.until(lambda: has_right_tags(site, bucket) or not pass_seconds(site.redis, LOST_SECONDS))
    assert site.held.reads == []


def test_a_command_with_its_own_worker_ends_when_the_tags_are_written(site: Site, bucket: str) -> None:
    env = {name: value for name, value in site.env.items() if name != "KEYHOLE_REDIS_URL"}
    env["KEYHOLE_DATA_DIR"] = str(site.log.parent / "data")
    without = commands.keyhole("audit", f"s3://{bucket}/", env=env | {"KEYHOLE_SINKS": "redis"})
    assert without.returncode == 1, without.stderr
    assert not has_right_tags(site, bucket)

    done = commands.keyhole("audit", f"s3://{bucket}/", "--fix-tags", env=env)

    assert b"3 objects had missing or wrong tags. They are corrected." in done.stderr
    assert has_right_tags(site, bucket)
