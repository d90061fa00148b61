"""The page's counts and rows: one pass, little memory, and every object is counted."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.findings import found
from keyhole.intake.audits.audit import AuditedObject, How
from keyhole.reasons import STATUSES, Status
from keyhole.reports.summary import EXAMPLES, summarize
from tests.reports import sample

OBJECTS = st.lists(
    st.builds(
        lambda status, key, kept: AuditedObject(
            how=How.SCANNED, status=status, report=sample.verdict(key, status) if kept else None
        ),
        st.sampled_from(Status),
        st.text("abc", max_size=3),
        st.booleans(),
    )
)


@given(OBJECTS, st.integers(1, 5))
def test_each_object_is_packed_or_hidden_or_nameless(objects: list[AuditedObject], limit: int) -> None:
    summary = summarize(objects, urgent=1, limit=limit)

    assert summary.packed + summary.hidden + summary.expired == Counter(one.status for one in objects)
    assert summary.packed.total() <= limit


@given(OBJECTS, st.integers(1, 5))
def test_nothing_that_is_hidden_needs_more_attention_than_what_is_shown(
    objects: list[AuditedObject], limit: int
) -> None:
    summary = summarize(objects, urgent=limit, limit=limit)

    order = list(STATUSES)
    urgent = [order.index(row.status) for _, row, _ in summary.urgent]
    assert urgent == sorted(urgent)
    assert Counter(row.status for _, row, _ in summary.urgent) == summary.packed
    assert not summary.hidden or max(urgent) <= min(order.index(status) for status in summary.hidden)


def test_formats_are_counted_with_their_sizes() -> None:
    reports = [
        sample.verdict("a", format="qcow2", size=10, virtual_size=100),
        sample.verdict("b", Status.UNSAFE, format="qcow2", size=5, virtual_size=None),
        sample.verdict("c", Status.UNREADABLE, size=None),
    ]

    formats = summarize(map(sample.audited, reports), urgent=10, limit=10).formats

    qcow2, none = formats["qcow2"], formats[None]
    assert (qcow2.objects, qcow2.safe, qcow2.stored, qcow2.virtual) == (2, 1, 15, 100)
    assert (none.objects, none.safe, none.stored) == (1, 0, 0)


def test_an_object_counts_for_its_gravest_reason_with_that_reasons_sentence() -> None:
    report = sample.verdict(
        "a.qed",
        Status.UNSAFE,
        reasons=("backing_file", "banned_format"),
        findings=(found("banned_format", "not taken"), found("backing_file", "opened with 'x'")),
    )

    reasons = summarize([sample.audited(report)], urgent=10, limit=10).reasons

    assert list(reasons) == [(Status.UNSAFE, "backing_file")]
    assert reasons[Status.UNSAFE, "backing_file"].examples == [(1, "a.qed", "opened with 'x'")]


def test_a_reason_has_a_few_examples() -> None:
    reports = [sample.verdict(f"{n}", Status.DAMAGED, reasons=("truncated",)) for n in range(10)]

    tally = summarize(map(sample.audited, reports), urgent=1, limit=1).reasons[Status.DAMAGED, "truncated"]

    assert (tally.objects, len(tally.examples)) == (10, EXAMPLES)


def test_memory_does_not_grow_with_the_objects() -> None:
    report = sample.verdict("0.raw")
    one = sample.audited(report)

    def objects(count: int) -> Iterator[AuditedObject]:
        for number in range(count):
            # Make a copy, because pydantic caches the text that it validates.
            renamed = report.model_copy(update={"key": f"{number:09}.raw"})
            yield one.model_copy(update={"report": renamed})

    def peak(count: int) -> int:
        tracemalloc.start()
        summarize(objects(count), urgent=100, limit=100)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # objects that are made only once
    # If they were stored, seven thousand more rows would need some megabytes.
    assert peak(8000) - peak(1000) < 500_000
