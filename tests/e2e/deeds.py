"""Actions of tests on a running site: submit objects, kill a worker's process, publish messages."""

import json
import os
import signal
from base64 import b64encode
from subprocess import Popen
from uuid import uuid4

from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import Site


def submit(site: Site, bucket: str, *names: str) -> Entry:
    """Submit objects in one message, as a user does."""
    done = commands.keyhole("submit", "--json", *(f"s3://{bucket}/{name}" for name in names), env=site.env)
    assert done.returncode == 0, done.stderr
    jobs = tuple(ScanJob.model_validate_json(line) for line in done.stdout.splitlines())
    assert [job.key for job in jobs] == list(names)
    if len(jobs) == 1:
        return Entry(jobs[0].id, jobs)
    (entry_id,) = site.redis.hkeys(keys.LEDGER_ENTRIES)
    return Entry(entry_id.decode(), jobs)  # type: ignore[union-attr]  # this client decodes nothing


def kill_who_scans(process: Popen[bytes]) -> int:
    """Kill the only process that scans for a worker."""
    (pid,) = commands.children(process.pid)
    os.kill(pid, signal.SIGKILL)
    return pid


def message(task: str, body: object, **headers: object) -> bytes:
    """A message, encoded as in the broker's list."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps(
        {
            "body": b64encode(text).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": task, "id": "x", **headers},
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": uuid4().hex,
                "delivery_info": {"exchange": "keyhole.jobs", "routing_key": "keyhole.jobs"},
            },
        }
    ).encode()
