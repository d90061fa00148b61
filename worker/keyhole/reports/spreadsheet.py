r"""Writes objects as CSV that is safe to open in spreadsheets and terminals.

The format follows RFC 4180: fields are separated by commas, lines by CRLF, every text is quoted, and quotes
within a text are doubled. The encoding is UTF-8 with a byte order mark, because Excel otherwise assumes
another encoding. A list becomes one cell, in which codes are separated by spaces, and sentences by
semicolons. Times are UTC, to the second.

The uploader chooses the key of an object, so a key can contain an attack. A spreadsheet treats a cell that
begins with `=`, `+`, `-` or `@` as a formula, and a formula can read files and send requests. OWASP (CSV
Injection) and ASVS 1.2.10 recommend inserting an apostrophe before these characters, and before tab, line
breaks and NUL. OWASP also warns that a separator or a quote in a text can begin a new cell. The new cell can
then begin with one of these characters. So Keyhole inserts an apostrophe

- at the beginning of a cell, if the cell begins with one of these characters, or with the full-width form of
  such a character. Spaces, quotes and invisible characters before this character make no difference, because
  a program that opens the file may drop them and then find a formula;
- within a text, after each `;`, tab and line break, if one of these characters follows. In countries with a
  decimal comma, spreadsheets begin a new cell after `;`, even within quotes.

If the text already has an apostrophe in this place, Keyhole inserts a second one: `'=1` becomes `''=1`. Then
Keyhole doubles every backslash, and replaces invisible characters by Python escapes such as `\x1b`. Invisible
characters are, for example, control characters and marks that change the direction of writing. A program can
therefore restore the original text: it decodes the escapes, and then removes one apostrophe at each of the
places listed above. JSON Lines and Parquet contain every text unchanged.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import BinaryIO, Final

from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import AuditedObject
from keyhole.reports.rows import ABOUT_AUDIT, Row, row_of, verdict_row
from keyhole.scan.report import Report

_FORMULA: Final = r"=+\-@＝＋－＠"  # noqa: RUF001 - East Asian keyboards write the full-width forms
#: White space, control characters, format characters and quotes. A program may drop these characters when it
#: opens the file, so a formula after them is dangerous, too.
_DROPPED: Final = r"\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\"'"
_DANGER: Final = re.compile(
    rf"\A(?=[{_DROPPED}]*[{_FORMULA}\t\r\n\0])|(?<=[;\t\r\n])(?=[{_DROPPED}]*[{_FORMULA}])"
)


def write_csv(objects: Iterable[AuditedObject], out: BinaryIO) -> None:
    """Write a row for each object to `out`. The columns are the fields of `Row`."""
    out.writelines(csv_lines(Row._fields, (_values(row_of(audited)) for audited in objects)))


def verdict_csv(reports: Iterable[Report]) -> Iterator[bytes]:
    """Yield a table of reports: the titles, and a line for each report.

    The columns are the fields of `Row`, without the columns about an audit.
    """
    titles = Row._fields[: -len(ABOUT_AUDIT)]
    return csv_lines(titles, (_values(verdict_row(report))[: len(titles)] for report in reports))


def csv_lines(titles: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[bytes]:
    """Yield a table in lines: a byte order mark and the titles, and then each row."""
    line = io.StringIO()
    table = csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    table.writerow(titles)
    yield codecs.BOM_UTF8 + line.getvalue().encode()
    for row in rows:
        line.seek(0)
        line.truncate()
        table.writerow([_cell(value) for value in row])
        yield line.getvalue().encode()


def _values(row: Row) -> list[object]:
    joined = row._asdict() | {
        "reasons": " ".join(row.reasons),
        "content": " ".join(row.content),
        "findings": "; ".join(row.findings),
        "waived": "; ".join(row.waived),
    }
    return list(joined.values())


def _cell(value: object) -> str | int:
    """Return the value of a cell: a number, or a text that no spreadsheet treats as a formula.

    A number in a row is a count or a size, so it is not negative. If it were negative, it would be treated
    like a text that begins with `-`.
    """
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return "" if value is None else escaped(_DANGER.sub("'", str(value)).replace("\\", r"\\"))
