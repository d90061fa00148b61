"""Writes an audit as one self-contained HTML page, for screens and for printing.

Keys, messages and other text from users or images cannot become HTML, because Jinja escapes them. Invisible
characters, such as control characters and marks that change the direction of writing, are shown as escapes.
The page's Content Security Policy allows only the page's own style and script, and forbids the page to load
other files or to send requests. The script only filters the table of objects by text and by status. So if the
browser runs no scripts, the page is still complete.

A page shows at most `SHOWN_OBJECTS` objects, and states the number of objects that are left out. Objects are
sorted by the urgency of their status (`keyhole.reasons.STATUSES`). The page also shows the findings about the
bucket: verdicts on deleted objects, and tags that contradict verdicts.
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

#: The maximum number of objects on a page. With this many objects, the page has a few megabytes, and a
#: browser can still search it quickly.
SHOWN_OBJECTS: Final = 5000
#: The maximum number of findings about the bucket on a page.
SHOWN_FINDINGS: Final = 1000
#: The maximum number of sentences in the row of an object. Some objects have many sentences. For example, a
#: VMDK descriptor can name hundreds of files outside the image, and each of these names is a finding with its
#: own sentence.
SHOWN_SENTENCES: Final = 5
#: Jinja renders the page in many small pieces. This module joins this many pieces before it writes them to
#: the output.
_BUFFERED: Final = 200


def write_html(
    audit: Audit,
    objects: Iterable[AuditedObject],
    findings: Iterable[BucketFinding],
    out: BinaryIO,
    *,
    now: datetime,
) -> None:
    """Write the page to `out`.

    `now` is the current time. If the audit is still running, the page states how long it has been running.
    """
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
    """Return a value in the form in which Jinja must print it.

    In a text, replace invisible characters by escapes.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return shown(value)


def _block(name: str) -> Markup:
    """Return the page's style or script without escaping.

    The style and the script are files of this package, so this is safe.
    """
    text = resources.files("keyhole.reports").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of the package


def _source(block: Markup) -> str:
    """Return the source expression of the Content Security Policy that allows exactly this style or script.

    The expression contains a hash.

    Source: Content Security Policy Level 3, section 2.3.1.
    """
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"
