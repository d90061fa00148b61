"""Signals that arrive while a process is being started are not lost, and no process is left over."""

import os
import signal
from collections.abc import Iterator

import pytest

from keyhole.embedded.interrupts import ENDINGS, children_ignore_sigint, defer_signals


class EndedError(Exception):
    """The error that a test's handler raises."""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Every signal that ends the process raises, as Ctrl-C does."""

    def end(number: int, _: object) -> None:
        raise EndedError(signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in ENDINGS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_comes_when_the_block_has_ended(number: signal.Signals) -> None:
    reached = []

    def start() -> None:
        with defer_signals():
            os.kill(os.getpid(), number)
            reached.append("the end")

    with pytest.raises(EndedError, match=number.name):
        start()

    assert reached == ["the end"]


def test_a_failure_goes_before_a_signal() -> None:
    def start() -> None:
        with defer_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("the block's")

    with pytest.raises(OSError, match="the block's"):
        start()


def test_what_is_ignored_stays_ignored() -> None:
    """`nohup` ignores the signal in this way, for the command and for the processes that it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with defer_signals():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_only_what_is_started_in_the_block_is_deaf() -> None:
    with children_ignore_sigint():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
