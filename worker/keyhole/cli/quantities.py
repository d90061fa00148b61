"""Parses counts and times that people write on the command line, such as `1e9`, `2M` and `30ms`."""

import re
from typing import Final

from keyhole.limits import FASTEST_RATE, SLOWEST_RATE

_COUNT: Final = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)(?:[eE](\d{1,2}))? ?([kMG])?")
_THOUSANDS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_TIME: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(us|ms|s|min)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_NUMBER: Final = re.compile(r"\d{1,7}(?:\.\d{1,9})?")
_MOST_GETS: Final = 1000
#: The largest count that is accepted: more than the number of all objects in S3, which is hundreds of
#: trillions.
_MOST: Final = 10**15


def parse_count(text: str) -> int:
    """Parse a count of at least 1, such as `1500`, `1,500,000`, `2M`, `1.5G` or `1e9`.

    Raises:
        ValueError: The text is not a count from 1 to 1e15. The message contains examples.
    """
    found = _COUNT.fullmatch(text.replace(",", "").replace("_", ""))
    number = 0.0
    if found:
        number = float(found[1]) * 10 ** int(found[2] or 0) * _THOUSANDS[found[3] or ""]
    if not 1 <= number <= _MOST or number != int(number):
        raise ValueError(f"{text!r} is not a count; write a whole number from 1 to 1e15, such as 2M or 1e9")
    return int(number)


def parse_time(text: str) -> float:
    """Parse a time above 0, such as `30ms`, `0.5 s` or `200us`, and return it in seconds.

    Raises:
        ValueError: The text is not a time above 0 with a unit. The message contains examples.
    """
    found = _TIME.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise ValueError(f"{text!r} is not a time; write a number above 0 with a unit, such as 30ms or 0.5s")
    return seconds


def parse_rate(text: str) -> float:
    """Parse a limit of requests per second, such as `500` or `0.5`. The value 0 means no limit.

    Raises:
        ValueError: The text is neither 0 nor a number from 0.001 to 1000000.
    """
    rate = float(text) if _NUMBER.fullmatch(text) else -1.0
    if rate and not SLOWEST_RATE <= rate <= FASTEST_RATE:
        raise ValueError(f"{text!r} is not a rate; write 0, or requests per second from 0.001 to 1000000")
    return rate


def parse_gets(text: str) -> float:
    """Parse an average number of GETs for one object, such as `2.5`.

    Raises:
        ValueError: The text is not a number from 1 to 1000.
    """
    gets = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 1 <= gets <= _MOST_GETS:
        raise ValueError(
            f"{text!r} is not an average of GETs; write a number from 1 to {_MOST_GETS}, such as 2.5"
        )
    return gets
