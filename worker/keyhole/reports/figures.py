"""Figures for people: sizes, shares, money, times. Rounding never turns a part into all or nothing."""

from datetime import UTC, datetime, timedelta

import humanize

#: 2**100 bytes. No disk is larger; a header can claim to be.
_LARGEST = 1024**10


def size(count: int | None) -> str:
    """Return bytes in powers of 1024, with one decimal below 100."""
    if count is None:
        return "-"
    if count >= _LARGEST:
        return "over 1 QiB"
    text = humanize.naturalsize(count, binary=True, format="%.1f")
    if text.find(".") > 2:
        text = humanize.naturalsize(count, binary=True, format="%.0f")
    return text.replace(".0 ", " ").replace("Bytes", "B").replace("Byte", "B")


def exact(count: int | None) -> str:
    """Return the exact number of bytes."""
    return "unknown" if count is None else f"{count:,} bytes"


def number(count: int) -> str:
    """Return a count, with separators between thousands."""
    return f"{count:,}"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def share(part: float, whole: float) -> str:
    """Return a share as a percentage. It is 100% only if it is all, and 0% only if it is nothing."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if part and percent < 0.01:
        return "<0.01%"
    if part != whole and 99.9 <= percent < 100:
        return ">99.9%"
    return f"{percent:.2f}%" if 0 < percent < 1 else f"{percent:.1f}%".replace(".0%", "%")


def dollars(amount: float) -> str:
    """Return an amount of money: to the cent, or with two digits if it is less than ten cents."""
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    if amount < 0.000001:
        return "under $0.000001"
    digits = 2
    while round(amount, digits) < 10 ** (1 - digits):
        digits += 1
    return f"${amount:.{digits}f}"


def duration(length: timedelta) -> str:
    """Return a length of time, in its two largest units."""
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
    """Return a point in time, to the minute."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span(start: datetime, end: datetime | None) -> str:
    """Return a time span, to the minute."""
    if end is None:
        return moment(start)
    until = moment(end)
    if moment(start)[:10] == until[:10]:
        until = until[11:]
    return moment(start) if until == moment(start)[11:] else f"{moment(start)[:-4]} to {until}"
