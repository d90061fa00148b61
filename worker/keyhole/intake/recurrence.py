"""Parses crontabs and intervals. All times are in UTC.

A crontab has the syntax of Celery's parser. Unlike in cron, the end of a range can be smaller than its
beginning (`22-2`). Celery accepts some crontabs, but gives them another meaning than users probably expect.
So Keyhole refuses a crontab that contains:

- the name of a day in the field of the minutes
- a step so large that only the first value of the field matches
- further characters after a step
- days of the month together with days of the week: cron starts a run if one of the two matches, but Celery
  only if both match
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from celery import schedules

#: The shortest and the longest interval, in seconds. The shortest interval is also the shortest time between
#: two runs of a crontab. An interval of more than a year is probably a mistake.
SHORTEST_SECONDS: Final = 60
LONGEST_SECONDS: Final = 366 * 86_400
#: An error message quotes at most this many characters of the text.
_QUOTED: Final = 60

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_INTERVAL: Final = re.compile(r"([0-9]{1,9})([smhd])")

#: An element of a field: all values (`*`), one value or a range, each with an optional step.
_PART: Final = re.compile(r"(?:\*|([0-9]{1,4}|[a-z]{3})(?:-([0-9]{1,4}|[a-z]{3}))?)(?:/([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a crontab.

    `least` and `greatest` are the limits of the field's values, and `names` are the names of the values.
    """

    name: str
    least: int
    greatest: int
    names: Sequence[str] = ()

    def check(self, text: str) -> None:
        """Raise a `ValueError` if the text is not valid for this field."""
        for part in text.split(","):
            found = _PART.fullmatch(part)
            if found is None or not all(self._has(value) for value in found.groups()[:2] if value):
                raise ValueError(f"{part[:_QUOTED]!r} is not a valid {self.name}; write {self._values()}")
            first, last, step = found.groups()
            if step is not None and first is not None and last is None:
                raise ValueError(f"{part!r} is not a range; write {first}-{self.greatest}/{step}")
            if step is not None and not 1 <= int(step) <= self.greatest - self.least:
                most = self.greatest - self.least
                raise ValueError(f"{part!r} steps by {step}; write a step from 1 to {most}")

    def _has(self, value: str) -> bool:
        return value in self.names or (value.isdigit() and self.least <= int(value) <= self.greatest)

    def _values(self) -> str:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"*, {self.least} to {self.greatest}{names}, ranges of them, steps, or a list"


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field(
        "month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    ),
    _Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab with five fields, from `parse_crontab`."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def celery(self) -> schedules.crontab:
        """The crontab as a schedule object of Celery."""
        return self._rule()

    def next_after(self, moment: datetime) -> datetime:
        """Return the first time after `moment` at which the crontab is due. Both times are in UTC."""
        rule = self._rule(nowfun=lambda: moment)
        rule.tz = UTC
        begin, step, _ = rule.remaining_delta(moment, tz=UTC)
        return cast("datetime", begin + step)

    def _rule(self, **options: object) -> schedules.crontab:
        minute, hour, day, month, weekday = self.text.split()
        return schedules.crontab(
            minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, **options
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two runs, from `parse_interval`."""

    text: str

    def __str__(self) -> str:
        return f"every {self.text}"

    @property
    def celery(self) -> timedelta:
        """The interval in the form that Celery accepts."""
        return timedelta(seconds=_seconds(self.text))

    def next_after(self, moment: datetime) -> datetime:
        """Return the time of the next run after a run at `moment`."""
        return moment + self.celery


def parse_crontab(text: str) -> Crontab:
    """Parse a crontab with five fields.

    Raises:
        ValueError: The text is not a valid crontab. The message states what to write.
    """
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ValueError(
            f"{text[:_QUOTED]!r} has {len(fields)} fields; write {names}, for example '15 3 * * *'"
        )
    for field, value in zip(_FIELDS, fields, strict=True):
        field.check(value)
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(
            f"{text!r} has days of the month and days of the week; cron runs if either matches, Celery only "
            "if both match; write * for one of them, and a second schedule if you need both"
        )
    crontab = Crontab(" ".join(fields))
    try:
        _ = crontab.celery
    except ValueError:
        raise ValueError(f"{text!r} never matches a date; write a day that the month has") from None
    return crontab


def parse_interval(text: str) -> Interval:
    """Parse an interval of at least one minute, such as `90s`, `15m`, `6h` or `1d`.

    Raises:
        ValueError: The text is not a valid interval. The message states what to write.
    """
    if _INTERVAL.fullmatch(text) is None:
        raise ValueError(
            f"{text[:_QUOTED]!r} is not an interval; write a number and s, m, h or d, such as 6h"
        )
    if _seconds(text) < SHORTEST_SECONDS:
        raise ValueError(
            f"{text} is shorter than {SHORTEST_SECONDS}s, and every run lists the whole prefix; write a "
            "longer interval, or let S3 report new objects (`keyhole listen`)"
        )
    if _seconds(text) > LONGEST_SECONDS:
        raise ValueError(f"{text} is longer than a year; write at most {LONGEST_SECONDS // 86_400}d")
    return Interval(text)


def _seconds(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]
