"""Defers signals while child processes start, so that none is left behind."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: The signals that end a command: Ctrl-C, a service manager, a terminal that closes.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals that would end this process until the block has ended.

    An exception between the start of a child and the assignment of its handle would leave the child behind.
    Use it in the main thread only, like all handling of signals.
    """
    arrived: list[int] = []
    # Ignored signals and those with the default handler stay so, because a child inherits ignored ones.
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
    """Block SIGINT for children that start in the block, which inherit the signal mask."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
