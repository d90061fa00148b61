"""The health checks of a worker and of a scheduler, as Docker and Kubernetes run them."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e import commands
from tests.e2e.conftest import Site


def test_a_worker_is_well_while_it_works(site: Site) -> None:
    done = commands.keyhole("worker", "--check", env=site.env)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"the worker is healthy\n", b"")


@pytest.mark.slow
def test_systemd_is_told_when_a_worker_starts_lives_and_stops(faulty_site: Site, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(commands.PATIENCE)
        env = faulty_site.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with commands.worker(env, faulty_site.log) as worker:
            assert systemd.recv(4096).startswith(b"READY=1\n")
            assert systemd.recv(4096).startswith(b"WATCHDOG=1\n")
            worker.terminate()
            worker.wait(commands.PATIENCE)
            systemd.settimeout(0)
            told = []
            with suppress(BlockingIOError):
                while True:
                    told.append(systemd.recv(4096))
    assert told[-1].startswith(b"STOPPING=1\n")
    assert all(message.startswith(b"WATCHDOG=1\n") for message in told[:-1])


@pytest.mark.slow
def test_a_worker_that_is_frozen_is_not(faulty_site: Site) -> None:
    env, log = faulty_site.env, faulty_site.log
    with commands.worker(env, log) as worker:
        (heartbeat,) = (log.parent / "keyhole").glob("worker-*")
        worker.send_signal(signal.SIGSTOP)
        past = heartbeat.stat().st_mtime - 95
        os.utime(heartbeat, (past, past))

        done = commands.keyhole("worker", "--check", env=env)

        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"the worker sent its last heartbeat ")
        worker.send_signal(signal.SIGCONT)
        commands.until(lambda: commands.keyhole("worker", "--check", env=env).returncode == 0)
        worker.terminate()
        worker.wait(commands.PATIENCE)
    done = commands.keyhole("worker", "--check", env=env)
    assert (done.returncode, done.stderr) == (1, b"no worker runs here\n")


@pytest.mark.slow
def test_a_worker_whose_broker_is_away_is_well(faulty_site: Site) -> None:
    """Restarting the worker would not help."""
    env, log = faulty_site.env, faulty_site.log
    with commands.worker(env, log):
        (heartbeat,) = (log.parent / "keyhole").glob("worker-*")
        faulty_site.redis.shutdown(nosave=True)
        commands.until(lambda: b"Trying again" in log.read_bytes())
        os.utime(heartbeat, (0, 0))

        commands.until(lambda: heartbeat.stat().st_mtime > 0)

        assert commands.keyhole("worker", "--check", env=env).returncode == 0


@pytest.mark.slow
def test_schedulers_are_well_whether_they_work_or_wait(faulty_site: Site, tmp_path: Path) -> None:
    schedules = tmp_path / "schedules.toml"
    schedules.write_text('[[schedules]]\nname = "nightly"\nbucket = "images"\nevery = "6h"\n')
    env = faulty_site.env | {"KEYHOLE_SCHEDULES": str(schedules)}
    log = tmp_path / "scheduler.log"
    folder = faulty_site.log.parent / "keyhole"
    with commands.started("scheduler", env=env, log=log), commands.started("scheduler", env=env, log=log):
        signs = commands.until(lambda: len(found := list(folder.glob("scheduler-*"))) == 2 and found)
        for heartbeat in signs:
            os.utime(heartbeat, (0, 0))
        commands.until(lambda: all(heartbeat.stat().st_mtime > 0 for heartbeat in signs))

        done = commands.keyhole("scheduler", "--check", env=env)

    assert (done.returncode, done.stdout) == (0, b"the scheduler is healthy\n")
