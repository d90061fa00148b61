"""An audit as one HTML page that needs nothing else, for people; it is read on screens and printed.

Keys, messages and whatever else came from outside is shown as text: Jinja escapes it, and what cannot be seen
in it, controls and marks that turn the direction of writing, is shown as an escape. The page's own policy
forbids it to load anything, and any style or script but the two that it comes with. Without scripts it lacks
a filter.

The page of a million objects has rows for some thousands, what needs attention first, and says what it leaves
out.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from itertools import islice
from typing import BinaryIO, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding
from keyhole.reasons import STATUSES, URGENCY, Status, meaning
from keyhole.reports import contents, figures
from keyhole.reports.summary import ReasonTally, summarize

#: Rows of objects on a page: some megabytes, which a browser still searches at once.
SHOWN_OBJECTS: Final = 5000
#: Findings about the bucket on a page.
SHOWN_FINDINGS: Final = 1000
#: Sentences in a row; a descriptor can name hundreds of foreign files.
SHOWN_SENTENCES: Final = 5
#: Pieces of the template that are written at once.
_BUFFERED: Final = 200


def write_html(
    audit: Audit,
    objects: Iterable[AuditedObject],
    findings: Iterable[BucketFinding],
    out: BinaryIO,
    *,
    now: datetime,
) -> None:
    """Write the page. `now` is until when the figures are, where the audit has not ended."""
    summary = summarize(objects, SHOWN_OBJECTS)
    others = iter(findings)
    shown = list(islice(others, SHOWN_FINDINGS))
    style, script = _block("page.css"), _block("page.js")
    page = _environment().get_template("page.html.jinja")
    stream = page.stream(
        audit=audit,
        when=figures.span(audit.started_at, audit.ended_at),
        length=figures.duration((audit.ended_at or now) - audit.started_at),
        selected=list(contents.selected(audit)),
        notice=contents.notice(audit, now),
        verdict=contents.verdict(audit.totals.statuses),
        figures=contents.figures(audit),
        bar=contents.bar(audit.totals.statuses),
        statuses=contents.by_urgency(audit.totals.statuses),
        meanings=STATUSES,
        reasons=sorted(summary.reasons.items(), key=_urgency),
        formats=sorted(summary.formats.items(), key=lambda item: -item[1].objects),
        costs=list(contents.costs(audit, now)),
        findings=shown,
        hidden_findings=sum(1 for _ in others),
        asked=list(contents.asked(audit)),
        summary=summary,
        hidden=contents.by_urgency(summary.hidden),
        sentences=SHOWN_SENTENCES,
        now=now,
        style=style,
        script=script,
        policy=(
            "default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"style-src {_source(style)}; script-src {_source(script)}"
        ),
    )
    stream.enable_buffering(_BUFFERED)
    stream.dump(out, encoding="utf-8")


def _urgency(item: tuple[tuple[Status, str], ReasonTally]) -> tuple[int, int, str]:
    (status, reason), tally = item
    return URGENCY[status], -tally.objects, reason


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keyhole.reports"),
        autoescape=True,
        finalize=_seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": figures.size,
        "exact": figures.exact,
        "number": figures.number,
        "counted": figures.counted,
        "share": figures.share,
        "moment": figures.moment,
        "meaning": meaning,
    }
    return environment


def _seen(value: object) -> object:
    """What a template prints, with nothing in it that is there and not seen."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return shown(value)


def _block(name: str) -> Markup:
    """The style or the script that goes into the page. It is our own, and must not end its element."""
    text = resources.files("keyhole.reports").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of the package


def _source(block: Markup) -> str:
    """The one source that the page's policy allows: this very text (Content Security Policy 3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"
