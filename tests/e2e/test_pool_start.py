"""A pool process ends while its worker starts: the worker replaces a killed process, and no other."""

import os
from pathlib import Path

import pytest

from keyhole.builders import qcow2
from tests.e2e import commands
from tests.e2e.conftest import Site

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
#: Ends the first process that is forked, and lets the worker wait until it has ended.
ENDS = """
import os
from pathlib import Path

def end():
    try:
        Path({marker!r}).touch(exist_ok=False)
    except FileExistsError:
        return
    {deed}

os.register_at_fork(after_in_child=end)
"""
#: Makes Celery's loop wait until a process of the pool has ended, before it looks at the pool.
WAITS = """
from celery.concurrency import prefork
import time

looks = prefork.TaskPool.register_with_event_loop

def register(self, loop):
    while all(process.exitcode is None for process in self._pool._pool):
        time.sleep(0.01)
    return looks(self, loop)

prefork.TaskPool.register_with_event_loop = register
"""


def program(folder: Path, deed: str) -> tuple[str, ...]:
    """A worker whose first process does this deed before Celery looks at the pool."""
    ends = ENDS.format(marker=os.fspath(folder / "ended"), deed=deed)
    code = f"{ends}\n{WAITS}\nfrom keyhole.__main__ import main\nmain()"
    return (commands.KEYHOLE[0], "-c", code)


def test_a_killed_process_is_replaced(faulty_site: Site, tmp_path: Path) -> None:
    site = faulty_site
    site.held.release()
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)
    killed = program(tmp_path, "os.kill(os.getpid(), 9)")

    with commands.worker(site.env, site.log, concurrency=2, program=killed) as worker:
        commands.until(lambda: worker.poll() is not None or len(commands.children(worker.pid)) == 2)
        assert worker.poll() is None, site.log.read_text()
        done = commands.keyhole("submit", "--wait", f"s3://{bucket}/a.qcow2", env=site.env)
        worker.terminate()
        assert worker.wait(commands.PATIENCE) == 0

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ended").exists()
    assert b"SIGKILL" in site.log.read_bytes()


def test_a_worker_whose_process_ends_by_itself_ends(faulty_site: Site, tmp_path: Path) -> None:
    site = faulty_site
    ended = program(tmp_path, "os._exit(1)")

    with commands.started("worker", env=site.env, log=site.log, program=ended) as worker:
        assert worker.wait(commands.PATIENCE) == 70

    assert b"Could not start worker processes" in site.log.read_bytes()
