"""Counts the work of a function, so that a test of its growth needs no clock."""

import sys
from collections.abc import Callable
from itertools import count
from types import FrameType


def calls_for(work: Callable[[], object]) -> int:
    """Return how many functions and methods are called, of Python and of C."""
    calls = count()

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            next(calls)

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return next(calls)
