"""CSV: a table for people in which no cell is a formula."""

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyhole.inspectors.findings import found
from keyhole.intake.audits.audit import AuditedObject, How
from keyhole.reasons import Status
from keyhole.reports.rows import Row, row_of
from keyhole.reports.spreadsheet import write_csv
from tests.reports import sample

#: Text that is likely to cause trouble, and other text. A key is UTF-8, so it has no surrogates.
TROUBLE = st.text(st.sampled_from("=+-@＝＋－＠;,|\t\r\n\0\"' a1ü\u00a0\u200b\u202e\ufeff"))  # noqa: RUF001
TEXTS = TROUBLE | st.text(st.characters(exclude_categories=["Cs"]))
REPORTS = st.builds(
    sample.verdict,
    TEXTS,
    st.sampled_from(Status),
    version_id=st.none() | TEXTS,
    etag=st.none() | TEXTS,
    size=st.none() | st.integers(),
    virtual_size=st.none() | st.integers(),
    format=st.none() | TEXTS,
    subformat=st.none() | TEXTS,
    last_modified=st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)),  # noqa: DTZ001 - hypothesis requires it
    findings=st.lists(TEXTS.map(lambda text: found("backing_file", text)), max_size=3).map(tuple),
)
FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001
#: Characters that a reader can remove from a cell's front, except for the apostrophe, which is the mark.
DROPPED = "".join(c for c in map(chr, range(0x3000)) if c.isspace() or not c.isprintable()) + '"\ufeff'


def written(*objects: AuditedObject) -> str:
    out = io.BytesIO()
    write_csv(objects, out)
    return out.getvalue().decode("utf-8-sig")


def read(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def read_one(report: Any) -> dict[str, str]:
    names, cells = read(written(sample.audited(report)))
    return dict(zip(names, cells, strict=True))


def unescaped(cell: str) -> str:
    """Read the escapes in a cell as Python does."""
    escape = r"\\(\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
    return re.sub(escape, lambda found: found[0].encode().decode("unicode_escape"), cell)


def without_marks(cell: str) -> str:
    """Return the original text, as the module's docstring describes."""
    cell = unescaped(cell)
    blank = r"\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\"'"
    formula = "=+\\-@＝＋－＠"  # noqa: RUF001
    return re.sub(rf"\A'(?=[{blank}]*[{formula}\t\r\n\0])|(?<=[;\t\r\n])'(?=[{blank}]*[{formula}])", "", cell)


def plain(row: Row) -> list[str]:
    """The cells of a row before formulas are escaped."""
    texts = {
        "reasons": " ".join(row.reasons),
        "content": " ".join(row.content),
        "findings": "; ".join(row.findings),
        "waived": "; ".join(row.waived),
    }
    cells = []
    for value in (row._asdict() | texts).values():
        if isinstance(value, datetime):
            cells.append(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
        else:
            cells.append("" if value is None else str(value))
    return cells


@given(REPORTS)
def test_reading_it_back_gives_the_same_cells_but_for_the_marks(report: Any) -> None:
    audited = sample.audited(report)

    names, cells = read(written(audited))

    assert names == list(Row._fields)
    assert [without_marks(cell) for cell in cells] == plain(row_of(audited))


@given(REPORTS, st.sampled_from(",;\t"))
@example(sample.verdict("a;=1"), ";")
@example(sample.verdict('a;"=1'), ";")
@example(sample.verdict("a\n=1"), ";")
@example(sample.verdict("\ufeff =1"), ",")
def test_no_cell_begins_with_a_formula_wherever_a_reader_splits(report: Any, delimiter: str) -> None:
    text = written(sample.audited(report))

    for cell in (cell for line in read(text, delimiter) for cell in line):
        assert not cell.lstrip(DROPPED).startswith(FORMULA)
        assert delimiter != "," or not cell.startswith(("\t", "\r", "\n", "\0"))


@given(REPORTS)
def test_nothing_in_it_is_there_and_not_seen(report: Any) -> None:
    assert written(sample.audited(report)).replace("\r\n", "").isprintable()


@given(REPORTS)
def test_not_even_where_quotes_are_taken_for_nothing(report: Any) -> None:
    for piece in re.split("[;\t\r\n]", written(sample.audited(report))):
        assert not piece.lstrip(DROPPED).startswith(FORMULA)


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        ("=cmd|'/C calc'!A1", "'=cmd|'/C calc'!A1"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),  # noqa: RUF001 - full-width characters
        (" =1", "' =1"),
        ('"=1', "'\"=1"),
        ("\t=1", r"'\t'=1"),
        ("\rx", r"'\rx"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u202eb\x00\x9b", r"a\u202eb\x00\x9b"),
        (r"a\x1b", r"a\\x1b"),
        (r"C:\a", r"C:\\a"),
        ("a;=1", "a;'=1"),
        ("'=1", "''=1"),
        ("a=1;b", "a=1;b"),
        ("a-b", "a-b"),
        ("it's", "it's"),
    ],
)
def test_a_mark_stands_where_a_formula_would_begin_and_nowhere_else(key: str, cell: str) -> None:
    assert read_one(sample.verdict(key))["key"] == cell


def test_numbers_stay_numbers_and_texts_are_quoted() -> None:
    line = written(sample.audited(sample.verdict("a.raw", size=5, virtual_size=2**73))).splitlines()[1]

    assert line.startswith('"safe","","images","a.raw","","",5,"","","",9444732965739290427392,"",')


def test_a_number_that_were_negative_would_be_no_formula_either() -> None:
    assert read_one(sample.verdict("a.raw", size=-5))["size"] == "'-5"


def test_no_number_of_a_real_report_is_negative() -> None:
    for report in sample.reports():
        numbers = (report.size, report.virtual_size, report.requests, report.bytes_read)
        assert all(number is None or number >= 0 for number in numbers)


def test_every_object_has_a_line_that_ends_as_the_rfc_says() -> None:
    text = written(*sample.objects())

    assert len(read(text)) == 1 + len(sample.objects())
    assert text.count("\n") == text.count("\r\n") == 1 + len(sample.objects())


def test_a_spreadsheet_is_told_that_it_is_utf8() -> None:
    out = io.BytesIO()
    write_csv([], out)
    assert out.getvalue().startswith(b'\xef\xbb\xbf"status"')


def test_an_object_whose_verdict_is_no_longer_kept_has_a_row_too() -> None:
    text = written(AuditedObject(how=How.UNCHANGED, status=Status.UNSAFE, report=None))
    assert read(text)[1] == ["unsafe", *[""] * 18, "unchanged", "", "", ""]


def test_an_object_that_was_scanned_again_since_has_both_statuses() -> None:
    report = sample.verdict("a.raw", Status.SAFE)
    text = written(AuditedObject(how=How.SCANNED, status=Status.UNSAFE, report=report))
    assert (read(text)[1][0], read(text)[1][-3]) == ("unsafe", "safe")


def test_an_object_has_its_owner_or_why_it_is_unknown() -> None:
    report = sample.verdict("a.raw", Status.SAFE)
    audited = AuditedObject(how=How.SCANNED, status=Status.SAFE, report=report)
    owned = audited.model_copy(update={"owner": "=1+1\u202e"})
    unknown = audited.model_copy(update={"owner_unknown": "denied"})

    titles, *rows = read(written(owned, unknown))

    assert titles[-2:] == ["owner", "owner_unknown"]
    assert [row[-2:] for row in rows] == [["'=1+1\\u202e", ""], ["", "denied"]]


def test_why_an_object_could_not_be_read_is_among_the_findings() -> None:
    denied = next(report for report in sample.reports() if "access_denied" in report.reasons)
    assert read_one(denied)["findings"] == "GetObject is denied; allow s3:GetObject on this key"
