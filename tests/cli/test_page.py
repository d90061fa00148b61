"""The page of one report: it fits a terminal, and shows earlier verdicts on the object."""

import io
from datetime import UTC, datetime

from rich.cells import cell_len

from keyhole.cli.render import print_page
from keyhole.cli.terminal import SafeConsole
from keyhole.reasons import Status
from keyhole.results.history import Past
from keyhole.scan.report import Report
from tests.reports import sample

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def printed(report: Report, *past: Past, width: int = 80, terminal: bool = False) -> list[str]:
    """The lines of the page of a report."""
    out = io.StringIO()
    console = SafeConsole(file=out, width=width, force_terminal=terminal, color_system=None, emoji=False)
    print_page(console, report, past=past)
    return out.getvalue().splitlines()


def test_on_a_terminal_every_line_fits() -> None:
    report = sample.verdict("k" * 500, details={"backing_file": "/a" * 300})

    for width in (80, 110, 160):
        lines = printed(report, width=width, terminal=True)
        assert [line for line in lines if cell_len(line) > width] == []
        assert "".join(line[14:].strip() for line in lines).count("/a" * 300) == 1


def test_earlier_verdicts_tell_whether_the_object_has_changed_since() -> None:
    lines = printed(
        sample.verdict("a", etag='"new"'),
        Past(NOON, Status.DAMAGED, ("truncated", "checksum"), "new"),
        Past(NOON, Status.SAFE, (), "old"),
        Past(NOON, Status.FAILED, ("credentials",), None),
    )

    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("before ")] == [
        "2026-05-01T12:00:00+00:00: damaged (truncated, checksum); same ETag",
        "2026-05-01T12:00:00+00:00: safe; other ETag",
        "2026-05-01T12:00:00+00:00: failed (credentials)",
    ]


def test_a_hostile_reason_is_escaped() -> None:
    (line,) = (
        line
        for line in printed(sample.verdict("a"), Past(NOON, Status.SAFE, ("\x1b[2J\n",), None))
        if line.startswith("before ")
    )

    assert line.endswith(r"safe (\x1b[2J\n)")


def test_an_object_that_cannot_be_read_first_shows_why_and_nothing_unknown() -> None:
    unread = sample.verdict(
        "a",
        Status.UNREADABLE,
        reasons=("not_found",),
        size=None,
        details={"bucket_region": "eu-west-1", "error": "the bucket does not exist"},
    )

    lines = printed(unread)

    assert [" ".join(line.split()) for line in lines[:3]] == [
        "object s3://images/a",
        "status unreadable (not_found)",
        "error the bucket does not exist",
    ]
    labels = [line[:14].strip() for line in lines]
    assert labels.count("error") == 1
    assert not {"format", "virtual size", "size", "wholeness"} & set(labels)


def test_an_object_that_was_read_shows_what_is_unknown() -> None:
    labels = {line[:14].strip() for line in printed(sample.verdict("a", Status.UNRECOGNIZED))}

    assert {"format", "virtual size", "size", "wholeness"} <= labels
