"""Signals and child processes: what is started must be known before it can be ended."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: What ends a command: Ctrl-C, a service manager, a terminal that closes.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Put off what would end us until the block has ended.

    An exception between the start of a process and the line that remembers it would leave it behind. For the
    main thread alone, as all handling of signals.
    """
    arrived: list[int] = []
    # Those that are ignored, or that have their default, stay so: a child inherits the former.
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
    """Have what is started in the block never see a SIGINT: a child inherits what is blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
