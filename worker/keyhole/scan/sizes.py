"""Sizes as people write them: `2 TiB`."""

import re

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4, "PiB": 1024**5}
_SIZE = re.compile(r"(\d{1,19}) ?([KMGTP]iB|B)?")


def parse_size(text: str) -> int:
    """The bytes of a size: a number of them, or with a unit, in powers of 1024.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    size = _SIZE.fullmatch(text)
    if size is None:
        raise ValueError(f"{text!r} is no size; write a number of bytes, or a text such as '2 TiB'")
    return int(size[1]) * UNITS[size[2] or "B"]
