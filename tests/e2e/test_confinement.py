"""A real worker's processes are confined, report that, and are replaced when it no longer fits."""

import json
import sys
from pathlib import Path

import pytest

from keyhole.builders import qcow2
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.dead_letters import DeadLetters
from keyhole.reasons import Status
from tests.confinement.confined import with_landlock
from tests.e2e import commands
from tests.e2e.conftest import Site

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()


@with_landlock
def test_a_process_is_replaced_with_a_file_that_it_may_read(faulty_site: Site, tmp_path: Path) -> None:
    """The next process does the old process's job."""
    site = faulty_site
    site.held.release()
    bucket = site.bucket()
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    load_prices(str(prices))
    env = site.env | {"KEYHOLE_PRICES": str(prices)}
    with commands.worker(env, site.log) as worker:
        for key in ("a.qcow2", "b.qcow2"):
            before = commands.children(worker.pid)
            site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
            assert commands.keyhole("submit", f"s3://{bucket}/{key}", env=env).returncode == 0
            commands.until(lambda key=key: site.store.get(bucket, key))
            renewed = tmp_path / "renewed.toml"
            renewed.write_text(PRICES)
            renewed.replace(prices)

        assert before != commands.children(worker.pid)
    log = site.log.read_bytes()
    assert b"confinement of the pool's processes: files (Landlock), privileges and limits" in log
    assert b"prices.toml was replaced, and the new one is not allowed" in log
    report = site.store.get(bucket, "b.qcow2")
    assert report is not None
    assert report.status is Status.SAFE
    assert DeadLetters(site.redis).count() == 0


PRICES = (Path(__file__).parents[2] / "worker" / "keyhole" / "intake" / "audits" / "prices.toml").read_text()


def test_a_worker_that_must_be_confined_and_cannot_says_why(faulty_site: Site, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process = sh -c true\n")
    env = faulty_site.env | {"KEYHOLE_CONFINE": "required", "AWS_CONFIG_FILE": str(config)}

    done = commands.keyhole("worker", env=env)

    assert done.returncode == 3
    *_, last = map(json.loads, done.stderr.splitlines())
    assert last["event"].startswith(
        "KEYHOLE_CONFINE is required, but the AWS profile names a credential_process"
    )


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_pool_without_processes_is_not_confined(faulty_site: Site, pool: str) -> None:
    """The worker reports that, and works."""
    site = faulty_site
    site.held.release()
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)
    celery = (sys.executable, "-m", "celery", "-A", "keyhole.app", "worker", "--pool", pool)
    with commands.started(env=site.env, log=site.log, program=celery):
        assert commands.keyhole("submit", f"s3://{bucket}/a.qcow2", env=site.env).returncode == 0

        report = commands.until(lambda: site.store.get(bucket, "a.qcow2"))

    assert report.status is Status.SAFE
    assert b"scans are not confined" in site.log.read_bytes()
