"""Runs servers in their own processes, which execute the commands of a test.

The server prints its port, and then a line of JSON for each line of JSON that it reads. It must end when its
standard input closes, and therefore when the process that started it ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class Commanded:
    """The test's side of a server. Each method of a subclass sends a command and waits until it is done."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lock = Lock()
        self.url = f"http://127.0.0.1:{self._answer()}"

    def _command(self, name: str, **arguments: object) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([name, arguments]) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{type(self).__name__} has ended; its error output says why"
        return json.loads(line)


@contextmanager
def commanded(module: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the program of a module in its own process."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
