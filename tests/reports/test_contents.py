"""The page's sentences about an audit as a whole."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.audit import AuditSpec, AuditState, Totals
from keyhole.intake.selection import Selection
from keyhole.reasons import Reason, Status
from keyhole.remedies import what_to_do
from keyhole.reports import contents
from keyhole.reports.bar import bar
from keyhole.reports.changes import Changes
from keyhole.reports.kinds import KINDS, NOT_IMAGES, kinds
from tests.reports import sample

NOW = sample.NOON + timedelta(minutes=5)
WAITING = Totals(listed=10, queued=10, scanned=7)


def test_of_an_audit_that_is_done_there_is_nothing_to_warn() -> None:
    assert contents.notice(sample.audit(), NOW) is None


@pytest.mark.parametrize(
    ("state", "listed_all", "reason", "heading", "texts"),
    [
        (
            AuditState.RUNNING,
            False,
            None,
            "Still running",
            ["from 2026-05-01 12:05 UTC", "not completely listed, and 3 listed objects have no verdict"],
        ),
        (AuditState.RUNNING, True, None, "Still running", ["is completely listed, and 3 listed objects"]),
        (AuditState.RUNNING, False, "slow down", "Still running", ["Slow down. The figures are"]),
        (AuditState.PAUSED, False, None, "Paused", ["keyhole audit --resume 20260501-images"]),
        (AuditState.CANCELLED, False, None, "Cancelled before it was done", ["are not included"]),
        (
            AuditState.STOPPED,
            False,
            "100 requests are spent",
            "Stopped before it was done",
            ["100 requests are spent. ", "Objects that were not listed by then are not included."],
        ),
        (AuditState.STOPPED, True, None, "Stopped before it was done", ["3 listed objects have no verdict"]),
        (
            AuditState.FAILED,
            False,
            "listing is denied.",
            "Failed before it was done",
            ["Listing is denied. "],
        ),
    ],
)
def test_of_any_other_it_says_why_the_figures_are_not_all(
    state: AuditState, listed_all: bool, reason: str | None, heading: str, texts: list[str]
) -> None:
    audit = sample.audit(state=state, listed_all=listed_all, reason=reason, totals=WAITING)

    notice = contents.notice(audit, NOW)

    assert notice is not None
    assert notice.heading == heading
    for text in texts:
        assert text in notice.text


def test_where_nothing_waits_it_says_so() -> None:
    notice = contents.notice(sample.audit(state=AuditState.STOPPED), NOW)
    assert notice is not None
    assert notice.text.endswith("The whole bucket is listed, and every object to scan has a verdict.")


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        ({}, "There are no verdicts."),
        ({Status.SAFE: 1}, "The only object is safe to import."),
        ({Status.SAFE: 1200}, "All 1,200 objects are safe to import."),
        ({Status.UNRECOGNIZED: 1}, "The only object is not a disk image."),
        ({Status.UNRECOGNIZED: 3}, "None of the 3 objects is a disk image."),
        (
            {Status.SAFE: 1, Status.UNRECOGNIZED: 2},
            "The only image is safe to import. 2 other objects are not disk images.",
        ),
        (
            {Status.SAFE: 5, Status.UNRECOGNIZED: 1},
            "All 5 images are safe to import. 1 other object is not a disk image.",
        ),
        (
            {Status.SAFE: 5, Status.UNSAFE: 1, Status.UNRECOGNIZED: 9},
            "5 of 6 objects are safe to import. The others: 1 unsafe. 9 other objects are not disk images.",
        ),
        ({Status.UNSAFE: 1}, "No object is safe to import: 1 unsafe."),
        ({Status.FAILED: 2, Status.UNSAFE: 1}, "No object is safe to import: 1 unsafe, 2 failed."),
        (
            {Status.SAFE: 1, Status.DAMAGED: 3, Status.UNSAFE: 2},
            "1 of 6 objects is safe to import. The others: 2 unsafe, 3 damaged.",
        ),
    ],
)
def test_all_verdicts_in_a_sentence(statuses: dict[Status, int], sentence: str) -> None:
    assert contents.verdict(statuses, statuses.get(Status.UNRECOGNIZED, 0)) == sentence


def test_objects_in_an_unknown_format_can_be_images() -> None:
    statuses = {Status.SAFE: 5, Status.UNRECOGNIZED: 3}

    assert contents.verdict(statuses, 2) == (
        "5 of 6 objects are safe to import. The others: 1 unrecognized. 2 other objects are not disk images."
    )


@given(st.dictionaries(st.sampled_from(Status), st.integers(0, 10**9)))
def test_a_bar_is_full_and_shows_the_rarest(statuses: dict[Status, int]) -> None:
    parts = bar(statuses)

    assert {part.kind for part in parts} == {status for status, count in statuses.items() if count}
    assert all(part.width > 0.4 for part in parts)
    if parts:
        assert abs(sum(part.width for part in parts) - 100) < 0.1
        assert parts[0].start == 0


def test_a_status_that_no_object_has_any_more_is_shown_with_its_change() -> None:
    last = sample.audit(totals=Totals(statuses={Status.SAFE: 5, Status.FAILED: 2}))
    now = Totals(statuses={Status.SAFE: 6, Status.UNSAFE: 1})

    assert [row[:4] for row in contents.counted_kinds(now, Changes(last))] == [
        ("unsafe", 1, "14.3%", 1),
        ("failed", 0, "0%", -2),
        ("safe", 6, "85.7%", 1),
    ]
    assert [row[:4] for row in contents.counted_kinds(now, None)] == [
        ("unsafe", 1, "14.3%", None),
        ("safe", 6, "85.7%", None),
    ]


def test_objects_that_are_not_images_are_counted_apart_and_have_no_share() -> None:
    last = sample.audit(totals=Totals(statuses={Status.UNRECOGNIZED: 3}, not_images=1))
    now = Totals(statuses={Status.SAFE: 3, Status.UNRECOGNIZED: 6}, not_images=5)

    rows = contents.counted_kinds(now, Changes(last))

    assert [row[:4] for row in rows] == [
        ("unrecognized", 1, "25%", -1),
        ("safe", 3, "75%", 3),
        ("not images", 5, "", 4),
    ]
    assert contents.share_of(now) == (
        "Shares are of the 4 objects that can be images, without the 5 objects that are not images."
    )
    assert contents.share_of(last.totals) == (
        "Shares are of the 2 objects that can be images, without the 1 object that is not an image."
    )
    assert contents.share_of(Totals(statuses={Status.SAFE: 3})) == "Shares are of all 3 objects."
    assert contents.share_of(Totals(statuses={Status.UNRECOGNIZED: 3}, not_images=3)) == ""


@given(st.dictionaries(st.sampled_from(Status), st.integers(1, 10**9)), st.integers(0, 10**9))
def test_every_object_is_of_one_kind(statuses: dict[Status, int], not_images: int) -> None:
    not_images = min(not_images, statuses.get(Status.UNRECOGNIZED, 0))

    counts = kinds(statuses, not_images)

    assert sum(counts.values()) == sum(statuses.values())
    assert counts.get(NOT_IMAGES, 0) == not_images
    assert list(counts) == [kind for kind in KINDS if kind in counts]


@given(st.dictionaries(st.sampled_from(Status), st.integers(1, 10**6)), st.integers(0, 10**6))
def test_the_share_of_safe_objects_is_the_same_everywhere(
    statuses: dict[Status, int], not_images: int
) -> None:
    """The table of verdicts once divided by all objects, and the figures by the images."""
    statuses[Status.SAFE] = statuses.get(Status.SAFE, 1)
    totals = Totals(statuses=statuses, not_images=min(not_images, statuses.get(Status.UNRECOGNIZED, 0)))

    table = {row.kind: row.share for row in contents.counted_kinds(totals, None)}
    figures = {one.label: one for one in contents.figures(sample.audit(totals=totals), 0)}

    assert table["safe"] == figures["Safe"].value


def test_a_name_stands_in_a_bar_only_where_it_fits() -> None:
    parts = bar({Status.UNRECOGNIZED: 20, Status.UNSAFE: 1, Status.SAFE: 79})
    assert {part.kind: part.room for part in parts} == {
        "unsafe": "none",
        "unrecognized": "wide",
        "safe": "always",
    }


def test_the_figures_are_those_of_the_totals() -> None:
    totals = Totals(
        listed=1000,
        left_out=10,
        scanned=990,
        statuses={Status.SAFE: 900, Status.UNSAFE: 60, Status.UNRECOGNIZED: 30},
        not_images=30,
        listed_bytes=1024**4,
        bytes_read=1024**3,
        requests=1200,
        lists=1,
        dollars=0.25,
    )

    audit = sample.audit(totals=totals)
    shown = {figure.label: (figure.value, figure.note) for figure in contents.figures(audit, 3 * 1024**4)}

    assert shown == {
        "Objects": ("990", "1,000 listed, 10 left out"),
        "Safe": ("93.8%", "900 of 960 images"),
        "Not safe": ("60", "6.2% of the images"),
        "Not images": ("30", "left out of the shares"),
        "Stored bytes": ("1 TiB", "in the listed objects"),
        "Virtual bytes": ("3 TiB", "as the images state"),
        "Bytes read": ("1 GiB", "0.10% of the stored bytes"),
        "Cost": ("$0.25", "1,200 requests"),
    }


def test_costs_are_told_in_all_and_for_each() -> None:
    totals = Totals(
        pages=2,
        listed=2000,
        scanned=1000,
        unchanged=1000,
        statuses={Status.SAFE: 2000},
        bytes_read=1000 * 2048,
        requests=1502,
        lists=2,
        dollars=0.002,
    )
    spec = AuditSpec(bucket="images", max_requests=5000, max_dollars=1)
    audit = sample.audit(totals=totals, spec=spec, ended_at=sample.NOON + timedelta(seconds=100))

    shown = {figure.label: (figure.value, figure.note) for figure in contents.costs(audit, NOW)}

    assert shown["Requests"] == ("1,502", "at most 5,000")
    assert shown["for listing"] == ("2", "2 pages")
    assert shown["for objects and their tags"] == ("1,500", "1.50 per scanned object")
    assert shown["Bytes read"] == ("2 MiB", "2 KiB per scanned object")
    assert shown["Cost"] == ("under a cent", "$1.00 per million objects, at most $1.00")
    assert shown["Time"] == ("1 min 40 s", "20 verdicts per second")
    assert shown["unchanged"][0] == "1,000"


def test_an_audit_without_an_object_costs_what_it_costs() -> None:
    shown = {figure.label: figure.value for figure in contents.costs(sample.audit(totals=Totals()), NOW)}
    assert (shown["Requests"], shown["Cost"], shown["Objects listed"]) == ("0", "$0.00", "0")


def test_what_was_asked_names_all_that_is_not_as_usual() -> None:
    spec = AuditSpec(
        bucket="images",
        prefix="a/",
        selection=Selection(
            include=("*.raw",),
            exclude=("tmp/*",),
            suffixes=(".raw",),
            min_size=1,
            max_size=2**20,
            sample=0.01,
        ),
        limit=5,
        full=True,
        versions=True,
        check_tags=True,
        inventory="s3://inventory/manifest.json",
        rate=2.5,
        schedule="nightly",
    )

    told = dict(contents.asked(sample.audit(spec=spec)))

    assert told == {
        "Audit": "20260501-images",
        "Bucket": "images",
        "Prefix": "a/",
        "Started": "2026-05-01 12:00 UTC",
        "Ended": "2026-05-01 12:03 UTC",
        "Rules": "3/default",
        "Scanner": "keyhole/0.1.0",
        "Keys matching": "*.raw",
        "Keys not matching": "tmp/*",
        "Suffixes": ".raw",
        "Minimum size": "1 bytes",
        "Maximum size": "1,048,576 bytes",
        "Sample": "1% of the keys",
        "Limit": "5 objects",
        "Versions": "all, not only the current ones",
        "Unchanged objects": "also scanned",
        "Tags": "compared with the verdicts",
        "Inventory": "s3://inventory/manifest.json",
        "Rate": "at most 2.5 requests per second",
        "Schedule": "nightly",
    }
    assert list(contents.selected(sample.audit())) == []


def test_advice_states_what_each_reason_means_and_what_to_do() -> None:
    known, later = contents.advice(["zeros", "cosmic_rays"])

    assert known == ("zeros", Reason.ZEROS.sentence, what_to_do("zeros"))
    assert later.meaning == "cosmic_rays"
    assert later.what_to_do
