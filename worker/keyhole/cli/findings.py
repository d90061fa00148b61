"""The findings of `keyhole doctor`."""

from typing import NamedTuple

GOOD, ADVICE, BAD = "ok", "advice", "bad"


class Finding(NamedTuple):
    """One line of the doctor's output: what was checked, its state, and a message, often with advice."""

    what: str
    state: str
    message: str
