"""Liveness of a process: the signs of life that it writes, and the check that reads them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.health import STALE_SECONDS, UNHEALTHY_PREFIX, HeartbeatFile, check, folder, start_of
from tests.e2e import commands


class TestASign:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def test_is_the_queues_own(self) -> None:
        assert HeartbeatFile.of_queue("sqs://a").path != HeartbeatFile.of_queue("sqs://b").path
        assert HeartbeatFile.of_queue("sqs://a").age() is None

    def test_is_there_from_the_beginning_to_the_end(self) -> None:
        heartbeat = HeartbeatFile.of_queue("sqs://a")

        with heartbeat.kept():
            age = heartbeat.age()
            assert age is not None
            assert age < 60
            assert heartbeat.path.parent.stat().st_mode & 0o777 == 0o700

        assert heartbeat.age() is None

    def test_follows_nobodys_link(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        heartbeat = HeartbeatFile.of_queue("sqs://a")
        heartbeat.path.parent.mkdir()
        theirs = tmp_path / "theirs"
        heartbeat.path.symlink_to(theirs)

        with heartbeat.kept():
            heartbeat.beat()

        assert not theirs.exists()
        assert "cannot write the heartbeat" in caplog.text

    def test_that_cannot_be_given_is_said_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "keyhole").write_text("no folder")
        heartbeat = HeartbeatFile.of_queue("sqs://a")

        with heartbeat.kept():
            heartbeat.beat()
            heartbeat.beat()

        assert len(caplog.records) == 1
        assert heartbeat.age() is None

    def test_lies_among_temporary_files_without_a_runtime_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        assert HeartbeatFile.of_queue("sqs://a").path.parent == tmp_path / f"keyhole-{os.getuid()}"


class TestACheck:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    @pytest.fixture
    def heartbeat(self) -> Iterator[HeartbeatFile]:
        heartbeat = HeartbeatFile.of_process("worker")
        with heartbeat.kept():
            yield heartbeat

    def test_of_nobody(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("worker") == 1
        assert capsys.readouterr().err == "no worker runs here\n"

    @pytest.mark.usefixtures("heartbeat")
    def test_of_one_that_is_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is healthy\n"
        assert check("scheduler") == 1

    def test_of_one_that_has_something_to_say(
        self, heartbeat: HeartbeatFile, capsys: pytest.CaptureFixture[str]
    ) -> None:
        heartbeat.beat("it takes no work")

        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is healthy; it takes no work\n"

        heartbeat.beat()

        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is healthy\n"

    def test_of_one_that_is_silent(
        self, heartbeat: HeartbeatFile, capsys: pytest.CaptureFixture[str]
    ) -> None:
        past = heartbeat.path.stat().st_mtime - STALE_SECONDS - 35
        os.utime(heartbeat.path, (past, past))

        assert check("worker") == 1
        assert capsys.readouterr().err.startswith("the worker sent its last heartbeat 9")

    def test_of_one_that_says_that_it_is_unwell(
        self, heartbeat: HeartbeatFile, capsys: pytest.CaptureFixture[str]
    ) -> None:
        heartbeat.beat(f"{UNHEALTHY_PREFIX}has held a task for 700 s")

        assert check("worker") == 1
        assert capsys.readouterr().err == "the worker has held a task for 700 s\n"

    def test_of_several_finds_the_one_that_is_unwell(self, heartbeat: HeartbeatFile) -> None:
        other = subprocess.Popen(["sleep", "60"])
        try:
            theirs = HeartbeatFile(f"worker-{other.pid}-{start_of(other.pid)}")
            with theirs.kept():
                assert check("worker") == 0
                theirs.beat(f"{UNHEALTHY_PREFIX}hangs")
                assert check("worker") == 1
                heartbeat.beat()
                assert check("worker") == 1
        finally:
            other.kill()
            other.wait()

    def test_passes_over_what_a_process_left_that_was_killed(self, heartbeat: HeartbeatFile) -> None:
        left = HeartbeatFile("worker-1-1")
        with left.kept():
            left.beat(f"{UNHEALTHY_PREFIX}hangs")

            assert check("worker") == 0
        assert heartbeat.path.parent == folder()

    def test_imports_nothing_that_takes_long(self) -> None:
        code = "import sys; from keyhole.__main__ import main\ntry: main()\nfinally: print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code, "worker", "--check"],
            env=commands.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 1
        assert done.stderr == "no worker runs here\n"
        assert not {"celery", "boto3", "redis", "click", "pydantic", "logging"} & set(done.stdout.split())


class TestToldToSystemd:
    """The messages of sd_notify(3), on the kind of socket that systemd opens."""

    @pytest.fixture(params=["/notify", "@"])
    def systemd(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[socket.socket]:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        address = f"{tmp_path}/notify" if request.param == "/notify" else f"@keyhole-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind("\0" + address[1:] if address.startswith("@") else address)
            listening.settimeout(10)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            yield listening

    def test_are_the_start_each_sign_of_life_and_the_end(self, systemd: socket.socket) -> None:
        heartbeat = HeartbeatFile.of_process("scheduler")

        with heartbeat.kept():
            heartbeat.beat("waits\nfor the lock")
            heartbeat.beat()

        told = [systemd.recv(4096) for _ in range(4)]
        assert told == [
            b"READY=1\nSTATUS=",
            b"WATCHDOG=1\nSTATUS=waits for the lock",
            b"WATCHDOG=1\nSTATUS=",
            b"STOPPING=1\nSTATUS=",
        ]

    def test_is_no_sign_of_life_if_the_process_is_unhealthy(self, systemd: socket.socket) -> None:
        HeartbeatFile.of_process("worker").beat(UNHEALTHY_PREFIX + "has held a task for 900 s")

        assert systemd.recv(4096) == b"STATUS=has held a task for 900 s"

    def test_is_nothing_if_systemd_has_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
        heartbeat = HeartbeatFile.of_process("worker")

        with heartbeat.kept():
            heartbeat.beat()

            assert heartbeat.age() is not None
