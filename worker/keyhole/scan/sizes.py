"""Parses sizes that people write, such as `2 TiB`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4, "PiB": 1024**5}
_SIZE = re.compile(r"(\d{1,19}) ?([KMGTP]iB|B)?")


def parse_size(text: str) -> int:
    """Return the number of bytes that a text states: digits, perhaps with a unit, such as `4096` or `2 TiB`.

    The units are powers of 1024.

    Raises:
        ValueError: The text is not a size. The message shows the two ways to write a size.
    """
    size = _SIZE.fullmatch(text)
    if size is None:
        raise ValueError(f"{text!r} is not a size; write a number of bytes, or a text such as '2 TiB'")
    return int(size[1]) * UNITS[size[2] or "B"]


def _bytes(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


#: The type of a field that holds a number of bytes. The input of the field can be a number, or a text such as
#: `2 TiB`.
Size = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
