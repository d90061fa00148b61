"""Defers signals while child processes start, because a signal at this time could leave a child running."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: The signals that end a command. These signals come from Ctrl-C, a service manager, or a closed terminal.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer the signals that would end this process until the `with` block has ended.

    A signal handler can raise an exception. If this happens after a child process has started, but before
    this process has stored the child's handle, nothing ends the child. Call this function only in the main
    thread, because Python sets signal handlers only there.
    """
    arrived: list[int] = []
    # If this process ignores a signal, for example because of `nohup`, its child processes must ignore the
    # signal, too. So leave ignored signals unchanged, and replace only handlers that are Python functions.
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
    """Block SIGINT during the `with` block, so that child processes that start there never get SIGINT.

    A child process inherits the set of blocked signals.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
