"""Signs of life: what a process shows of itself, and what a check makes of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.health import LATELY, UNWELL, SignOfLife, check, folder, start_of
from tests.e2e import commands


class TestASign:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def test_is_the_queues_own(self) -> None:
        assert SignOfLife.of_queue("sqs://a").path != SignOfLife.of_queue("sqs://b").path
        assert SignOfLife.of_queue("sqs://a").age() is None

    def test_is_there_from_the_beginning_to_the_end(self) -> None:
        sign = SignOfLife.of_queue("sqs://a")

        with sign.shown():
            age = sign.age()
            assert age is not None
            assert age < 60
            assert sign.path.parent.stat().st_mode & 0o777 == 0o700

        assert sign.age() is None

    def test_follows_nobodys_link(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        sign = SignOfLife.of_queue("sqs://a")
        sign.path.parent.mkdir()
        theirs = tmp_path / "theirs"
        sign.path.symlink_to(theirs)

        with sign.shown():
            sign.give()

        assert not theirs.exists()
        assert "no sign of life" in caplog.text

    def test_that_cannot_be_given_is_said_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "keyhole").write_text("no folder")
        sign = SignOfLife.of_queue("sqs://a")

        with sign.shown():
            sign.give()
            sign.give()

        assert len(caplog.records) == 1
        assert sign.age() is None

    def test_lies_among_temporary_files_without_a_runtime_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        assert SignOfLife.of_queue("sqs://a").path.parent == tmp_path / f"keyhole-{os.getuid()}"


class TestACheck:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    @pytest.fixture
    def sign(self) -> Iterator[SignOfLife]:
        sign = SignOfLife.of_process("worker")
        with sign.shown():
            yield sign

    def test_of_nobody(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("worker") == 1
        assert capsys.readouterr().err == "no worker runs here\n"

    @pytest.mark.usefixtures("sign")
    def test_of_one_that_is_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is well\n"
        assert check("scheduler") == 1

    def test_of_one_that_has_something_to_say(
        self, sign: SignOfLife, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sign.give("it takes no work")

        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is well; it takes no work\n"

        sign.give()

        assert check("worker") == 0
        assert capsys.readouterr().out == "the worker is well\n"

    def test_of_one_that_is_silent(self, sign: SignOfLife, capsys: pytest.CaptureFixture[str]) -> None:
        past = sign.path.stat().st_mtime - LATELY - 35
        os.utime(sign.path, (past, past))

        assert check("worker") == 1
        assert capsys.readouterr().err.startswith("the worker was last alive 9")

    def test_of_one_that_says_that_it_is_unwell(
        self, sign: SignOfLife, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sign.give(f"{UNWELL}has held a task for 700 s")

        assert check("worker") == 1
        assert capsys.readouterr().err == "the worker has held a task for 700 s\n"

    def test_of_several_finds_the_one_that_is_unwell(self, sign: SignOfLife) -> None:
        other = subprocess.Popen(["sleep", "60"])
        try:
            theirs = SignOfLife(f"worker-{other.pid}-{start_of(other.pid)}")
            with theirs.shown():
                assert check("worker") == 0
                theirs.give(f"{UNWELL}hangs")
                assert check("worker") == 1
                sign.give()
                assert check("worker") == 1
        finally:
            other.kill()
            other.wait()

    def test_passes_over_what_a_process_left_that_was_killed(self, sign: SignOfLife) -> None:
        left = SignOfLife("worker-1-1")
        with left.shown():
            left.give(f"{UNWELL}hangs")

            assert check("worker") == 0
        assert sign.path.parent == folder()

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
