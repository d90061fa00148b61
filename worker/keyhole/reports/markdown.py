r"""Writes tables as Markdown, for issues, pull requests and chats.

The tables are those of GitHub Flavored Markdown. Keys, owners and other text that a user or an image chose
are code spans, in which no character has a meaning: no HTML, no links, no mentions, no formatting. A pipe in
a cell is written as `\|`, as the specification requires even within code spans. Invisible characters become
escapes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import BucketFinding
from keyhole.reasons import URGENCY, Status, meaning
from keyhole.remedies import what_to_do
from keyhole.reports.figures import size
from keyhole.reports.owned import EMPTY, NO_TAG, UNKNOWN, OwnedReport, UnknownOwners
from keyhole.reports.tally import Tally, told
from keyhole.results.owner import Owner
from keyhole.scan.report import Report
from keyhole.scan.waivers import waiver_of

_HEADS: Final = ("status", "reasons", "format", "virtual", "size", "object")
_RIGHT: Final = {"virtual", "size", "listed", "done", "not safe", "not images", "read"}


def write_markdown(reports: Iterable[Report], *, quiet: bool = False) -> Iterator[bytes]:
    """Yield the parts of a Markdown text: a table of reports, the counts, and what each reason means.

    If `quiet` is true, the text has only the table, and of a single object its findings.
    """
    return write_owned_markdown(map(OwnedReport, reports), owners=False, quiet=quiet)


def write_owned_markdown(
    reports: Iterable[OwnedReport], *, owners: bool, quiet: bool = False
) -> Iterator[bytes]:
    """Yield the same parts as `write_markdown`. If `owners` is true, the table has a column of owners."""
    tally = Tally()
    unknown = UnknownOwners()
    seen: dict[str, Status] = {}
    alone: Report | None = None

    def rows() -> Iterator[Sequence[str]]:
        nonlocal alone
        for report, owner in reports:
            tally.add(report)
            unknown.add(owner)
            alone = report if tally.objects == 1 else None
            if report.status is not Status.SAFE:
                for code in report.reasons:
                    seen.setdefault(code, report.status)
            *cells, name = _cells(report)
            yield [*cells, _owner(owner), name] if owners else [*cells, name]

    *heads, name = _HEADS
    yield from table([*heads, "owner", name] if owners else _HEADS, rows())
    if not quiet:
        yield f"\n{told(tally)}\n".encode()
        yield from (f"\n{sentence}\n".encode() for sentence in unknown.told(code_span))
    if alone is not None and alone.findings:
        yield from _findings_of(alone)
    if seen and not quiet:
        yield b"\nWhat the reasons mean, and what to do:\n\n"
        for code, _ in sorted(seen.items(), key=lambda item: (URGENCY[item[1]], item[0])):
            yield f"- {code_span(code)}: {own(meaning(code))}. To do: {own(what_to_do(code))}.\n".encode()


def _findings_of(report: Report) -> Iterator[bytes]:
    yield b"\n"
    for finding in report.findings:
        waiver = waiver_of(finding, report.waivers)
        waived = f", {plain(waiver.sentence())}" if waiver else ""
        yield f"- `{finding.check}` ({finding.severity}): {code_span(finding.message)}{waived}\n".encode()


def write_findings(findings: Sequence[BucketFinding]) -> Iterator[bytes]:
    """Yield a list of findings about a bucket; nothing if there are none."""
    if findings:
        yield b"\nFindings about the bucket:\n\n"
        for one in findings:
            version = f" (version {code_span(one.version_id)})" if one.version_id else ""
            yield f"- `{one.kind}` {code_span(one.target)}{version}: {code_span(one.message)}\n".encode()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Yield the lines of a table. All cells must already be Markdown."""
    yield f"| {' | '.join(heads)} |\n".encode()
    yield f"| {' | '.join('---:' if head in _RIGHT else '---' for head in heads)} |\n".encode()
    for row in rows:
        cells = " | ".join(cell.replace("|", r"\|") for cell in row)
        yield f"| {cells} |\n".encode()


def _cells(report: Report) -> Sequence[str]:
    return (
        report.status.value,
        ", ".join(code_span(code) for code in report.shown_marks),
        code_span(report.image_format),
        size(report.virtual_size),
        size(report.size),
        code_span(report.target),
    )


def _owner(owner: Owner) -> str:
    """Return an owner. A name is a code span, and everything else is not."""
    if owner.name is None:
        return NO_TAG if owner.unknown is None else UNKNOWN
    return code_span(owner.name) or EMPTY


def code_span(text: str) -> str:
    """Return a text as a code span, which shows every character as it is.

    Source: CommonMark 0.31, section 6.1. The fence is longer than every sequence of backticks in the text. A
    space is added on both sides if the text begins or ends with a backtick or a space, because readers remove
    one space on both sides.
    """
    text = escaped(text)
    if not text:
        return ""
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    fence = "`" * (longest + 1)
    return f"{fence}{space}{text}{space}{fence}"


def own(text: str) -> str:
    """Return a text of Keyhole's own, in which backticks mark code spans.

    In a code span, a backslash would be shown, so only the text between code spans has backslashes.
    """
    parts = escaped(text).split("`")
    return "`".join(part if number % 2 else plain(part) for number, part in enumerate(parts))


def plain(text: str) -> str:
    """Return a text in which no character formats anything."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", escaped(text))
