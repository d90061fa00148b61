"""Markdown: a table in which no key formats anything, breaks a row, or becomes a link."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from keyhole.inspectors.findings import CHECKS, found
from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import BucketFinding
from keyhole.reasons import Reason, Status, meaning
from keyhole.remedies import what_to_do
from keyhole.reports.markdown import code_span, write_findings, write_markdown, write_owned_markdown
from keyhole.reports.owned import OwnedReport
from keyhole.results.owner import Owner
from keyhole.scan.report import Report
from tests.reports import sample

TEXTS = st.text(st.sampled_from("|`\\<>[]()*_~ a!@#\n\u202e\x1b")) | st.text(
    st.characters(exclude_categories=["Cs"])
)


def written(*reports: Report) -> str:
    return b"".join(write_markdown(reports)).decode()


def cells(text: str) -> list[list[Any]]:
    """The cells of the table's rows, each as a list of a viewer's tokens."""
    rows: list[list[Any]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if before.type in {"td_open", "th_open"}:
            rows[-1].append(token.children)
    return rows


@given(key=TEXTS)
@example("a|b`c")
@example("``")
@example(" `| ")
@example("\\|")
@example("<script>alert(1)</script>")
@example("[x](https://example.com) @everyone #1")
def test_a_viewer_shows_every_key_as_it_is(key: str) -> None:
    _, row = cells(written(sample.verdict(key, Status.UNSAFE, reasons=("backing_file",))))

    assert len(row) == 6
    (name,) = row[5]
    assert (name.type, name.content) == ("code_inline", escaped(f"s3://images/{key}"))


@pytest.mark.parametrize("code", [*CHECKS, *Reason])
def test_a_viewer_shows_the_advice_as_it_is(code: str) -> None:
    """The code spans of the advice, such as `max_virtual_size`, once had backslashes."""
    text = written(sample.verdict("a", Status.REJECTED, reasons=(code,)))
    *_, item = (token for token in MarkdownIt("commonmark").enable("table").parse(text) if token.children)

    shown = "".join(child.content for child in item.children or ())
    assert shown == f"{code}: {meaning(code)}. To do: {what_to_do(code)}.".replace("`", "")


def test_the_counts_and_the_meaning_of_each_reason_follow() -> None:
    text = written(
        sample.verdict("a", Status.UNSAFE, reasons=("backing_file",)),
        sample.verdict("b", Status.UNSAFE, reasons=("backing_file",)),
        sample.verdict("c"),
        sample.verdict("d.pdf", Status.UNRECOGNIZED, reasons=("not_an_image",)),
    )

    assert "\n4 objects: 2 unsafe, 1 safe, 1 not an image\n" in text
    assert text.count("- `backing_file`: ") == 1
    assert text.count("- `not_an_image`: ") == 1


def test_for_one_object_the_findings_are_told() -> None:
    report = sample.verdict(
        "a", Status.UNSAFE, reasons=("backing_file",), findings=(found("backing_file", "<b>`x`"),)
    )

    assert "- `backing_file` (critical): ``<b>`x` ``" not in written(report)
    assert f"- `backing_file` (critical): {code_span('<b>`x`')}" in written(report)


@pytest.mark.parametrize(
    ("text", "span"), [("", ""), ("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), (" ", "`   `")]
)
def test_a_code_span_has_a_longer_fence_than_its_text(text: str, span: str) -> None:
    assert code_span(text) == span


def owned(*owners: Owner) -> str:
    """A table with owners."""
    reports = (OwnedReport(sample.verdict(f"{number}"), owner) for number, owner in enumerate(owners))
    return b"".join(write_owned_markdown(reports, owners=True)).decode()


@given(name=TEXTS)
@example("a|b`c")
@example("no owner tag")
@example("a\nb | c | d")
@example("<script>alert(1)</script>")
@example("\u202egpj.exe\u200f")
@example("https://example.com @everyone #1")
@example("x" * 256)
def test_a_viewer_shows_every_owner_as_it_is(name: str) -> None:
    heads, row, *_ = cells(owned(Owner(name)))

    assert [token.content for (token,) in heads] == [
        *("status", "reasons", "format", "virtual", "size", "owner", "object")
    ]
    (shown,), (key,) = row[5:]
    assert (key.type, key.content) == ("code_inline", "s3://images/0")
    expected = ("code_inline", escaped(name)) if name else ("text", "an empty tag")
    assert (shown.type, shown.content) == expected


def test_an_object_without_an_owner_says_why() -> None:
    text = owned(Owner(), *[Owner(unknown="denied @all")] * 2, Owner("a"))

    shown = [(row[5][0].type, row[5][0].content) for row in cells(text)[1:]]
    assert shown == [
        ("text", "no owner tag"),
        ("text", "unknown owner"),
        ("text", "unknown owner"),
        ("code_inline", "a"),
    ]
    assert "\nThe owner of 2 objects is unknown: `denied @all`.\n" in text


@given(message=TEXTS)
@example("the tag says @everyone https://example.com")
def test_a_tag_in_a_finding_about_the_bucket_is_a_code_span(message: str) -> None:
    finding = BucketFinding(kind="tag_mismatch", bucket="images", key="a", message=message)
    text = b"".join(write_findings([finding])).decode()
    *_, item = (token for token in MarkdownIt("commonmark").parse(text) if token.children)

    codes = [token.content for token in item.children or () if token.type == "code_inline"]
    assert codes == ["tag_mismatch", "s3://images/a", *([escaped(message)] if message else [])]
