"""The budget of a scan, and the report if the budget is not enough."""

from types import SimpleNamespace

import pytest

from keyhole.api import scan_s3
from keyhole.builders import Image, gpt_disk, qcow2, vmdk_sparse
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources import meter
from keyhole.sources.meter import Budget
from keyhole.sources.s3_access import S3Access
from tests.servers.access import s3_access
from tests.servers.request import Request
from tests.servers.scripted_s3 import BUCKET, Answer, ScriptedS3, ignore_range, refuse

GIB = 1 << 30
KIB = 1 << 10
#: The length of a first read that is too short for every image here.
HEAD_BYTES = 64 * KIB

PLAIN = vmdk_sparse(10 * GIB, allocated=4)
HOSTILE = qcow2(10 * GIB, allocated=1100, backing_file="/etc/shadow")


def scan(server: ScriptedS3, access: S3Access, image: Image, budget: Budget) -> Report:
    """Scan an image with a budget."""
    server.put("image", image)
    return scan_s3(access, BUCKET, "image", None, ScanSettings(head_bytes=HEAD_BYTES, budget=budget))


@pytest.fixture(
    params=[Budget(requests=1), Budget(bytes=HEAD_BYTES), Budget(bytes=HEAD_BYTES + 1)],
    ids=["requests", "bytes", "one byte more"],
)
def small(request: pytest.FixtureRequest) -> Budget:
    """Budgets, each of which is enough only for the first read."""
    budget: Budget = request.param
    return budget


def test_a_budget_that_runs_out_is_inconclusive(
    scripted: ScriptedS3, scripted_access: S3Access, small: Budget
) -> None:
    report = scan(scripted, scripted_access, PLAIN, small)
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("budget",))


def test_what_is_known_by_then_is_in_the_report(
    scripted: ScriptedS3, scripted_access: S3Access, small: Budget
) -> None:
    report = scan(scripted, scripted_access, PLAIN, small)
    assert (report.format, report.virtual_size, report.size) == ("vmdk", 10 * GIB, PLAIN.size)
    assert report.etag == scripted.put("image", PLAIN)


def test_a_backing_file_found_by_then_is_unsafe(
    scripted: ScriptedS3, scripted_access: S3Access, small: Budget
) -> None:
    report = scan(scripted, scripted_access, HOSTILE, small)
    assert (report.status, report.reasons) == (Status.UNSAFE, ("backing_file", "budget"))


def test_nothing_is_asked_over_the_budget(
    scripted: ScriptedS3, scripted_access: S3Access, small: Budget
) -> None:
    scan(scripted, scripted_access, PLAIN, small)
    assert len(scripted.requests) <= small.requests
    assert scripted.bytes_sent <= small.bytes


def test_a_budget_below_the_first_read_asks_nothing(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    report = scan(scripted, scripted_access, PLAIN, Budget(bytes=HEAD_BYTES - 1))
    assert (report.status, report.reasons, report.size) == (Status.INCONCLUSIVE, ("budget",), None)
    assert not scripted.requests


def test_seconds_run_out(
    scripted: ScriptedS3, scripted_access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server that needs a minute for each answer
    clock = [0.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0))

    def slowly(_: Request, answer: Answer) -> Answer:
        clock[0] += 60
        return answer

    scripted.script(then=slowly)
    # When an image that needs two reads is scanned within a minute
    report = scan(scripted, scripted_access, PLAIN, Budget(seconds=60))
    # Then the second read is not made
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("budget",))
    assert (len(scripted.requests), report.elapsed_ms) == (1, 60_000)


def test_retries_count(scripted: ScriptedS3, scripted_access: S3Access) -> None:
    scripted.script(then=refuse(503, "SlowDown"))
    report = scan(scripted, scripted_access, PLAIN, Budget(requests=3))
    # Then the report blames the server, and states nothing about the object
    assert (report.status, report.reasons) == (Status.FAILED, ("slow_down",))
    assert report.requests == len(scripted.requests) == 3


def test_what_is_skipped_for_a_server_that_ignores_range_counts(scripted: ScriptedS3) -> None:
    # Given a disk whose end is near enough to be read with the front, but not within the budget
    scripted.script(then=ignore_range)
    # And a client that has sent no request to the server yet
    with s3_access(scripted.url) as access:
        report = scan(scripted, access, gpt_disk(4 << 20), Budget(bytes=1 << 20))
    # Then the disk is not read to its end
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("budget",))
    assert report.bytes_read <= 1 << 20
