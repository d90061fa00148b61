"""Runs the command on a terminal of 80 columns, on which a test types and reads."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e import commands


class Terminal:
    """A terminal on which a command runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._printed = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self._descriptor, 65536):
                self._printed += piece
        except OSError:
            pass  # Linux reports this error when all writers have closed the terminal

    @property
    def printed(self) -> str:
        """All output so far, including cursor movements."""
        return self._printed.decode(errors="replace")

    @property
    def text(self) -> str:
        """The output without cursor movements and colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.printed)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._descriptor, text.encode())

    def ended(self) -> int:
        """Wait for the command's end, and return its exit code."""
        code = self.process.wait(commands.PATIENCE)
        self._reader.join(commands.PATIENCE)
        return code


@contextmanager
def terminal(*arguments: str | Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command on a terminal. At the end, kill its remaining processes."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*commands.KEYHOLE, *arguments],
        env={**env, "TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    screen = Terminal(process, ours)
    try:
        yield screen
    finally:
        process.kill()
        screen.ended()
        os.close(ours)


def on_a_terminal(*arguments: str | Path, env: dict[str, str]) -> str:
    """The output of a command on a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*commands.KEYHOLE, *arguments], env=env, stdin=its, stdout=its, stderr=its, start_new_session=True
    ) as process:
        os.close(its)
        printed = b""
        try:
            while piece := os.read(ours, 65536):
                printed += piece
        except OSError:
            pass  # Linux reports this error when all writers have closed the terminal
        process.wait(commands.PATIENCE)
    os.close(ours)
    return printed.decode()
