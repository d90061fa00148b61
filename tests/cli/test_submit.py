"""`keyhole submit` puts jobs into the queue, for running workers or for a worker that the command starts."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.embedded.valkey import embedded_valkey
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.store.connection import connect
from tests.cli.conftest import Keyhole
from tests.e2e import commands
from tests.slow import slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.e2e.held_s3 import HeldS3

GIB = 1024**3


@pytest.fixture
def images(s3: "S3Client", bucket: str) -> str:
    """A bucket with a safe image and an unsafe image."""
    s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=qcow2(GIB).to_bytes())
    s3.put_object(Bucket=bucket, Key="unsafe.qcow2", Body=qcow2(GIB, backing_file="/x").to_bytes())
    return bucket


@pytest.fixture
def runtime(env: dict[str, str], tmp_path: Path) -> Path:
    """The folder in which the command makes its temporary folders."""
    folder = tmp_path / "t"
    folder.mkdir()
    env["TMPDIR"] = str(folder)
    return folder


@pytest.fixture
def marker(env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A text that identifies all processes of the command: the name of a folder that only this test uses."""
    env["KEYHOLE_TEST_MARKER"] = str(tmp_path)
    yield str(tmp_path)
    for pid in commands.marked(str(tmp_path)):
        os.kill(pid, signal.SIGKILL)


class TestToWorkersThatAreThere:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, env: dict[str, str], valkey_url: str) -> None:
        env["KEYHOLE_REDIS_URL"] = valkey_url

    @pytest.mark.slow
    def test_it_prints_each_job_and_does_not_wait(
        self, env: dict[str, str], images: str, valkey: redis.Redis
    ) -> None:
        # Another test may have killed a worker, which is listed until its entry expires.
        assert valkey.keys("*") == []

        done = commands.keyhole("submit", "--json", "-r", f"s3://{images}/", env=env)

        jobs = [ScanJob.model_validate_json(line) for line in commands.lines(done.stdout)]
        assert [job.key for job in jobs] == ["safe.qcow2", "unsafe.qcow2"]
        (note,) = commands.lines(done.stderr)
        assert (done.returncode, "No worker takes work" in note) == (0, True)

    def test_a_prefix_without_r_is_refused_unless_it_is_an_object(
        self, keyhole: Keyhole, s3: "S3Client", images: str, valkey_url: str
    ) -> None:
        prefix = f"s3://{images}/uploads/"
        s3.put_object(Bucket=images, Key="uploads/a", Body=b"a")

        refused = keyhole("submit", "--json", prefix, KEYHOLE_REDIS_URL=valkey_url)
        assert (refused.code, refused.out) == (2, "")
        assert refused.error == f"there is no object {prefix}; to submit everything below it, add -r"

        s3.put_object(Bucket=images, Key="uploads/", Body=b"")
        (line,) = keyhole("submit", "--json", prefix, KEYHOLE_REDIS_URL=valkey_url).lines
        assert ScanJob.model_validate_json(line).key == "uploads/"

    def test_a_key_like_a_prefix_is_submitted_if_s3_does_not_answer(
        self, keyhole: Keyhole, valkey_url: str
    ) -> None:
        """The machine that submits need not have access to S3."""
        printed = keyhole(
            "submit",
            "--json",
            "s3://images/uploads/",
            KEYHOLE_REDIS_URL=valkey_url,
            KEYHOLE_S3_ENDPOINT_URL="http://127.0.0.1:1",
        )
        assert (printed.code, len(printed.lines)) == (0, 1)

    @pytest.mark.parametrize("form", ["csv", "json", "markdown", "sarif"])
    def test_a_form_that_needs_verdicts_is_refused_before_anything_is_queued(
        self, keyhole: Keyhole, images: str, valkey_url: str, form: str
    ) -> None:
        ledger = Ledger(connect(valkey_url), done_seconds=3600)
        before = ledger.count()

        refused = keyhole("submit", "-o", form, "-r", f"s3://{images}", KEYHOLE_REDIS_URL=valkey_url)

        assert (refused.code, refused.out) == (2, "")
        assert refused.error == f"-o {form} needs verdicts; add --wait"
        assert ledger.count() == before

    @pytest.mark.slow
    def test_it_says_how_to_hear_of_the_verdicts(self, env: dict[str, str], images: str) -> None:
        done = commands.keyhole("submit", f"s3://{images}/safe.qcow2", env=env)

        (line,) = commands.lines(done.stdout)
        assert line.startswith("1 object submitted")
        assert "keyhole results" in line

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("s3://{bucket}",), 2, "-r"),
            slow(("{bucket}/a",), 2, "s3://bucket/key"),
            slow(("-r", "s3://{bucket}/nothing/"), 3, "check the prefix"),
            slow(("-r", "s3://no-such-bucket-anywhere"), 3, "bucket"),
        ],
    )
    def test_what_cannot_be_submitted_is_said_in_one_line(
        self, env: dict[str, str], images: str, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        done = commands.keyhole("submit", *(each.format(bucket=images) for each in arguments), env=env)

        (line,) = commands.lines(done.stderr)
        assert (done.returncode, done.stdout) == (code, b"")
        assert line.startswith("Error: ")
        assert words in line

    @pytest.mark.slow
    def test_a_broker_that_is_away_is_said_in_one_line(
        self, env: dict[str, str], images: str, valkey_url: str
    ) -> None:
        env["KEYHOLE_BROKER_URL"] = "amqp://127.0.0.1:1"
        ledger = Ledger(connect(valkey_url), done_seconds=3600)
        before = ledger.count()

        done = commands.keyhole("submit", f"s3://{images}/safe.qcow2", env=env)

        (line,) = commands.lines(done.stderr)
        assert (done.returncode, done.stdout) == (3, b"")
        assert "KEYHOLE_BROKER_URL" in line
        assert ledger.count() == before + 1


class TestWithNothingConfigured:
    def test_it_waits_and_prints_the_verdicts(
        self, env: dict[str, str], images: str, runtime: Path, marker: str
    ) -> None:
        done = commands.keyhole("submit", "--json", "-r", f"s3://{images}", env=env)

        reports = [Report.model_validate_json(line) for line in commands.lines(done.stdout)]
        assert {report.key: report.status for report in reports} == {
            "safe.qcow2": Status.SAFE,
            "unsafe.qcow2": Status.UNSAFE,
        }
        assert (done.returncode, done.stderr) == (1, b"")
        assert commands.marked(marker) == []
        assert list(runtime.iterdir()) == []

        shown = commands.keyhole("show", f"s3://{images}/unsafe.qcow2", env=env)
        assert (shown.returncode, shown.stderr) == (1, b"")

    @pytest.mark.slow
    def test_its_table_names_the_object(self, env: dict[str, str], images: str, marker: str) -> None:
        done = commands.keyhole("submit", f"s3://{images}/safe.qcow2", env=env)

        assert done.returncode == 0
        _, row, summary = commands.lines(done.stdout)
        assert row.startswith("safe ")
        assert row.endswith(f" s3://{images}/safe.qcow2")
        assert summary.startswith("1 object: 1 safe; ")
        assert commands.marked(marker) == []


class TestInterrupted:
    @pytest.fixture
    def held(self, env: dict[str, str], s3_server: "HeldS3") -> "Iterator[HeldS3]":
        s3_server.hold()
        env["KEYHOLE_S3_ENDPOINT_URL"] = s3_server.url
        yield s3_server
        s3_server.release()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("send", "how"),
        [(os.killpg, signal.SIGINT), slow(os.killpg, signal.SIGHUP), slow(os.kill, signal.SIGTERM)],
    )
    def test_while_it_waits_it_ends_with_all_that_it_started(
        self,
        env: dict[str, str],
        images: str,
        held: "HeldS3",
        runtime: Path,
        marker: str,
        tmp_path: Path,
        send: Callable[[int, int], None],
        how: signal.Signals,
    ) -> None:
        """A terminal signals all its processes, including the embedded Valkey.

        A service manager signals only the command.
        """
        log = tmp_path / "log"
        with commands.started("submit", f"s3://{images}/held/a", env=env, log=log) as submit:
            held.await_request()
            send(submit.pid, how)
            held.release()

            assert submit.wait(commands.PATIENCE) == 130
        *notes, stays, last = filter(None, log.read_text().splitlines())
        assert (stays, last) == (
            "Jobs without a verdict stay queued; the next worker scans them.",
            "Interrupted.",
        )
        # On a slow machine, the command has already mentioned that there is no verdict.
        assert [note for note in notes if not note.startswith("No verdict yet")] == []
        assert commands.marked(marker) == []
        assert list(runtime.iterdir()) == []

    def test_while_it_waits_for_workers_it_says_that_the_jobs_stay_queued(
        self, env: dict[str, str], images: str, valkey_url: str, tmp_path: Path
    ) -> None:
        env["KEYHOLE_REDIS_URL"] = valkey_url
        ledger = Ledger(connect(valkey_url), done_seconds=3600)
        before = ledger.count()
        log = tmp_path / "log"

        with commands.started("submit", "--wait", f"s3://{images}/safe.qcow2", env=env, log=log) as submit:
            commands.until(lambda: ledger.count() > before)
            submit.send_signal(signal.SIGINT)

            assert submit.wait(commands.PATIENCE) == 130
        assert list(filter(None, log.read_text().splitlines()))[-2:] == [
            "Jobs without a verdict stay queued; `keyhole results` will show their verdicts.",
            "Interrupted.",
        ]
        assert ledger.count() == before + 1

    @pytest.mark.slow
    def test_a_second_time_it_ends_at_once(
        self, env: dict[str, str], images: str, held: "HeldS3", runtime: Path, marker: str, tmp_path: Path
    ) -> None:
        """The user does not want to wait for a long scan. The next worker does it."""
        log = tmp_path / "log"
        with commands.started("submit", f"s3://{images}/held/a", env=env, log=log) as submit:
            held.await_request()
            submit.send_signal(signal.SIGINT)
            commands.until(lambda: b"shutdown" in (tmp_path / "data" / "worker.log").read_bytes())
            submit.send_signal(signal.SIGINT)

            assert submit.wait(commands.PATIENCE) == 130
        assert log.read_text().splitlines()[-1] == "Interrupted."
        assert commands.marked(marker) == []
        assert list(runtime.iterdir()) == []

        with embedded_valkey(tmp_path / "data") as url:
            assert Ledger(connect(url), done_seconds=3600).count() == 1
