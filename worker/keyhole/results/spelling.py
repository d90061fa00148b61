"""Finds misspelt statuses, reasons and formats in a filter.

A misspelt filter matches nothing, which looks as if there were no bad images.
"""

import re
from collections.abc import Sequence
from typing import Final

from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.findings import CHECKS
from keyhole.reasons import Reason, Status
from keyhole.results.search import Filter, Search
from keyhole.suggestions import did_you_mean

#: The codes of all reasons that this version can record.
_REASONS: Final = (*CHECKS, *(reason.value for reason in Reason))
#: An error repeats at most this many characters of a text.
_REPEATED: Final = 40


def parse_status(text: str) -> Status:
    """Return the status with this name.

    Raises:
        ValueError: There is no such status. The message names a similar one, or all.
    """
    if text not in set(Status):
        raise ValueError(_wrong(text, "status", tuple(Status), f"use one of {', '.join(Status)}"))
    return Status(text)


def misspelling(wanted: Filter, search: Search) -> str | None:
    """Return one line about a reason or a format that does not exist; otherwise `None`.

    A value that this version does not know exists if a recorded verdict has it: a later version can have
    recorded the verdict.
    """
    if _is_unknown(wanted.reason, _REASONS, Filter(reason=wanted.reason), search):
        return _wrong(wanted.reason, "reason", _REASONS, "`keyhole explain` lists all reasons")
    if _is_unknown(wanted.format, NAMES, Filter(format=wanted.format), search):
        name = re.split(r"[:( ]", wanted.format)[0]
        if name != wanted.format and name in NAMES:
            return f"{wanted.format[:_REPEATED]!r} is a format with a variant; name only the format: {name}"
        return _wrong(wanted.format, "format", NAMES, f"the formats are {', '.join(NAMES)}")
    return None


def _is_unknown(text: str, known: Sequence[str], alone: Filter, search: Search) -> bool:
    return bool(text) and text not in known and next(search.all(alone, 1), None) is None


def _wrong(text: str, kind: str, known: Sequence[str], otherwise: str) -> str:
    text = text[:_REPEATED]
    return f"{text!r} is not a {kind}{did_you_mean(text, known) or f'; {otherwise}'}"
