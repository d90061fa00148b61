"""Effort: loops whose length an image controls ask the caller whether the inspection may go on.

The inspectors have no clock. Instead, their loops count steps (`spend`). Every `STEPS` steps, `spend` calls
the watch that the caller has set for its thread. The watch raises to end the inspection. Its exception is not
an `ImageFormatError`, so no inspector takes it for the image's fault.

    with watched(check_the_clock):
        inspection.feed(offset, data)

- A step is one turn of a loop in Python, up to 0.1 ms. A loop over a table counts its steps before it begins.
- A call into a library, or a call that processes a whole table, counts `CALL` steps. Nothing can interrupt
  it, so its input is bounded: it takes about 10 ms, and about 100 ms for the largest maps.
- Call `spend` where an inspector may be interrupted: its facts so far are still valid.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: Steps between two calls of the watch. Reading the CPU time takes a system call, as long as a few steps.
STEPS: Final = 64
#: The steps that a call into a library counts for: as many as lead to one call of the watch.
CALL: Final = STEPS


class _Effort:
    """The watch of one thread, and how many steps are left until it is called."""

    __slots__ = ("left", "watch")

    def __init__(self, watch: Callable[[], object]) -> None:
        self.watch = watch
        self.left = STEPS


_current: ContextVar[_Effort | None] = ContextVar("effort", default=None)


@contextmanager
def watched(watch: Callable[[], object] | None) -> Iterator[None]:
    """Have this thread's inspections call `watch` regularly; with `None`, they call nothing."""
    token = _current.set(None if watch is None else _Effort(watch))
    try:
        yield
    finally:
        _current.reset(token)


def spend(steps: int = 1) -> None:
    """Count steps that an image causes. Call it before the steps are made.

    Raises:
        Exception: The watch raised it to end the inspection.
    """
    effort = _current.get()
    if effort is None:
        return
    effort.left -= steps
    if effort.left <= 0:
        effort.left = STEPS
        effort.watch()
