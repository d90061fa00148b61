"""Without `KEYHOLE_TRACES`, traces cost almost nothing."""

import subprocess
import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

from keyhole.jobs.job import ScanJob
from keyhole.scan.report import Report
from keyhole.tracing.tracer import Tracer, tracer
from tests.e2e.commands import environment

#: The most calls of Python and C functions that a scan makes for traces. A call takes about 50 ns.
MOST_CALLS = 10


def one_scan(job: ScanJob, report: Report | None) -> None:
    """What a worker calls for one object with tags, in a message of its own."""
    assert not tracer().traces  # the message
    assert not tracer().traces  # the attempt
    tracer().on_get(job)
    tracer().scanned(job.id, report, undecided=False)  # type: ignore[arg-type] # it is not used
    tracer().took(job.id, "write tags", 0.1)
    tracer().took(job.id, "record verdict", 0.1)


def test_a_scan_makes_few_calls() -> None:
    job = ScanJob(bucket="b", key="k")
    calls = Counter[str]()

    def count(_: FrameType, event: str, __: Any) -> None:
        calls[event] += event in {"call", "c_call"}

    assert type(tracer()) is Tracer
    sys.setprofile(count)
    try:
        one_scan(job, None)
    finally:
        sys.setprofile(None)
    # `one_scan` and the end of the profile are counted, too.
    assert calls.total() - 2 <= MOST_CALLS


@pytest.mark.slow
def test_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys, keyhole.cli.worker, keyhole.cli.listen, keyhole.cli.submit, keyhole.tasks\n"
        "from keyhole.api import import_all\n"
        "from keyhole.fleet.traces import traced\n"
        "from keyhole.settings import Settings\n"
        "with traced(Settings(), 'worker'): import_all()\n"
        # redis-py imports a part of OpenTelemetry if it is installed.
        "sys.exit('keyhole.tracing.spans' in sys.modules or 'opentelemetry.exporter' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], env=environment(), check=False).returncode == 0
