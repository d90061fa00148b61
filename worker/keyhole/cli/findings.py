"""The findings of `keyhole doctor`."""

from typing import NamedTuple

GOOD, ADVICE, BAD = "ok", "advice", "bad"


class Finding(NamedTuple):
    """One line of the doctor's output.

    A finding states the subject of the check, the result, and a message, which often contains advice.
    """

    what: str
    state: str
    message: str
