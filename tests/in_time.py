"""Proves that a timeout of Keyhole ended a wait, also on a machine that is ten times slower."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: How many times longer than its timeout a wait may take. A machine with a high load needs this time for the
#: work around the wait, so only a hang or a much longer timeout exceeds it.
TIMES: Final = 20


@contextmanager
def ended_by(timeout: float) -> Iterator[None]:
    """Fail if the block takes much longer than this timeout in seconds."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < TIMES * timeout, f"a timeout of {timeout:g} s did not end the wait: it took {took:.0f} s"
