"""A rolling upgrade: old and new workers share one Redis and one queue, and no work is lost or done twice.

By default, the old version is this tree, and the new version is a copy of this tree in which messages have a
later version with another field, and reports have another field. If the environment variable
`KEYHOLE_TEST_OLD` names a git revision, the old version is that revision, and the new version is this tree:

    KEYHOLE_TEST_OLD=v0.1.0 pytest -m slow tests/e2e/test_rolling_upgrade.py
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetters
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import Site

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SAFE = qcow2(1024**3).to_bytes()
#: Each version submits this many objects at a time.
EACH = 5
#: The changes that make a later version of this tree: file, old text, new text.
CHANGES = [
    ("versions.py", "ENTRY: Final = 2", "ENTRY: Final = 3"),
    ("jobs/entry.py", "le=versions.ENTRY)] = 1", "le=versions.ENTRY)] = versions.ENTRY"),
    (
        "jobs/entry.py",
        "    part_of: str | None = None\n",
        "    part_of: str | None = None\n    rush: int = 7\n",
    ),
    ("scan/report.py", "    bucket: str", '    mood: str = "new"\n    bucket: str'),
]


@dataclass(frozen=True)
class Version:
    """One version of Keyhole, in its own folder."""

    name: str
    env: dict[str, str]
    program: tuple[str, ...] = (sys.executable, "-m", "keyhole")

    def run(self, *arguments: str) -> str:
        """Run a command, and return its output."""
        done = subprocess.run(
            [*self.program, *arguments],
            env=self.env,
            capture_output=True,
            timeout=commands.PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def submit(self, *uris: str) -> set[str]:
        """Submit objects, and return the ids of their jobs."""
        return {json.loads(line)["id"] for line in self.run("submit", "--json", *uris).splitlines()}


def old_and_new(folder: Path, env: Mapping[str, str]) -> Iterator[Version]:
    old, new = folder / "old", folder / "new"
    revision = os.environ.get("KEYHOLE_TEST_OLD")
    if revision:
        command = ["git", "-C", str(ROOT), "archive", revision, "worker"]
        archive = subprocess.run(command, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(old, filter="data")
        shutil.copytree(ROOT / "worker", new / "worker", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        for copy in (old, new):
            shutil.copytree(ROOT / "worker", copy / "worker", ignore=shutil.ignore_patterns("__pycache__"))
        for name, before, after in CHANGES:
            path = new / "worker" / "keyhole" / name
            text = path.read_text()
            assert text.count(before) == 1
            path.write_text(text.replace(before, after))
    for name in ("old", "new"):
        yield Version(name, {**env, "PYTHONPATH": str(folder / name / "worker"), "KEYHOLE_BATCH_SIZE": "1"})


def test_a_new_worker_replaces_an_old_one(faulty_site: Site, tmp_path: Path) -> None:
    site = faulty_site
    site.held.release()
    bucket = site.bucket()
    uris = [f"s3://{bucket}/{number}.qcow2" for number in range(4 * EACH)]
    for number in range(4 * EACH):
        site.s3.put_object(Bucket=bucket, Key=f"{number}.qcow2", Body=SAFE)
    old, new = old_and_new(tmp_path, site.env)

    def verdicts() -> list[str]:
        return [fields[b"job"].decode() for _, fields in site.redis.xrange(keys.VERDICTS)]

    with commands.worker(old.env, tmp_path / "old.log", program=old.program) as first:
        # Only an old worker runs. It scans the objects that the old version submitted, and leaves the others.
        from_old = old.submit(*uris[:EACH])
        from_new = new.submit(*uris[EACH : 2 * EACH])
        commands.until(lambda: from_old <= set(verdicts()))
        if "KEYHOLE_TEST_OLD" not in os.environ:
            commands.until(lambda: site.ledger.count_postponed() == EACH)
            assert not from_new & set(verdicts())

        # A new worker runs beside it. Both versions continue to submit.
        with commands.worker(new.env, tmp_path / "new.log", program=new.program):
            from_new |= new.submit(*uris[2 * EACH : 3 * EACH])
            from_old |= old.submit(*uris[3 * EACH :])
            commands.until(lambda: len(verdicts()) >= 2 * EACH)
            os.killpg(first.pid, signal.SIGKILL)
            commands.until(lambda: site.ledger.count() == 0)

    assert len(from_old | from_new) == len(uris)
    assert sorted(verdicts()) == sorted(from_old | from_new)
    assert DeadLetters(site.redis).count() == 0
    # Each version reads the records of both.
    for version in (old, new):
        reports = [json.loads(line) for line in version.run("results", "--json").splitlines()]
        assert [report["status"] for report in reports] == ["safe"] * len(uris)
