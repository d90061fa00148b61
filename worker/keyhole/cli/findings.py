"""A finding of the doctor: one line."""

from typing import NamedTuple

GOOD, ADVICE, BAD = "ok", "advice", "bad"


class Finding(NamedTuple):
    """One line of the doctor's: what was looked at, how it is, and what there is to say or to do."""

    what: str
    state: str
    message: str
