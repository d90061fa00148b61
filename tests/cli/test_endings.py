"""A signal ends a command, also if it arrives where Python ignores exceptions."""

import subprocess
import sys

import pytest

from tests.e2e import commands

#: A program that sends a signal to itself in the callback of a weak reference, and then waits.
PROGRAM = """
import os, signal, sys, time, weakref
from contextlib import nullcontext
from keyhole.cli.endings import end_on_signals
from keyhole.logs.service import only_log_lines

class Object:
    pass

def callback(_):
    os.kill(os.getpid(), signal.{signal})
    for _ in range(1000):
        pass

end_on_signals()
with only_log_lines("info") if {service} else nullcontext():
    found = Object()
    kept = weakref.ref(found, callback)
    try:
        del found
        time.sleep({patience})
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("service", [False, True], ids=["command", "service"])
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_in_a_finalizer_is_not_lost(signal: str, service: bool) -> None:
    program = PROGRAM.format(signal=signal, service=service, patience=commands.PATIENCE)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


STOPS = """
import os, signal, sys, time, weakref
from keyhole.cli.endings import Stop, end_on_signals

class Object:
    pass

def callback(_):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

def stop(number, _):
    raise Stop(number)

end_on_signals()
signal.signal(signal.SIGTERM, stop)
found = Object()
kept = weakref.ref(found, callback)
del found
time.sleep({patience})
sys.exit(1)
"""


def test_a_worker_that_starts_is_stopped_there_too() -> None:
    program = STOPS.format(patience=commands.PATIENCE)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
