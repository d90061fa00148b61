"""A real worker serves the metrics of its processes, and logs only lines of JSON."""

from typing import Any

import pytest

from keyhole.app import configure
from keyhole.builders import qcow2
from keyhole.fleet.services import use_settings
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.tasks import scan
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.metrics.pages import fetched, value
from tests.ports import free_port

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


def of(result: Any) -> Entry:
    """An entry that a task submitted. Only its id is known."""
    return Entry(result.id, (ScanJob(id=result.id, bucket="-", key="-"),))


@pytest.fixture
def port(faulty_site: Site) -> int:
    """The port at which the workers of the site serve metrics."""
    port = free_port()
    faulty_site.env["KEYHOLE_METRICS_PORT"] = str(port)
    faulty_site.held.release()
    configure(faulty_site.settings)
    use_settings(faulty_site.settings)
    return port


@pytest.mark.slow
def test_a_page_has_the_sums_of_all_processes_of_a_worker(faulty_site: Site, port: int) -> None:
    site = faulty_site
    bucket = site.bucket()
    for key, body in {"safe.qcow2": SAFE, "unsafe.qcow2": UNSAFE}.items():
        site.s3.put_object(Bucket=bucket, Key=key, Body=body)

    with commands.worker(site.env, site.log, concurrency=2):
        site.completed(
            *(of(scan.delay(f"s3://{bucket}/{key}")) for key in ("safe.qcow2", "unsafe.qcow2", "no"))
        )
        page = fetched(port)

    assert value(page, "keyhole_verdicts_total", status="safe", format="qcow2") == 1
    assert value(page, "keyhole_verdicts_total", status="unsafe", format="qcow2") == 1
    assert value(page, "keyhole_verdicts_total", status="unreadable", format="none") == 1
    assert value(page, "keyhole_s3_errors_total", code="not_found") == 1
    assert value(page, "keyhole_queue_wait_seconds_count") == 3
    assert value(page, "keyhole_scan_seconds_count", phase="s3") == 3
    assert value(page, "keyhole_scan_seconds_count", phase="recording") == 3
    assert value(page, "keyhole_scans_in_flight") == 0
    assert value(page, "keyhole_workers") == 1
    assert value(page, "keyhole_store_up") == 1
