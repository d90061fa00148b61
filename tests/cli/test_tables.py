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
from keyhole.reports.owned import owner_cell
from keyhole.results.owner import Owner
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
    owners = options.pop("owners", None)
    table = VerdictTable(console, owners=owners is not None, **({"wide": False} | options))
    for report, owner in zip(reports, owners or [None] * len(reports), strict=True):
        table.row(report, owner)
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


NAMES = (
    "payments",
    "R & D",
    "a  s3://images/other",
    "",
    "-",
    "(unknown)",
    "x" * 256,
    "\u202egpj",
    "a\n\x1b[2J",
)
OWNERS = [*map(Owner, NAMES), Owner(), Owner(unknown="denied"), *map(Owner, HOSTILE)]


@pytest.mark.parametrize("width", [80, 110, 132, 200])
def test_with_owners_every_line_fits_on_a_terminal(width: int) -> None:
    lines = printed(*(unsafe(f"{n}") for n in range(len(OWNERS))), width=width, owners=OWNERS)

    assert [line for line in lines if cell_len(line) > width] == []
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    assert ("payments" in text, '"R & D"' in text) == (True, True)
    assert ("  owner: payments" in lines) == (width == 80)


def test_in_a_pipe_owners_are_whole_and_precede_the_object() -> None:
    head, *lines = printed(
        *(unsafe(f"{n}", ()) for n in range(len(OWNERS))), width=80, terminal=False, owners=OWNERS
    )

    place = head.index("owner ")
    assert head.split()[-2:] == ["owner", "object"]
    for number, (line, owner) in enumerate(zip(lines, OWNERS, strict=True)):
        cell = owner_cell(owner)
        assert line[place:] == f"{cell}{' ' * (16 - cell_len(cell))} s3://{sample.BUCKET}/{number}"


def test_a_table_without_owners_has_no_such_column() -> None:
    head, *_ = printed(unsafe("a"), width=200)
    assert "owner" not in head


@pytest.mark.parametrize(
    ("owner", "cell"),
    [
        (Owner("payments"), "payments"),
        (Owner("a-b/c.d@e=f"), "a-b/c.d@e=f"),
        (Owner("R & D"), '"R & D"'),
        (Owner(""), '""'),
        (Owner("-"), '"-"'),
        (Owner("(unknown)"), '"(unknown)"'),
        (Owner('"a"'), r'"\"a\""'),
        (Owner("\u202e"), r'"\u202e"'),
        (Owner(r"\u202e"), r'"\\u202e"'),
        (Owner(), "-"),
        (Owner(unknown="denied"), "(unknown)"),
    ],
)
def test_an_owner_is_one_word_or_in_quotation_marks(owner: Owner, cell: str) -> None:
    assert owner_cell(owner) == cell


OWNER_NAMES = st.text(st.sampled_from('\\"u202e\u202e -a\x1b'), max_size=8)


@given(OWNER_NAMES, OWNER_NAMES)
def test_two_owners_never_look_the_same_in_a_table(one: str, other: str) -> None:
    assert (owner_cell(Owner(one)) == owner_cell(Owner(other))) == (one == other)
    assert owner_cell(Owner(one)) not in {"-", "(unknown)"}
