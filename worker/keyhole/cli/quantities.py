"""Parses counts and times that people write on the command line, such as `1e9`, `2M` and `30ms`."""

import re
from typing import Final

_COUNT: Final = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)(?:[eE](\d{1,2}))? ?([kMG])?")
_THOUSANDS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_TIME: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(us|ms|s|min)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
#: The largest count that is accepted. All buckets of S3 together contain hundreds of trillions of objects.
_MOST: Final = 10**15


def parse_count(text: str) -> int:
    """Return a count of at least 1, from text such as `1500`, `1,500,000`, `2M`, `1.5G` or `1e9`.

    Raises:
        ValueError: The text is not such a count. The message contains examples.
    """
    found = _COUNT.fullmatch(text.replace(",", "").replace("_", ""))
    number = 0.0
    if found:
        number = float(found[1]) * 10 ** int(found[2] or 0) * _THOUSANDS[found[3] or ""]
    if not 1 <= number <= _MOST or number != int(number):
        raise ValueError(f"{text!r} is not a count; write a whole number from 1 to 1e15, such as 2M or 1e9")
    return int(number)


def parse_time(text: str) -> float:
    """Return seconds above 0, from text such as `30ms`, `0.5 s` or `200us`.

    Raises:
        ValueError: The text is not such a time. The message contains examples.
    """
    found = _TIME.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise ValueError(f"{text!r} is not a time; write a number above 0 with a unit, such as 30ms or 0.5s")
    return seconds
