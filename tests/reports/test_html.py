"""Texts with backticks in HTML: what is code, and that everything stays escaped."""

import pytest

from keyhole.remedies import REMEDIES, what_to_do
from keyhole.reports.html import with_code

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("run `keyhole audits`, then wait", "run <code>keyhole audits</code>, then wait"),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("no code", "no code"),
        ("", ""),
        ("a single ` stays", "a single ` stays"),
        ("`` is empty", "`` is empty"),
        (
            "the report's `error` contains S3's answer",
            "the report&#39;s <code>error</code> contains S3&#39;s answer",
        ),
        (
            f"{SCRIPT} `{SCRIPT}`",
            "&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;script&gt;alert(1)&lt;/script&gt;</code>",
        ),
    ],
)
def test_text_between_backticks_is_code_and_everything_is_escaped(text: str, html: str) -> None:
    assert str(with_code(text)) == html


@pytest.mark.parametrize("name", ["a `b` c", "`rm`", "it's `b` here", '"`a`"', "'`a`\" `b`", "\\"])
def test_a_quoted_name_keeps_its_backticks(name: str) -> None:
    """Findings quote names from images with `repr`."""
    html = str(with_code(f"opening the image also opens its backing file {name!r}; run `qemu-img check`"))

    assert html.count("<code>") == 1
    assert html.endswith("; run <code>qemu-img check</code>")
    assert html.count("`") == repr(name).count("`")


@pytest.mark.parametrize("code", REMEDIES)
def test_no_advice_shows_a_backtick(code: str) -> None:
    assert "`" not in with_code(what_to_do(code))
