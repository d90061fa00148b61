"""Parses the numbers and the units of capacity in an OVF.

Source: DMTF DSP0004 3.0, annex C.1; VirtualBox, src/VBox/Main/xml/ovfreader.cpp, for the older units.
"""

import re

#: The largest capacity in bytes. No disk format can state a larger capacity.
MAX_CAPACITY = 2**64 - 1

#: Examples: `byte`, `byte * 2^20`, `byte*1024*1024`.
UNITS = re.compile(r"bytes?(?:\s*\*\s*\d{1,10}(?:\^\d{1,2})?){0,4}")
FACTOR = re.compile(r"\*\s*(\d+)(?:\^(\d+))?")
#: Units that Microsoft's tools write. VMware's tools wrote them before OVF 1, and sometimes later.
OLD_UNITS = {
    "kilobytes": 2**10,
    "megabytes": 2**20,
    "gigabytes": 2**30,
    "terabytes": 2**40,
    "kb": 2**10,
    "mb": 2**20,
    "gb": 2**30,
    "tb": 2**40,
}


def number_of(text: str) -> int | None:
    """Return the number that a text of at most 20 digits states; `None` for any other text."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def unit_of(text: str) -> int | None:
    """Return the number of bytes in a unit; `None` if Keyhole does not support the unit."""
    text = text.strip().lower()
    if text in OLD_UNITS:
        return OLD_UNITS[text]
    if not UNITS.fullmatch(text):
        return None
    unit = 1
    for base, exponent in FACTOR.findall(text):
        unit *= int(base) ** int(exponent or 1)
    return unit if 0 < unit <= MAX_CAPACITY else None
