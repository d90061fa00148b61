"""Lets the caller end an inspection after a time limit, because an image can prolong an inspection endlessly.

The inspectors do not read a clock. Instead, every loop whose length the image controls counts its steps by
calling `spend`. Every `STEPS` steps, `spend` calls the function that the caller has set for its thread (the
watch). The watch raises an exception to end the inspection. This exception is not an `ImageFormatError`, so
no inspector mistakes it for an error in the image.

    with watched(check_the_clock):
        inspection.feed(offset, data)

- A step is one iteration of a Python loop, which takes up to 0.1 ms. A loop over a table counts all of its
  steps before it begins.
- A call into a library, or a call that processes a whole table, counts `CALL` steps. Nothing can interrupt
  such a call. The input of such a call is therefore bounded: the call takes about 10 ms, or about 100 ms for
  the largest maps.
- Call `spend` only at points where the inspector's state is consistent, because the facts must stay valid if
  the watch raises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: Steps between two calls of the watch. The watch reads the CPU time with a system call, which takes as long
#: as a few steps, so `spend` calls the watch rarely.
STEPS: Final = 64
#: The number of steps to count for a call into a library. It is large enough that `spend` calls the watch.
CALL: Final = STEPS


class _Effort:
    """The watch of one thread, and the number of steps until its next call."""

    __slots__ = ("left", "watch")

    def __init__(self, watch: Callable[[], object]) -> None:
        self.watch = watch
        self.left = STEPS


_current: ContextVar[_Effort | None] = ContextVar("effort", default=None)


@contextmanager
def watched(watch: Callable[[], object] | None) -> Iterator[None]:
    """Make this thread's inspections call `watch` every `STEPS` steps. With `None`, nothing is called."""
    token = _current.set(None if watch is None else _Effort(watch))
    try:
        yield
    finally:
        _current.reset(token)


def spend(steps: int = 1) -> None:
    """Count steps of a loop whose length the image controls. Call `spend` before the steps are executed.

    Raises:
        Exception: The exception that the watch raises to end the inspection.
    """
    effort = _current.get()
    if effort is None:
        return
    effort.left -= steps
    if effort.left <= 0:
        effort.left = STEPS
        effort.watch()
