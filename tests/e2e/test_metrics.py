"""A real worker serves the metrics of its processes, and a real Prometheus reads them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

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
from tests.tools import need

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


@pytest.fixture
def prometheus(port: int, tmp_path: Path) -> Iterator[int]:
    """The port of a Prometheus that scrapes this port every few seconds."""
    need("prometheus")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        # A scrape that takes longer than this fails. A page takes seconds on a busy machine.
        "global: {scrape_interval: 3s}\n"
        "scrape_configs:\n"
        f"  - {{job_name: keyhole, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    )
    own = free_port()
    with commands.started(
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own}",
        env=os.environ,
        log=tmp_path / "prometheus.log",
        program=("prometheus",),
    ):
        yield own


def answer(prometheus: int, query: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The answer of Prometheus to a query: values by labels. Empty while Prometheus starts."""
    asked = urlencode({"query": query})
    try:
        url = f"http://127.0.0.1:{prometheus}/api/v1/query?{asked}"
        with urlopen(url, timeout=commands.PATIENCE) as response:
            found = json.load(response)["data"]["result"]
    except OSError:
        return {}
    return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}


@pytest.mark.slow
def test_prometheus_reads_the_sums_of_all_processes_of_a_worker(
    faulty_site: Site, port: int, prometheus: int
) -> None:
    site = faulty_site
    bucket = site.bucket()
    for key, body in {"safe.qcow2": SAFE, "unsafe.qcow2": UNSAFE}.items():
        site.s3.put_object(Bucket=bucket, Key=key, Body=body)

    with commands.worker(site.env, site.log, concurrency=2):
        query = "sum by (status, format) (keyhole_verdicts_total)"
        unsafe = (("format", "qcow2"), ("status", "unsafe"))
        # Prometheus knows the counter of unsafe objects before the first one, so it sees the increase.
        commands.until(lambda: answer(prometheus, query).get(unsafe) == 0)
        keys = ("safe.qcow2", "unsafe.qcow2", "none")
        site.completed(*(of(scan.delay(f"s3://{bucket}/{key}")) for key in keys))
        page = fetched(port)
        # The latest page that Prometheus has read can be older than some of the verdicts. After a failed
        # scrape, Prometheus returns no values. The page states that Redis is down if it takes a second to
        # answer.
        counted = commands.until(
            lambda: (found := answer(prometheus, query)) and sum(found.values()) == len(keys) and found
        )
        increase = 'increase(keyhole_verdicts_total{status="unsafe"}[10m]) > 0'
        grown = commands.until(lambda: answer(prometheus, increase))
        commands.until(lambda: [*answer(prometheus, "keyhole_store_up").values()] == [1])
        # The first page can be older than the worker's first record, and its gauges stay for 5 s.
        commands.until(lambda: value(fetched(port), "keyhole_workers") == 1)

    assert {labels: number for labels, number in counted.items() if number} == {
        unsafe: 1,
        (("format", "qcow2"), ("status", "safe")): 1,
        (("format", "none"), ("status", "unreadable")): 1,
    }
    assert [dict(labels)["format"] for labels in grown] == ["qcow2"]
    assert value(page, "keyhole_s3_errors_total", code="not_found") == 1
    assert value(page, "keyhole_queue_wait_seconds_count") == 3
    assert value(page, "keyhole_scan_seconds_count", phase="s3") == 3
    assert value(page, "keyhole_scan_seconds_count", phase="recording") == 3
    assert value(page, "keyhole_scans_in_flight") == 0
