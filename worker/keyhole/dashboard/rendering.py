"""Renders the templates. Every value is escaped, and invisible characters are shown as escapes."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment

from keyhole import __version__
from keyhole.inspectors.text import escaped, shown
from keyhole.masking import masked
from keyhole.reasons import STATUSES
from keyhole.remedies import what_to_do
from keyhole.reports import figures
from keyhole.reports.html import environment
from keyhole.scan.report import Report
from keyhole.scan.waivers import waiver_of

#: Tables shorten names to this many characters, in the middle. The whole name is in the title of the link.
_NAME_CHARACTERS: Final = 72


def render(name: str, **values: object) -> str:
    """Return a template with these values as HTML."""
    return _environment().get_template(name).render(now=datetime.now(UTC), **values)


def url(path: str, **parameters: str | None) -> str:
    """Return a URL of the dashboard. Empty parameters are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value}, errors="surrogatepass")
    return path + (f"?{query}" if query else "")


def object_url(report: Report) -> str:
    """Return the URL of the page of a report's object."""
    return url("/object", bucket=report.bucket, key=report.key, version=report.version_id)


def short(text: str, characters: int = _NAME_CHARACTERS) -> str:
    """Return a text that is at most this long: the middle of a longer text is left out."""
    text = escaped(text[: 2 * characters]) if len(text) <= 2 * characters else text
    if len(text) <= characters:
        return escaped(text)
    head = escaped(text[: characters * 2 // 5])
    tail = escaped(text[-(characters * 3 // 5 - 1) :])
    return f"{head}…{tail}"


def ago(when: datetime, now: datetime) -> str:
    """Return how long ago a time was: `5 min`, `3 h`, `2 d`; the date if it is more than a month."""
    seconds = (now - when).total_seconds()
    if seconds < 60:
        return "just now"
    for unit, length, most in (("min", 60, 60), ("h", 3600, 24), ("d", 86400, 31)):
        if seconds < length * most:
            return f"{int(seconds // length)} {unit} ago"
    return f"{when.astimezone(UTC):%Y-%m-%d}"


@cache
def _environment() -> Environment:
    made = environment("keyhole.dashboard", _displayed)
    filters: dict[str, Callable[..., object]] = {
        "dollars": figures.dollars,
        "price": figures.price,
        "seconds": lambda seconds: figures.duration(timedelta(seconds=seconds)),
        "second": lambda when: f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "iso": lambda when: when.astimezone(UTC).isoformat(timespec="seconds"),
        "what_to_do": what_to_do,
        "short": short,
        "masked": masked,
    }
    made.filters |= filters
    made.globals |= {
        "url": url,
        "object_url": object_url,
        "ago": ago,
        "statuses": STATUSES,
        "waiver_of": waiver_of,
        "version": __version__,
    }
    return made


def _displayed(text: str) -> str:
    # `shown` shortens texts of more than 1,023 characters, and a key can have 1,024.
    return escaped(text) if len(text) <= 8192 else shown(text)


def flat(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the details of a report as names and texts."""
    rows: list[tuple[str, str]] = []
    for name, value in details.items():
        if isinstance(value, list):
            text = ", ".join(map(_text, value[:20])) + (" …" if len(value) > 20 else "")
        elif isinstance(value, dict):
            text = ", ".join(f"{key}: {_text(one)}" for key, one in list(value.items())[:20])
        else:
            text = _text(value)
        rows.append((name.replace("_", " "), text or "none"))
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "unknown" if value is None else shown(str(value))
