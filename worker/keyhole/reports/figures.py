"""Formats figures for people: sizes, shares, money, times.

A share is shown as 0% only if the part is exactly zero, and as 100% only if the part is exactly the whole.
"""

from datetime import UTC, datetime, timedelta

import humanize

#: 2**100 bytes. Sizes of this number of bytes and more are shown as `over 1 QiB`. No real disk is this large,
#: but the header of an image can state such a size.
_LARGEST = 1024**10


def size(count: int | None) -> str:
    """Format a number of bytes with a unit in powers of 1024, such as `1.5 GiB`.

    Numbers below 100 have at most one decimal, and larger numbers have none. `None` becomes `-`.
    """
    if count is None:
        return "-"
    if count >= _LARGEST:
        return "over 1 QiB"
    text = humanize.naturalsize(count, binary=True, format="%.1f")
    if text.find(".") > 2:
        text = humanize.naturalsize(count, binary=True, format="%.0f")
    return text.replace(".0 ", " ").replace("Bytes", "B").replace("Byte", "B")


def exact(count: int | None) -> str:
    """Format the exact number of bytes; `None` becomes `unknown`."""
    return "unknown" if count is None else f"{count:,} bytes"


def number(count: int) -> str:
    """Format a count with separators between thousands."""
    return f"{count:,}"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Format a count with its noun in the singular or plural.

    If the plural of the noun is irregular, the caller passes it as `nouns`.
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def share(part: float, whole: float) -> str:
    """Format a share as a percentage.

    The result is `100%` only if the part is the whole, and `0%` only if the part is zero. If the whole is
    zero, the result is `-`.
    """
    if not whole:
        return "-"
    percent = 100 * part / whole
    if part and percent < 0.01:
        return "<0.01%"
    if part != whole and 99.9 <= percent < 100:
        return ">99.9%"
    return f"{percent:.2f}%" if 0 < percent < 1 else f"{percent:.1f}%".replace(".0%", "%")


def dollars(amount: float) -> str:
    """Format an amount of US dollars, rounded to cents.

    An amount below ten cents has two significant digits.
    """
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    if amount < 0.000001:
        return "under $0.000001"
    digits = 2
    while round(amount, digits) < 10 ** (1 - digits):
        digits += 1
    return f"${amount:.{digits}f}"


def price(amount: float) -> str:
    """Format an amount of US dollars for people: to the cent, and `under a cent` below one."""
    return "under a cent" if 0 < amount < 0.01 else f"${amount:,.2f}"


def difference(count: int) -> str:
    """Format a difference of two counts with its sign: `+3`, `-1`; a zero as `±0`."""
    return f"{count:+,}" if count else "±0"


def duration(length: timedelta) -> str:
    """Format a length of time in its two largest units, such as `2 h 5 min`."""
    seconds = max(0, round(length.total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {seconds} s"
    return f"{seconds} s" if seconds else "under a second"


def moment(when: datetime | None) -> str:
    """Format a point in time in UTC, to the minute; `None` becomes `-`."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span(start: datetime, end: datetime | None) -> str:
    """Format a span of time in UTC, to the minute. If `end` is `None`, return only the start."""
    if end is None:
        return moment(start)
    until = moment(end)
    if moment(start)[:10] == until[:10]:
        until = until[11:]
    return moment(start) if until == moment(start)[11:] else f"{moment(start)[:-4]} to {until}"
