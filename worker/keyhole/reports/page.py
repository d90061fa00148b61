"""Writes an audit as one self-contained HTML page, for screens and for printing.

Keys, messages and other text from users or images cannot become HTML. Jinja escapes them, and the page's
script adds them only as text. Invisible characters, such as control characters and marks that change the
direction of writing, are shown as escapes. The page's Content Security Policy allows only the page's own
style and script, and forbids the page to load other files or to send requests.

The page contains up to `MOST_OBJECTS` objects in a packed form (`packed_rows`). The script shows, sorts and
searches them in a table. Without the script, the table has the `URGENT_OBJECTS` most urgent objects, and a
sentence states where the others are. Objects are sorted by the urgency of their status
(`keyhole.reasons.STATUSES`). The page also shows what changed since the last audit of the same objects, and
the findings about the bucket: verdicts on deleted objects, and tags that contradict verdicts.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from itertools import islice
from typing import BinaryIO, Final

from jinja2 import Environment
from markupsafe import Markup

from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditedObject, BucketFinding
from keyhole.reasons import NOT_IMAGES, STATUSES, URGENCY, Status, not_an_image
from keyhole.remedies import what_to_do
from keyhole.reports import charts, contents, figures
from keyhole.reports.bar import bar
from keyhole.reports.bucket_kinds import bucket_kind
from keyhole.reports.changes import Changes, Move
from keyhole.reports.groups import Group, Tally, total
from keyhole.reports.html import environment
from keyhole.reports.kinds import css_class, kinds
from keyhole.reports.owned import NO_TAG, UNKNOWN
from keyhole.reports.owners import RESERVED, OwnerGroup, owner_label
from keyhole.reports.summary import ReasonTally, Summary, no_change, summarize

#: The maximum number of objects on a page. With this many objects, the page has about twenty megabytes, and a
#: browser needs a few seconds to show it.
MOST_OBJECTS: Final = 250_000
#: The number of objects that the page shows without its script.
URGENT_OBJECTS: Final = 200
#: The maximum number of findings about the bucket on a page.
SHOWN_FINDINGS: Final = 1000
#: The maximum number of sentences in the row of an object. Some objects have many sentences. For example, a
#: VMDK descriptor can name hundreds of files outside the image, and each of these names is a finding with its
#: own sentence.
SHOWN_SENTENCES: Final = 5
#: The number of formats in the chart of bytes; one bar for all others follows. The table beside it has all.
_CHARTED_FORMATS: Final = 8
#: The number of rows that the page's script shows at once (`PAGE` in `table.js`).
_ROWS_AT_ONCE: Final = 100
#: Jinja renders the page in many small pieces. This module joins this many pieces before it writes them to
#: the output.
_BUFFERED: Final = 200
#: The files of the page's script, in their order.
_SCRIPTS: Final = ("rows.js", "section.js", "table.js")


def write_html(
    audit: Audit,
    objects: Iterable[AuditedObject],
    findings: Iterable[BucketFinding],
    out: BinaryIO,
    *,
    now: datetime,
    changes: Changes | None = None,
) -> None:
    """Write the page to `out`.

    `now` is the current time. If the audit is still running, the page states how long it has been running.
    `changes` states what changed since the last audit of the same objects, if there was one.
    """
    summary = summarize(
        objects,
        urgent=URGENT_OBJECTS,
        limit=MOST_OBJECTS,
        prefix=audit.spec.prefix,
        change=changes.change if changes else no_change,
    )
    others = iter(findings)
    found = list(islice(others, SHOWN_FINDINGS))
    style, script = _block("page.css"), Markup("\n").join(map(_block, _SCRIPTS))
    formats = sorted(summary.formats.items(), key=lambda item: -item[1].objects)
    groups = summary.prefixes.groups()
    prefixes = groups.shown()
    owners = summary.owners.shown() if audit.spec.owner_tag else []
    expired = _expired(summary, audit.totals.not_images)
    stream = (
        _environment()
        .get_template("page.html.jinja")
        .stream(
            audit=audit,
            when=figures.span(audit.started_at, audit.ended_at),
            length=figures.duration((audit.ended_at or now) - audit.started_at),
            selected=list(contents.selected(audit)),
            notice=contents.notice(audit, now),
            verdict=contents.verdict(audit.totals.statuses, audit.totals.not_images),
            figures=contents.figures(audit, sum(tally.virtual for _, tally in formats)),
            bar=bar(kinds(audit.totals.statuses, audit.totals.not_images)),
            kinds=contents.counted_kinds(audit.totals, changes),
            share_of=contents.share_of(audit.totals),
            reasons=sorted(summary.reasons.items(), key=_urgency),
            not_image=not_an_image,
            changes=changes,
            moves=sorted(changes.moves.items(), key=_graver) if changes else [],
            prefixes=prefixes,
            prefix_kinds=_found_kinds([group.tally for group in prefixes]),
            prefix_chart=_prefix_chart(prefixes, groups.others()),
            other_prefixes=groups.others(),
            owners=owners,
            owner_kinds=_found_kinds([group.tally for group in owners]),
            owner_chart=_owner_chart(owners, summary.owners.others()),
            owners_unknown=summary.owners.why(),
            no_owner=lambda row: UNKNOWN if row.owner_unknown else NO_TAG,
            formats=formats,
            format_chart=_format_chart(formats),
            expired=expired,
            total=total([*summary.formats.values(), expired]),
            costs=list(contents.costs(audit, now)),
            findings=found,
            finding_kinds=[(kind, bucket_kind(kind)) for kind in sorted({one.kind for one in found})],
            hidden_findings=sum(1 for _ in others),
            asked=list(contents.asked(audit)),
            summary=summary,
            hidden=contents.by_urgency(summary.hidden),
            sentences=SHOWN_SENTENCES,
            rows_on_paper=_ROWS_AT_ONCE,
            words=_words(summary, changes, audit.spec.owner_tag),
            now=now,
            style=style,
            script=script,
            policy=(
                "default-src 'none'; base-uri 'none'; form-action 'none'; "
                f"style-src {_source(style)}; script-src {_source(script)}"
            ),
        )
    )
    stream.enable_buffering(_BUFFERED)
    stream.dump(out, encoding="utf-8")


def _expired(summary: Summary, not_images: int) -> Tally:
    """Return the objects whose verdicts have expired. They belong to no format, no folder and no owner.

    Of such an object, only the status is known. The number of those that are not images follows from the
    audit's total, `not_images`.
    """
    known = sum(tally.other for tally in summary.formats.values())
    other = min(max(0, not_images - known), summary.expired[Status.UNRECOGNIZED])
    return Tally(summary.expired, other)


def _prefix_chart(groups: Sequence[Group], others: str) -> Markup:
    named = [(f"others ({others})" if name is None else name or "no folder", tally) for name, tally in groups]
    return _kind_chart(named, ends=True)


def _owner_chart(owners: Sequence[OwnerGroup], others: str) -> Markup:
    named = [(f"others ({others})" if code is None else label, tally) for label, code, tally in owners]
    return _kind_chart(named, ends=False)


def _kind_chart(groups: Sequence[tuple[str, Tally]], *, ends: bool) -> Markup:
    found = [tally.kinds() for _, tally in groups]
    return charts.counts(
        [label for label, _ in groups],
        [
            charts.Series(css_class(kind), [counts.get(kind, 0) for counts in found])
            for kind in _found_kinds([tally for _, tally in groups])
        ],
        ends=ends,
    )


def _found_kinds(tallies: Sequence[Tally]) -> list[str]:
    """Return the kinds that occur, the most urgent first."""
    return list(total(tallies).kinds())


def _format_chart(formats: Sequence[tuple[str | None, Tally]]) -> Markup:
    """Draw the formats of the most objects, and all others, if there are several, as one."""
    drawn = [(name or "none known", tally) for name, tally in formats]
    if len(drawn) > _CHARTED_FORMATS + 1:
        others = drawn[_CHARTED_FORMATS:]
        drawn[_CHARTED_FORMATS:] = [(f"others ({len(others)})", total(tally for _, tally in others))]
    return charts.sizes(
        [name for name, _ in drawn],
        [
            charts.Series("stored", [tally.stored for _, tally in drawn]),
            charts.Series("virtual", [tally.virtual for _, tally in drawn]),
        ],
    )


def _words(summary: Summary, changes: Changes | None, owner_tag: str | None) -> Markup:
    """Return what the script needs to know besides the rows, as JSON that cannot end its element."""
    known = {
        "statuses": list(STATUSES),
        "rows": summary.packed.total(),
        "changes": changes is not None,
        "owners": owner_tag is not None,
        "reserved": RESERVED,
        "notImages": sorted(NOT_IMAGES),
        "reasons": {
            shown(code): [shown(sentence), shown(to_do)]
            for code, sentence, to_do in contents.advice(sorted(summary.codes))
        },
    }
    text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", r"\u003c").replace("&", r"\u0026"))  # noqa: S704 - has no `<`


def _urgency(item: tuple[tuple[Status, str], ReasonTally]) -> tuple[int, bool, int, str]:
    (status, reason), tally = item
    return URGENCY[status], not_an_image(status, [reason]), -tally.objects, reason


def _graver(item: tuple[Move, int]) -> tuple[int, int]:
    """Sort changes by their new status, the most urgent first, and new objects after changed ones."""
    (before, after), _ = item
    return URGENCY[after], len(URGENCY) if before is None else -URGENCY[before]


@cache
def _environment() -> Environment:
    made = environment("keyhole.reports", shown)
    made.filters |= {
        "difference": figures.difference,
        "what_to_do": what_to_do,
        "what_changed": contents.what_changed,
        "owner": owner_label,
        "css": css_class,
    }
    return made


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
