"""The recorder, the files of several processes, and the page of metrics."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis

from keyhole.metrics import table
from keyhole.metrics.counting import Known
from keyhole.metrics.gauges import StoreGauges
from keyhole.metrics.page import metrics_page
from keyhole.metrics.recorder import Outcome, Phase, Recorder, recorder
from keyhole.metrics.server import MOST_CLIENTS
from keyhole.metrics.store_reader import Reading
from keyhole.reasons import Reason
from tests.e2e.commands import PATIENCE
from tests.metrics.pages import fetched, samples, value
from tests.metrics.readings import READING, gauges
from tests.tools import need


def count_all(counting: Recorder) -> None:
    """Count something for every metric."""
    counting.verdict("safe", "qcow2")
    counting.verdict("unrecognized", None)
    counting.waited(0.3)
    for phase in Phase:
        counting.took(phase, 0.02)
    counting.requests(3, 1000)
    counting.failures({Reason.SLOW_DOWN: 2}, 2)
    counting.spent(0.25)
    counting.events({"received": 2})
    counting.delivered("webhook", Outcome.DEAD)
    counting.audited({"queued": 5, "pages": 1})


@pytest.fixture
def port() -> Iterator[int]:
    with metrics_page(("127.0.0.1", 0), gauges(), version="1.2", role="worker", guard=nullcontext) as port:
        count_all(recorder())
        yield port


def test_a_page_has_every_metric_of_the_table_and_no_other(port: int) -> None:
    page = fetched(port)

    told = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    assert told == {metric.name: metric.kind.value for metric in table.METRICS}
    helps = dict(line.split(" ", 3)[2:] for line in page.splitlines() if line.startswith("# HELP"))
    assert helps == {metric.name: metric.help for metric in table.METRICS}
    labels = {
        name.removesuffix(end): {label for label, _ in found if label != "le"}
        for name, found in samples(page)
        for end in ("_bucket", "_count", "_sum", "")
        if name.removesuffix(end) in told
    }
    assert labels == {metric.name: set(metric.labels) for metric in table.METRICS}


def test_names_from_messages_make_no_series(port: int) -> None:
    """Otherwise, who can write to the queue could fill Prometheus."""
    recorder().events({f"ignored:Odd{number}": 1 for number in range(700)} | {"received": 1, "from:aws": 1})

    page = fetched(port)

    outcomes = [dict(labels)["outcome"] for name, labels in samples(page) if name == "keyhole_events_total"]
    assert outcomes == ["received"]
    assert value(page, "keyhole_events_total", outcome="received") == 3


def test_a_page_has_the_counts(port: int) -> None:
    page = fetched(port)

    assert value(page, "keyhole_verdicts_total", status="unrecognized", format="none") == 1
    assert value(page, "keyhole_s3_requests_total") == 3
    assert value(page, "keyhole_s3_errors_total", code="slow_down") == 2
    assert value(page, "keyhole_sink_deliveries_total", sink="webhook", outcome="dead") == 1
    assert value(page, "keyhole_queue_wait_seconds_bucket", le="1.0") == 1
    assert value(page, "keyhole_audit_objects_total", outcome="queued") == 5
    assert value(page, "keyhole_queue_messages", queue="keyhole.jobs") == 7
    assert value(page, "keyhole_sink_deliveries_owed", sink="webhook") == 2
    assert value(page, "keyhole_build_info", version="1.2", role="worker") == 1


def test_what_alerts_watch_is_there_before_it_happens() -> None:
    known = Known(("vmdk",), ("sqs",))
    with metrics_page(
        ("127.0.0.1", 0), gauges(), version="1", role="worker", guard=nullcontext, known=known
    ) as port:
        page = fetched(port)

    assert value(page, "keyhole_verdicts_total", status="unsafe", format="vmdk") == 0
    assert value(page, "keyhole_sink_deliveries_total", sink="sqs", outcome="dead") == 0


def test_prometheus_finds_no_fault_in_the_page(port: int) -> None:
    """promtool checks the syntax, the naming conventions and the help texts."""
    need("promtool")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=fetched(port).encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_only_the_page_of_metrics_is_served(port: int) -> None:
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"http://127.0.0.1:{port}/")


def test_clients_that_send_nothing_do_not_keep_others_waiting(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CLIENTS - 1)]

    assert "keyhole_store_up 1.0" in fetched(port)
    for client in silent:
        client.close()


def test_outside_the_block_nothing_is_counted() -> None:
    with metrics_page(("127.0.0.1", 0), gauges(), version="1", role="worker", guard=nullcontext):
        assert recorder().counts
    assert not recorder().counts


class TestTheGauges:
    def test_are_missing_if_redis_fails(self) -> None:
        def read() -> Reading:
            raise redis.ConnectionError

        assert list(names(StoreGauges(read, nullcontext))) == ["keyhole_store_up"]

    def test_do_not_keep_the_page_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("keyhole.metrics.gauges.WAIT_SECONDS", 0.05)
        begun, answered = threading.Event(), threading.Event()
        readings: list[int] = []

        def read() -> Reading:
            readings.append(1)
            begun.set()
            answered.wait(PATIENCE)
            return READING

        slow = StoreGauges(read, nullcontext)
        assert list(names(slow)) == ["keyhole_store_up"]
        assert begun.wait(PATIENCE)
        assert list(names(slow)) == ["keyhole_store_up"]
        assert len(readings) == 1
        answered.set()

    def test_are_read_at_most_once_in_some_seconds(self) -> None:
        readings: list[int] = []

        def read() -> Reading:
            readings.append(1)
            return READING

        often = StoreGauges(read, nullcontext)
        assert len(set(map(tuple, (names(often), names(often))))) == 1
        assert len(readings) == 1


def names(gauges: StoreGauges) -> list[str]:
    return [family.name for family in gauges.collect()]


#: A program with a main process and two pool processes, which count, and of which one is killed and replaced.
PROGRAM = """
import os, sys
from contextlib import nullcontext
from pathlib import Path
from keyhole.metrics.page import metrics_page
from keyhole.metrics.recorder import recorder
from tests.metrics.pages import fetched
from tests.metrics.readings import gauges

slot = "main"

def forked(number, kill):
    global slot
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        slot = number
        recorder().begin_process()
        recorder().verdict("safe", "qcow2")
        scanning = recorder().scanning()
        scanning.__enter__()
        os.write(write, b".")
        if kill:
            os.kill(os.getpid(), 9)
        import time
        time.sleep(60)
    os.read(read, 1)
    return pid

with metrics_page(
    ("127.0.0.1", 0), gauges(), version="1", role="worker", guard=nullcontext, slot=lambda: slot
) as port:
    print(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    pids = [forked("0", kill=False)]
    os.waitpid(forked("1", kill=True), 0)
    print(fetched(port).replace("\\n", "|"))
    pids.append(forked("1", kill=False))
    print(fetched(port).replace("\\n", "|"))
    print(len(list(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("counter_*.db"))))
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    if sys.argv[1:]:
        os.kill(os.getpid(), 9)
"""


def run(tmp_path: Path, *arguments: str) -> list[str]:
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-u", "-c", PROGRAM, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_counts_of_dead_processes_stay_and_their_gauges_go(tmp_path: Path) -> None:
    folder, first, second, files = run(tmp_path)

    first, second = first.replace("|", "\n"), second.replace("|", "\n")
    assert value(first, "keyhole_verdicts_total", status="safe", format="qcow2") == 2
    assert value(first, "keyhole_scans_in_flight") == 1
    # The process that replaces the dead one continues its counts, and starts with its own gauge.
    assert value(second, "keyhole_verdicts_total", status="safe", format="qcow2") == 3
    assert value(second, "keyhole_scans_in_flight") == 2
    assert files == "3"
    assert not Path(folder).exists()


def test_the_folder_of_a_killed_worker_is_removed_by_the_next(tmp_path: Path) -> None:
    abandoned = Path(run(tmp_path, "killed")[0])
    foreign = tmp_path / f"{abandoned.name.partition('-')[0]}-other"
    foreign.mkdir()
    assert abandoned.is_dir()

    run(tmp_path)

    assert list(tmp_path.iterdir()) == [foreign]
