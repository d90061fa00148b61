"""Tables: whole names in pipes, shortened names on terminals, and codes that never break."""

import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from keyhole.cli.table import LEAST, codes_below, codes_within, shortened
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.verdict_table import VerdictTable
from keyhole.inspectors.text import escaped
from keyhole.reasons import Status
from tests.reports import sample

CODES = ("unsupported_subformat", "virtual_size_multiple", "backing_file")
#: Keys that are wide, that have marks without width, or that a terminal would execute.
HOSTILE = (
    "日本語" * 40,
    "\x1b[31m" * 9,
    "a" * 1000,
    "e\u0301" * 90,
    "\u202egnp",
    "👩‍👩‍👧‍👦" * 20,
    "[red]x[/]",
)


def printed(*reports: Any, width: int, terminal: bool = True, **options: Any) -> list[str]:
    """The lines of a table of reports."""
    out = io.StringIO()
    console = SafeConsole(file=out, width=width, force_terminal=terminal, color_system=None, emoji=False)
    table = VerdictTable(console, **({"wide": False} | options))
    for report in reports:
        table.row(report)
    return out.getvalue().splitlines()


def unsafe(key: str, reasons: tuple[str, ...] = CODES) -> Any:
    return sample.verdict(key, Status.UNSAFE, reasons=reasons, format="parallels", virtual_size=5)


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("width", [80, 110, 132, 200])
def test_on_a_terminal_every_line_fits(width: int, *, scanned: bool) -> None:
    lines = printed(*(unsafe(key) for key in HOSTILE), width=width, scanned=scanned)

    assert [line for line in lines if cell_len(line) > width] == []
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(("options", "terminal"), [({"wide": True}, True), ({}, False)])
def test_wide_and_in_a_pipe_every_name_and_every_reason_is_whole(
    options: dict[str, bool], *, terminal: bool
) -> None:
    head, *lines = printed(*(unsafe(key) for key in HOSTILE), width=80, terminal=terminal, **options)

    assert len(lines) == len(HOSTILE)
    for line, key in zip(lines, HOSTILE, strict=True):
        assert line.endswith(escaped(f" s3://{sample.BUCKET}/{key}"))
        assert ", ".join(CODES) in line
    assert head.endswith(" object")


def test_the_same_key_in_two_buckets_does_not_look_the_same() -> None:
    key = "a/very/long/path/" * 9
    one = unsafe(key)
    other = one.model_copy(update={"target": f"s3://other/{key}", "bucket": "other"})

    _, first, _, second, _ = printed(one, other, width=80, scanned=True)[:5]

    assert "s3://images/" in first
    assert "s3://other/" in second


def test_the_columns_are_where_their_titles_are() -> None:
    for width in (80, 110, 140):
        head, row, *_ = printed(unsafe("a"), width=width)
        assert head.index("object") == row.index("s3://")
        assert head.index("format") == row.index("parallels")


#: The most usual long cells: variants of VMDK, and two long reasons.
LONG = [
    ("vmdk", "monolithicSparse", ("extent_path", "unsupported_subformat")),
    ("vmdk", "twoGbMaxExtentSparse", ("decompression_bomb", "decompression_limit")),
    ("raw", None, ()),
]


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("reasons", [None, CODES * 3])
def test_in_a_pipe_long_reasons_move_no_other_column(
    reasons: tuple[str, ...] | None, *, scanned: bool
) -> None:
    reports = [
        sample.verdict("a", Status.UNSAFE, format=name, subformat=variant, reasons=reasons or usual, size=7)
        for name, variant, usual in LONG
    ]

    head, *lines = printed(*reports, width=80, terminal=False, scanned=scanned)

    for line, report in zip(lines, reports, strict=True):
        place = head.index("reasons")
        assert line[:place].endswith(" ")
        assert line[place:].startswith(", ".join(report.reasons))
        assert line.index(" 7 B ") + len(" 7 B") == head.index("size") + len("size")
        assert (line.index("s3://") == head.index("object")) == (not reasons)


VHD = {"format": "vhd", "virtual_size": 5}
FIXED = sample.verdict("fixed.vhd", subformat="fixed", **VHD)
DYNAMIC = sample.verdict(
    "dynamic.vhd", Status.REJECTED, subformat="dynamic", reasons=("banned_format", "backing_file"), **VHD
)


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize(("width", "terminal"), [(132, True), (80, False)])
def test_where_there_is_room_the_variant_is_beside_the_format(
    width: int, *, terminal: bool, scanned: bool
) -> None:
    head, fixed, dynamic = printed(
        FIXED, DYNAMIC, width=width, terminal=terminal, scanned=scanned, costs=not scanned
    )

    assert fixed.index("vhd (fixed)  ") == dynamic.index("vhd (dynamic)  ") == head.index("format")
    assert head.index("object") == fixed.index("s3://") == dynamic.index("s3://")


def test_on_a_narrow_terminal_the_variant_follows_the_reason_that_depends_on_it() -> None:
    _, fixed, dynamic, reasons = printed(FIXED, DYNAMIC, width=80)

    assert (" vhd  " in fixed, " vhd  " in dynamic) == (True, True)
    assert reasons == "  banned_format: vhd (dynamic), backing_file"


@pytest.mark.parametrize("width", [80, 110, 132, 200])
def test_a_long_or_hostile_variant_breaks_no_line(width: int) -> None:
    reports = [
        sample.verdict("a", Status.REJECTED, format="vmdk", subformat=text, reasons=("banned_format",))
        for text in ("vmfsPassthroughRawDeviceMap", *HOSTILE)
    ]
    head, *lines = printed(*reports, width=width)

    assert [line for line in lines if cell_len(line) > width or not line.isprintable()] == []
    assert {cell_len(line[: line.index("s3://")]) for line in lines if "s3://" in line} == {
        head.index("object")
    }


@given(name=st.text(), room=st.integers(LEAST, 90))
@example("s3://bucket/" + "日本語" * 40, LEAST)
@example("s3://" + "b" * 63 + "/" + "k" * 99, LEAST)
@example("a" * 30 + "e" + "\u0301" * 60, 24)
def test_a_shortened_name_fits_and_keeps_its_end(name: str, room: int) -> None:
    short = shortened(name, room)

    assert cell_len(short) <= room
    assert short.isprintable()
    if cell_len(escaped(name)) <= room:
        assert short == escaped(name)
    else:
        start, _, end = short.partition("…") if "…" not in escaped(name) else ("", "", "")
        assert escaped(name).startswith(start)
        assert escaped(name).endswith(end)


@pytest.mark.parametrize("start", ["s3://images/", "https://images.example.com/"])
def test_a_bucket_and_a_host_are_not_cut(start: str) -> None:
    assert shortened(f"{start}{'a' * 99}/end.img", 40).startswith(start)


@given(st.lists(st.sampled_from(["ab", "unsupported_subformat", "x" * 70]), min_size=1), st.integers(1, 90))
def test_no_code_breaks(codes: list[str], width: int) -> None:
    below = codes_below(codes, width)

    assert below.replace("\n", " ").replace(",", "").split() == codes
    assert codes_within(codes, width).startswith(codes[0])


def test_if_not_all_reasons_fit_the_others_are_counted() -> None:
    assert codes_within(CODES, 24) == "unsupported_subformat +2"
    assert codes_within(CODES, 200) == ", ".join(CODES)
    assert codes_within((), 24) == ""
