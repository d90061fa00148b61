"""Objects that kill or hang the process that scans them end as `poison`, and affect no other object."""

import time
from collections.abc import Sequence

import pytest

from keyhole.builders import qcow2
from keyhole.fleet.entry_runner import PARTS
from keyhole.intake.dead_letters import DeadLetters
from keyhole.reasons import Status
from keyhole.scan.report import Report
from tests.e2e import commands, misbehaving
from tests.e2e.conftest import Site

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
PROCESSES = 2


def fill(site: Site, *poison: str, innocents: int) -> tuple[str, list[str], list[str]]:
    """Make a bucket with objects that misbehave among others. Return its name, and the keys of both kinds."""
    bucket = site.bucket()
    good = [f"poison-free/{number:03}.qcow2" for number in range(innocents)]
    for key in (*poison, *good):
        site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
    return bucket, list(poison), good


def submit(site: Site, bucket: str, keys: Sequence[str]) -> None:
    done = commands.keyhole("submit", *(f"s3://{bucket}/{key}" for key in keys), env=site.env)
    assert done.returncode == 0, done.stderr


def verdicts(site: Site, bucket: str, keys: Sequence[str]) -> dict[str, Report]:
    """The verdicts on all these objects, when there are all."""

    def found() -> dict[str, Report] | None:
        reports = {key: site.store.get(bucket, key) for key in keys}
        return None if None in reports.values() else {key: one for key, one in reports.items() if one}

    reports: dict[str, Report] = commands.until(found)
    return reports


def mixed(poison: Sequence[str], good: Sequence[str]) -> list[str]:
    """All keys, with the keys of one kind spread among the others."""
    every = len(good) // len(poison)
    keys: list[str] = []
    for number, key in enumerate(poison):
        keys += [key, *good[number * every : (number + 1) * every]]
    return keys + list(good[len(poison) * every :])


class TestThirtyAmongAHundred:
    def test_innocents_have_their_verdicts_before_the_poison_is_tried_again(self, faulty_site: Site) -> None:
        """Each poisonous object costs three processes. The others wait for one of these, at most a minute.

        Until the last good object has its verdict, the processes of the batch and of its parts are lost, and
        one process for each poisonous object that continues alone. 39 lost processes took 37 seconds, on two
        cores with a load of 8.
        """
        site = faulty_site
        site.held.release()
        bucket, poison, good = fill(site, *(f"poison/kill-{number}" for number in range(30)), innocents=70)
        with commands.worker(site.env, site.log, concurrency=PROCESSES, program=misbehaving.PROGRAM):
            began = time.monotonic()
            submit(site, bucket, mixed(poison, good))

            innocent = verdicts(site, bucket, good)
            lost, took = site.log.read_bytes().count(b"WorkerLostError"), time.monotonic() - began
            guilty = verdicts(site, bucket, poison)
            print(f"innocents after {took:.1f} s and {lost} lost processes")
            print(f"all after {time.monotonic() - began:.1f} s")

        assert {report.status for report in innocent.values()} == {Status.SAFE}
        assert {(report.status, report.reasons) for report in guilty.values()} == {
            (Status.FAILED, ("poison",))
        }
        assert DeadLetters(site.redis).count() == len(poison)
        # The other process continues while this one works on the last good object, and until this test
        # checks.
        meanwhile = 2 * PROCESSES
        assert lost <= 1 + PARTS + len(poison) + meanwhile


@pytest.mark.parametrize("deed", ["spin", "stick", "take"])
def test_what_hangs_or_takes_all_memory_ends_alone(faulty_site: Site, deed: str) -> None:
    site = faulty_site
    site.held.release()
    bucket, poison, good = fill(site, f"poison/{deed}-1", innocents=20)
    with commands.worker(site.env, site.log, concurrency=2, program=misbehaving.PROGRAM) as process:
        began = time.monotonic()
        submit(site, bucket, mixed(poison, good))
        innocent = verdicts(site, bucket, good)
        print(f"{deed}: innocents after {time.monotonic() - began:.1f} s")
        (guilty,) = verdicts(site, bucket, poison).values()
        print(f"{deed}: guilty after {time.monotonic() - began:.1f} s")
        assert process.poll() is None

    assert {report.status for report in innocent.values()} == {Status.SAFE}
    assert (guilty.status, guilty.reasons) == (Status.FAILED, ("poison",))
    (letter,) = DeadLetters(site.redis).letters()
    print(letter.reason)
    assert "workers lost while they scanned it: 3" in letter.reason


def test_what_takes_over_its_process_finds_nothing(faulty_site: Site) -> None:
    site = faulty_site
    site.held.release()
    bucket, _, _ = fill(site, "poison/break-out-1", innocents=0)
    with commands.worker(site.env, site.log, program=misbehaving.PROGRAM):
        submit(site, bucket, ["poison/break-out-1"])
        (report,) = verdicts(site, bucket, ["poison/break-out-1"]).values()

    assert report.status is Status.SAFE
    assert b"broken out" not in site.log.read_bytes()
