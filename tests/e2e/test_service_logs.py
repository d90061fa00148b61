"""A worker, a listener and a scheduler write only lines of JSON, and one line for each verdict."""

import json
import os
import signal
import socket
from pathlib import Path
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
from tests.metrics.pages import served, value
from tests.ports import free_port

UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


def lines(log: Path) -> list[dict[str, Any]]:
    """The lines of a log. A line that is not a JSON object is an error."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line.keys() >= {"event", "level", "logger", "timestamp"} for line in found)
    return found


#: Makes each forked process print as native code does, which knows nothing of Python's streams.
PANIC = """
import os, threading
text = b"thread panicked at src/lib.rs:1:2\\n"
os.register_at_fork(after_in_child=lambda: threading.Timer(1, os.write, (2, text)).start())
"""


def stopped(process: Any) -> None:
    """Stop a command as a service manager does."""
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(commands.PATIENCE) == 0


@pytest.mark.slow
def test_a_worker_logs_each_verdict_as_one_line_of_json_and_nothing_else(
    faulty_site: Site, tmp_path: Path
) -> None:
    site = faulty_site
    (tmp_path / "sitecustomize.py").write_text(PANIC)
    env = site.env | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), site.env.get("PYTHONPATH")]))
    }
    site.held.release()
    configure(site.settings)
    use_settings(site.settings)
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="ä.qcow2", Body=UNSAFE)

    # Given a worker one of whose processes is killed
    with commands.worker(env, site.log) as process:
        (child,) = commands.children(process.pid)
        os.kill(child, signal.SIGKILL)
        commands.until(lambda: commands.children(process.pid) not in ([child], []))
        # When it scans an object, and is stopped
        job = scan.delay(f"s3://{bucket}/ä.qcow2")
        site.completed(Entry(job.id, (ScanJob(id=job.id, bucket="-", key="-"),)))
        commands.until(lambda: b"panicked" in site.log.read_bytes())
        stopped(process)

    # Then its output consists of JSON, with one line for the verdict
    told = lines(site.log)
    (verdict,) = [line for line in told if line["event"] == "verdict"]
    report = site.store.get(bucket, "ä.qcow2")
    assert report is not None
    assert (
        verdict.items()
        >= {
            "target": f"s3://{bucket}/ä.qcow2",
            "version": None,
            "etag": report.etag,
            "status": "unsafe",
            "format": "qcow2",
            "reasons": ["backing_file"],
            "requests": report.requests,
            "bytes": report.bytes_read,
            "job": job.id,
            "audit": None,
            "policy": "default",
            "ruleset": report.ruleset,
            "level": "info",
        }.items()
    )
    assert verdict["milliseconds"] > 0
    # and Celery's lines about tasks and connections are missing, but not those about the killed process
    celerys = [line for line in told if line["logger"].startswith("celery")]
    assert {line["level"] for line in celerys} <= {"warning", "error", "critical"}
    assert any("Warm shutdown" in line["event"] for line in told)
    # and nothing warns of what nobody can change: from 3.12 on, Python warns of forks beside threads
    assert not any("DeprecationWarning" in line["event"] for line in told)
    # and what native code printed is JSON, too
    assert {line["event"] for line in told if line["logger"] == "native"} == {
        "thread panicked at src/lib.rs:1:2"
    }


@pytest.mark.slow
def test_a_listener_and_a_scheduler_do_so_and_serve_metrics(faulty_site: Site, tmp_path: Path) -> None:
    schedules = tmp_path / "schedules.toml"
    schedules.write_text('[[schedules]]\nname = "nightly"\nbucket = "images"\ncrontab = "15 3 * * *"\n')
    env = faulty_site.env | {"KEYHOLE_SCHEDULES": str(schedules)}
    queue = f"{faulty_site.settings.redis_url}/0/events"
    listener, scheduler = tmp_path / "listener.log", tmp_path / "scheduler.log"
    ports = [{"KEYHOLE_METRICS_PORT": str(free_port())} for _ in range(2)]
    faulty_site.redis.rpush("events", json.dumps({"Event": "s3:TestEvent", "Bucket": "images"}))

    with (
        commands.started("listen", queue, env=env | ports[0], log=listener) as listening,
        commands.started("scheduler", env=env | ports[1], log=scheduler) as scheduling,
    ):
        commands.until(lambda: b"listening" in listener.read_bytes() and b"nightly" in scheduler.read_bytes())
        of_listener, of_scheduler = (int(port["KEYHOLE_METRICS_PORT"]) for port in ports)
        commands.until(lambda: value(served(of_listener), "keyhole_events_total", outcome="received") == 1)
        commands.until(lambda: value(served(of_scheduler), "keyhole_store_up") == 1)
        os.kill(listening.pid, signal.SIGTERM)
        os.kill(scheduling.pid, signal.SIGTERM)
        listening.wait(commands.PATIENCE)
        scheduling.wait(commands.PATIENCE)

    assert {line["event"] for line in lines(listener)} >= {"listening", "listened"}
    assert any("nightly" in line["event"] for line in lines(scheduler))


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why_in_json(faulty_site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = faulty_site.env | {"KEYHOLE_METRICS_PORT": str(taken.getsockname()[1])}
        faulty_site.held.release()
        done = commands.keyhole("worker", env=env)

    assert done.returncode == 2
    *_, last = [json.loads(line) for line in done.stderr.splitlines()]
    assert "change KEYHOLE_METRICS_PORT" in last["event"]
    assert last["level"] == "critical"
    assert done.stdout == b""
