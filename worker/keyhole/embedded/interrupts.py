"""Defers signals while child processes start, so that no child process is left running."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: The signals that end a command. They come from Ctrl-C, a service manager, or a closed terminal.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer the signals that end this process until the block has ended.

    A signal handler can raise an exception. If it did so between the start of a child process and the
    assignment of its handle, nothing would end the child. Use this in the main thread only: Python allows
    signal handlers only there.
    """
    arrived: list[int] = []
    # Change only signals that have a Python handler. A child process inherits which signals are ignored, so
    # that must not change.
    handlers = {number: signal.getsignal(number) for number in ENDINGS}
    changed = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in changed:
        signal.signal(number, lambda late, _: arrived.append(late))
    try:
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
    for late in arrived:
        signal.raise_signal(late)


@contextmanager
def children_ignore_sigint() -> Iterator[None]:
    """Block SIGINT for the child processes that start within the block: they inherit the signal mask."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
