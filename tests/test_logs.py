"""Log events and their levels."""

import logging

import pytest

from keyhole import logs
from keyhole.api import scan_s3
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
