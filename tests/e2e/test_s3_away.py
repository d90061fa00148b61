"""S3 is unreachable for some time: nothing fails or is lost, and the worker takes no work meanwhile."""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from keyhole.builders import qcow2
from keyhole.reasons import Status
from keyhole.scan.report import Report
from tests.e2e import commands
from tests.e2e.conftest import Site

SAFE = qcow2(1024**3).to_bytes()
OBJECTS = 30
#: The command, with a bug in the code that makes its consumer.
BROKEN = (
    sys.executable,
    "-c",
    """
from keyhole.cli import main
from keyhole.fleet.consumer import Consumer

def raise_error(*_, **__):
    raise AttributeError("a bug")

Consumer.start = raise_error
main()
""",
)
REFUSAL = b"<Error><Code>ExpiredToken</Code><Message>the token has expired</Message></Error>"


class SwitchedS3:
    """A proxy of a WSGI application. It can be told to refuse everything."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self.refuses = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.refuses.is_set():
            start_response("400 Bad Request", [("Content-Type", "application/xml")])
            return [REFUSAL]
        return self._application(environ, start_response)


@contextmanager
def switched(site: Site) -> Iterator[tuple[SwitchedS3, str]]:
    """The site's S3 with a switch, and its URL."""
    application = SwitchedS3(site.held)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield application, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_every_object_gets_the_verdict_that_it_would_have_had(faulty_site: Site, tmp_path: Path) -> None:
    site = faulty_site
    bucket = site.bucket()
    for number in range(OBJECTS):
        site.s3.put_object(Bucket=bucket, Key=f"{number}.qcow2", Body=SAFE)
    log = tmp_path / "log"
    with switched(site) as (s3, url), commands.worker(site.env | {"KEYHOLE_S3_ENDPOINT_URL": url}, log):
        s3.refuses.set()
        submitted = commands.keyhole("submit", "-r", f"s3://{bucket}/", env=site.env)
        assert submitted.returncode == 0, submitted.stderr
        commands.until(lambda: b"takes no work, because S3 cannot be used" in log.read_bytes())
        s3.refuses.clear()

        def verdicts() -> list[Report]:
            found = (site.store.get(bucket, f"{number}.qcow2") for number in range(OBJECTS))
            return [report for report in found if report is not None]

        commands.until(lambda: len(verdicts()) == OBJECTS)

    assert b"takes work again" in log.read_bytes()
    assert {report.status for report in verdicts()} == {Status.SAFE}
    assert not any(report.last_attempt for report in verdicts())


@pytest.mark.slow
def test_a_worker_that_cannot_use_s3_says_why_in_one_line(faulty_site: Site) -> None:
    done = commands.keyhole("worker", env=faulty_site.env | {"AWS_PROFILE": "nope"})

    assert done.returncode == 3
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["event"].startswith(
        "S3 cannot be used from here: The config profile (nope) could not be found"
    )


@pytest.mark.slow
def test_a_worker_that_ends_by_itself_says_so_in_another_line(faulty_site: Site) -> None:
    with commands.started("worker", env=faulty_site.env, log=faulty_site.log, program=BROKEN) as worker:
        assert worker.wait(commands.PATIENCE) == 70

    assert "Unrecoverable error: AttributeError('a bug')" in faulty_site.log.read_text()
    last = json.loads(faulty_site.log.read_text().splitlines()[-1])
    assert last["event"].startswith("the worker ended although nobody stopped it")
