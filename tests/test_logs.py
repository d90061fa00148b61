"""Log events and their levels."""

import faulthandler
import logging
import sys
from pathlib import Path

import pytest

from keyhole import logs
from keyhole.api import scan_s3
from keyhole.confinement.stuck import StuckWatch
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
