"""The parameters of the dashboard's URLs.

A parameter that a page does not know is an error. If the page ignored it, it would show more than the address
asks for: `/verdicts?contains=debian` would list all verdicts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from keyhole.errors import KeyholeError
from keyhole.inspectors.text import printable
from keyhole.reasons import Status
from keyhole.results.search import Filter
from keyhole.results.since import parse_since
from keyhole.results.spelling import parse_status
from keyhole.suggestions import did_you_mean

#: The parameters that describe a filter.
FILTERS: Final = ("q", "bucket", "prefix", "status", "format", "reason", "since")
#: The parameters of each page. All other pages have none.
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "/verdicts": (*FILTERS, "after"),
    "/object": ("bucket", "key", "version"),
    "/audit": ("id", "status", "after"),
}
#: An error repeats at most this many bytes of a text from a URL.
_REPEATED: Final = 40


class ParameterError(KeyholeError):
    """A parameter is unknown, is given twice, or has no valid value."""


def parameters(path: str, given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the value of each parameter of a page; empty if the URL does not have it.

    Raises:
        ParameterError: The page does not have one of the given parameters, or one is given twice.
    """
    known = PARAMETERS.get(path, ())
    pairs = list(given)
    for name, times in Counter(name for name, _ in pairs).items():
        if name not in known:
            raise ParameterError(_unknown(name, known))
        if times > 1:
            raise ParameterError(f"give the parameter {name} once, not {times} times")
    return dict.fromkeys(known, "") | dict(pairs)


def read_filter(query: Mapping[str, str]) -> Filter:
    """Return the filter that the parameters `FILTERS` describe.

    Raises:
        ParameterError: A parameter has no valid value. The message says which.
    """
    part, bucket, prefix = query["q"], query["bucket"], query["prefix"]
    if part.startswith("s3://"):
        # A pasted URI finds the object, and the objects below it.
        if bucket or prefix:
            raise ParameterError("to search for an s3:// address, leave the bucket and the prefix empty")
        bucket, _, prefix = part.removeprefix("s3://").partition("/")
        part = ""
        if not bucket:
            raise ParameterError("name the bucket: s3://BUCKET/KEY")
    status = read_status(query["status"])
    try:
        since = parse_since(query["since"], datetime.now(UTC)) if query["since"] else None
    except ValueError as error:
        raise ParameterError(str(error)) from None
    return Filter(
        statuses=() if status is None else (status,),
        bucket=bucket,
        prefix=prefix,
        part=part,
        format=query["format"],
        reason=query["reason"],
        since=since,
    )


def read_status(text: str) -> Status | None:
    """Return the status in a parameter; `None` if the parameter is empty.

    Raises:
        ParameterError: There is no such status.
    """
    try:
        return parse_status(text) if text else None
    except ValueError as error:
        raise ParameterError(str(error)) from None


def _unknown(name: str, known: Sequence[str]) -> str:
    if not known:
        return f"this page has no parameters, and the address has the parameter {_short(name)}"
    guess = did_you_mean(name[:_REPEATED], known)
    return f"this page has no parameter {_short(name)}{guess or ';'} its parameters are {', '.join(known)}"


def _short(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return printable(raw[:_REPEATED]) + ("…" if len(raw) > _REPEATED else "")
