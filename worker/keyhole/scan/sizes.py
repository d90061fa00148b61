"""Sizes as people write them, such as `2 TiB`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4, "PiB": 1024**5}
_SIZE = re.compile(r"(\d{1,19}) ?([KMGTP]iB|B)?")


def parse_size(text: str) -> int:
    """Return the bytes of a size, which is written as a number of them, or with a unit in powers of 1024.

    Raises:
        ValueError: It is not a size; the message says what one looks like.
    """
    size = _SIZE.fullmatch(text)
    if size is None:
        raise ValueError(f"{text!r} is not a size; write a number of bytes, or a text such as '2 TiB'")
    return int(size[1]) * UNITS[size[2] or "B"]


def _bytes(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


#: A field of bytes: a number, or a text such as `2 TiB`.
Size = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
