"""Ends a command on SIGINT, SIGTERM and SIGHUP by a `KeyboardInterrupt` that cannot get lost.

Python calls a signal handler between two instructions of the main thread. If these belong to a finalizer or
to the callback of a weak reference, which for example an import can call at any time, Python ignores the
exception of the handler and only passes it to `sys.unraisablehook`. The command would go on, although a
service manager waits for its end. So this hook sends the signal again a moment later.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

#: Seconds after which a lost signal is sent again, when the finalizer has probably returned.
AGAIN_SECONDS: Final = 0.05


class Ending(KeyboardInterrupt):
    """A signal ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stop(SystemExit):
    """A signal ends the command with exit code 0."""

    def __init__(self, number: int) -> None:
        super().__init__(0)
        self.number = number


def end_on_signals() -> None:
    """Raise `Ending` on SIGTERM and SIGHUP from now on, as Python raises `KeyboardInterrupt` on SIGINT.

    None of these exceptions gets lost, and no `Stop` that another signal handler raises.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # after `nohup`, SIGHUP stays ignored
            signal.signal(number, _end)
    others = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        error = ignored.exc_value
        if isinstance(error, Ending | Stop):
            number = error.number
        elif isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        else:
            others(ignored)
            return
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook


def _end(number: int, _frame: FrameType | None) -> None:
    raise Ending(number)
