"""Runs a Redis or Valkey that can be killed and started again with the same data."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import redis

from tests.e2e.commands import until


class RedisProcess:
    """A server in a folder."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder, self._program = folder, program
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> redis.Redis:
        """A client for the test's own requests."""
        raise NotImplementedError

    def launch(self, options: Mapping[str, object], *arguments: str) -> None:
        """Start the server with these options and arguments, and wait until it answers."""
        command = [str(text) for name, value in options.items() for text in (f"--{name}", value)]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._answers)

    def kill(self) -> None:
        """Kill the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
