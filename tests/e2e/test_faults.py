"""Processes are killed, connections break, workers are stopped: every object gets exactly one verdict."""

import json
import os
import signal
from gzip import compress
from pathlib import Path
from subprocess import Popen

import pytest

from keyhole.builders import qcow2
from keyhole.fleet.entry_runner import MAX_LOST
from keyhole.intake.dead_letters import DeadLetters
from keyhole.intake.refused import LONGEST_MESSAGE
from keyhole.limits import VISIBILITY
from keyhole.reasons import Status
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED, UNACKNOWLEDGED_SINCE, Site
from tests.e2e.deeds import kill_who_scans, message, submit
from tests.slow import slow

SAFE = qcow2(1024**3).to_bytes()
HELD = "held/a.qcow2"


@pytest.fixture
def bucket(faulty_site: Site) -> str:
    """A bucket with one object whose GET is delayed, and two that are answered at once."""
    name = faulty_site.bucket()
    for key in (HELD, "b.qcow2", "c.qcow2"):
        faulty_site.s3.put_object(Bucket=name, Key=key, Body=SAFE)
    return name


def announcements(site: Site, bucket: str) -> list[str]:
    """The keys of the bucket's objects, in the order of their verdicts in the stream."""
    reports = [json.loads(fields[b"report"]) for _, fields in site.redis.xrange(keys.VERDICTS)]
    return [report["key"] for report in reports if report["bucket"] == bucket]


class TestAProcessIsKilled:
    def test_its_job_is_done_by_another(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str
    ) -> None:
        entry = submit(faulty_site, bucket, HELD)
        faulty_site.held.await_request()

        killed = kill_who_scans(faulty_worker)

        faulty_site.held.await_request()
        assert commands.children(faulty_worker.pid) != [killed]
        faulty_site.held.release()
        assert faulty_site.verdicts(entry)[HELD].status is Status.SAFE
        assert announcements(faulty_site, bucket) == [HELD]

    @pytest.mark.slow
    def test_a_job_that_kills_every_time_is_given_up_and_it_alone(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str
    ) -> None:
        entry = submit(faulty_site, bucket, "b.qcow2", HELD, "c.qcow2")

        for _ in range(MAX_LOST):
            faulty_site.held.await_request()
            kill_who_scans(faulty_worker)

        reports = faulty_site.verdicts(entry)
        assert (reports[HELD].status, reports[HELD].reasons) == (Status.FAILED, ("poison",))
        assert (reports["b.qcow2"].status, reports["c.qcow2"].status) == (Status.SAFE, Status.SAFE)
        assert sorted(announcements(faulty_site, bucket)) == ["b.qcow2", "c.qcow2", HELD]
        faulty_site.completed(entry)
        commands.until(lambda: faulty_site.redis.hlen(UNACKNOWLEDGED) == 0)


class TestAWorkerIsKilled:
    @pytest.mark.slow
    def test_its_processes_end_and_another_worker_does_the_job(self, faulty_site: Site, bucket: str) -> None:
        """The broker delivers unacknowledged messages again after a timeout. The test lets that time pass."""
        site = faulty_site
        with commands.worker(site.env, site.log) as lost:
            entry = submit(site, bucket, HELD)
            site.held.await_request()
            orphans = commands.children(lost.pid)
            lost.kill()
            commands.until(lambda: not any(map(commands.is_alive, orphans)))
        assert site.ledger.count() == 1
        assert site.redis.hlen(UNACKNOWLEDGED) == 1

        (delivery,) = site.redis.zrange(UNACKNOWLEDGED_SINCE, 0, -1)
        site.redis.zincrby(UNACKNOWLEDGED_SINCE, -VISIBILITY, delivery)
        site.held.release()

        with commands.worker(site.env, site.log):
            assert site.verdicts(entry)[HELD].status is Status.SAFE
            site.completed(entry)
        assert announcements(site, bucket) == [HELD]


class TestAWorkerIsToldToStop:
    @pytest.mark.slow
    @pytest.mark.parametrize("how", [signal.SIGTERM, slow(signal.SIGINT)])
    def test_it_finishes_its_batch_and_ends(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str, how: signal.Signals
    ) -> None:
        entry = submit(faulty_site, bucket, "b.qcow2", HELD, "c.qcow2")
        faulty_site.held.await_request()

        faulty_worker.send_signal(how)
        commands.until(lambda: b"shutdown" in faulty_site.log.read_bytes())
        faulty_site.held.release()

        assert faulty_worker.wait(commands.PATIENCE) == 0
        assert faulty_site.ledger.done_among([entry.id]) == {entry.id}
        assert sorted(announcements(faulty_site, bucket)) == ["b.qcow2", "c.qcow2", HELD]
        assert faulty_site.redis.hlen(UNACKNOWLEDGED) == 0

    @pytest.mark.slow
    def test_an_idle_one_ends(self, faulty_worker: Popen[bytes]) -> None:
        faulty_worker.terminate()

        assert faulty_worker.wait(commands.PATIENCE) == 0

    @pytest.mark.slow
    def test_one_that_is_told_twice_leaves_its_job_to_another(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str
    ) -> None:
        entry = submit(faulty_site, bucket, "b.qcow2", HELD)
        faulty_site.held.await_request()

        faulty_worker.send_signal(signal.SIGTERM)
        faulty_worker.send_signal(signal.SIGQUIT)
        commands.until(lambda: b"terminate all running tasks" in faulty_site.log.read_bytes())
        faulty_site.held.release()
        assert faulty_worker.wait(commands.PATIENCE) == 0

        with commands.worker(faulty_site.env, faulty_site.log):
            assert faulty_site.verdicts(entry)[HELD].status is Status.SAFE
        assert sorted(announcements(faulty_site, bucket)) == ["b.qcow2", HELD]


class TestTheEmbeddedWorker:
    @pytest.mark.slow
    def test_ctrl_c_lets_it_finish_with_the_valkey_that_it_started(
        self, faulty_site: Site, bucket: str, tmp_path: Path
    ) -> None:
        """A terminal sends the signal to all its processes."""
        site = faulty_site
        env = {name: value for name, value in site.env.items() if name != "KEYHOLE_REDIS_URL"}
        env["KEYHOLE_DATA_DIR"] = str(tmp_path / "data")
        with commands.worker(env, site.log) as process:
            url = (tmp_path / "data" / "endpoint").read_text()
            submitted = commands.keyhole(
                "submit", f"s3://{bucket}/{HELD}", env={**env, "KEYHOLE_REDIS_URL": url}
            )
            assert submitted.returncode == 0, submitted.stderr
            site.held.await_request()

            os.killpg(process.pid, signal.SIGINT)
            commands.until(lambda: b"shutdown" in site.log.read_bytes())
            site.held.release()

            assert process.wait(commands.PATIENCE) == 0
        assert commands.keyhole("show", f"s3://{bucket}/{HELD}", env=env).returncode == 0


class TestWhatIsNoMessage:
    """Everyone with access can write to the broker's list.

    Keyhole stores such an item, and the worker continues.
    """

    ITEMS = (
        (b"no message", "not a message"),
        (b"\xff\x00", "not a message"),
        (b"[" * 100_000, "not a message"),
        (b'{"body": 1}', "not a message"),
        (
            message("keyhole.later", [[], {}, {}]),
            "'keyhole.later', which this version of Keyhole does not have",
        ),
        (message("keyhole.scan", b"{"), "not JSON"),
        (message("keyhole.scan", [1, 2]), "not a list of arguments"),
        (message("keyhole.scan", [[], {}, {}]), "keyhole.scan cannot be called"),
        (message("keyhole.scan", [[{"id": 1}], {}, {}]), "keyhole.scan cannot be called"),
        (message("keyhole.scan", [[], {"surprise": 1}, {}]), "keyhole.scan cannot be called"),
        (message("keyhole.scan", compress(bytes(2**20)), compression="application/x-gzip"), "compressed"),
        (message("keyhole.scan", [["x" * LONGEST_MESSAGE], {}, {}]), "Keyhole accepts at most"),
        (message("keyhole.audit_page", [[1], {}, {}]), "keyhole.audit_page cannot be called"),
    )

    def test_each_is_a_dead_letter_and_the_worker_goes_on(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str
    ) -> None:
        site = faulty_site
        letters = DeadLetters(site.redis)
        for item, _ in self.ITEMS:
            site.redis.lpush("keyhole:broker:keyhole.jobs", item)

        commands.until(lambda: letters.count() == len(self.ITEMS))

        reasons = [letter.reason for letter in letters.letters()]
        for _, reason in self.ITEMS:
            assert any(reason in told for told in reasons), reason
        entry = submit(site, bucket, "b.qcow2")
        assert site.verdicts(entry)["b.qcow2"].status is Status.SAFE
        assert faulty_worker.poll() is None
        commands.until(lambda: site.redis.hlen(UNACKNOWLEDGED) == 0)

    @pytest.mark.slow
    def test_what_a_later_version_understands_can_be_sent_again(
        self, faulty_site: Site, faulty_worker: Popen[bytes]
    ) -> None:
        """This version of Keyhole cannot parse the message, so the message becomes a dead letter again."""
        site = faulty_site
        letters = DeadLetters(site.redis)
        site.redis.lpush("keyhole:broker:keyhole.jobs", message("keyhole.later", [[], {}, {}]))
        commands.until(lambda: letters.count() == 1)
        (letter,) = letters.letters()

        sent = commands.keyhole("dead", "retry", letter.id, env=site.env)

        assert sent.returncode == 0, sent.stderr
        commands.until(lambda: letters.count() == 1)
        assert faulty_worker.poll() is None


class TestConnectionsAreKilled:
    @pytest.mark.slow
    def test_the_worker_takes_the_next_job(
        self, faulty_site: Site, faulty_worker: Popen[bytes], bucket: str
    ) -> None:
        assert faulty_worker.poll() is None
        faulty_site.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        entry = submit(faulty_site, bucket, "b.qcow2")

        assert faulty_site.verdicts(entry)["b.qcow2"].status is Status.SAFE
