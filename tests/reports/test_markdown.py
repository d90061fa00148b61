"""Markdown: a table in which no key formats anything, breaks a row, or becomes a link."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from keyhole.inspectors.findings import CHECKS, found
from keyhole.inspectors.text import escaped
from keyhole.reasons import Reason, Status, meaning
from keyhole.remedies import what_to_do
from keyhole.reports.markdown import code_span, write_markdown
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
    assert "`not_an_image`: " not in text


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
