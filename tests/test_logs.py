"""Log events and their levels."""

import faulthandler
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from keyhole import logs
from keyhole.api import scan_s3
from keyhole.confinement.stuck import StuckWatch
from keyhole.logs.native import LONGEST_LINE, native_text
from keyhole.logs.service import only_log_lines
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3_access import S3Access
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, refuse


def test_a_retry_is_one_line_at_debug(
    scripted: ScriptedS3, scripted_access: S3Access, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a server that fails, and all log levels enabled
    scripted.script(then=refuse(503, "SlowDown"))
    logs.configure("debug")
    # When Keyhole scans an object
    report = scan_s3(scripted_access, BUCKET, "image", None, ScanSettings())
    # Then each retry is a log line that states the cause, and no line has a higher level
    assert report.status is Status.FAILED
    told = [record for record in caplog.records if record.name == "keyhole.sources.retries"]
    assert len(told) == RETRY_ATTEMPTS - 1
    assert all("slow down" in record.getMessage() for record in told)
    assert max(record.levelno for record in caplog.records) == logging.DEBUG


def test_the_stacks_of_a_stuck_process_can_be_written_to_a_services_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    with path.open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        with only_log_lines("info"):
            watch = StuckWatch(60)
            watch.begin()
            watch.end()
            faulthandler.dump_traceback(all_threads=False)
    assert "test_the_stacks_of_a_stuck_process" in path.read_text()


FORKS = """
import logging, os, sys
from keyhole.logs.service import only_log_lines, redirect_native_text

with only_log_lines("info"):
    os.write(2, b"main\\n")
    pid = os.fork()
    if pid == 0:
        redirect_native_text()
        os.write(2, b"thread panicked at src/lib.rs:1:2:\\nredis://:s3cret@h/0 \\xff\\x1b[2J\\n")
        os.write(1, b"no line end")
        print("printed")
        logging.getLogger("here").warning("logged")
        os.abort()
    os.waitpid(pid, 0)
"""


def test_what_native_code_prints_in_a_pool_process_is_json() -> None:
    """For example, the panic of a Rust library. The process can end immediately afterwards."""
    # From 3.12 on, Python warns of a fork beside threads. The pool of a worker forks the same way.
    quiet = ("-W", "ignore::DeprecationWarning")
    done = subprocess.run([sys.executable, *quiet, "-c", FORKS], capture_output=True, text=True, check=True)

    first, *lines = done.stderr.splitlines()
    assert (first, done.stdout) == ("main", "")
    told = {(line["logger"], line["event"]) for line in map(json.loads, lines)}
    assert told == {
        ("native", "thread panicked at src/lib.rs:1:2:"),
        ("native", "redis://***@h/0 \\xff\x1b[2J"),
        ("native", "no line end"),
        ("stdout", "printed"),
        ("here", "logged"),
    }


def test_a_line_of_native_code_without_end_does_not_fill_the_memory() -> None:
    lines: list[str] = []

    with native_text(lines.append) as descriptor, open(descriptor, "wb", closefd=False, buffering=0) as out:
        out.writelines(b"x" * 10_000 for _ in range(40))

    assert sum(map(len, lines)) == 400_000
    assert max(map(len, lines)) <= 2 * LONGEST_LINE
