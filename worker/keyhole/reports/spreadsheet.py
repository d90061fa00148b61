r"""An audit's objects as CSV: whatever a key says, no cell is a formula, and nothing commands a terminal.

RFC 4180: commas, CRLF, quotes around every text, quotes in it doubled. UTF-8 with a byte order mark, without
which Excel takes it for another encoding. Lists are joined: codes by spaces, sentences by semicolons. Times
are UTC, to the second.

A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-` or `@`, and formulas read files and
call addresses. OWASP (CSV Injection) and ASVS 1.2.10 advise an apostrophe before these, before tab, line
breaks and NUL, and an eye on separators and quotes. So an apostrophe stands

- in front of a cell that begins with one of these, full width or not, behind whatever a reader may drop:
  spaces, quotes, invisible characters;
- in a text, behind each `;`, tab and line break that one of these follows. Where a comma is the decimal
  separator, a spreadsheet splits lines at `;`, and our quotes protect nothing.

A text that would read as a marked one is marked itself. After that, what cannot be seen (control characters,
marks that turn the direction of writing, and the like) becomes an escape as Python writes them, `\x1b`, and
a backslash becomes two. So nothing is lost: with the escapes read, one apostrophe less in each such place is
the text again. JSON Lines and Parquet, which are for programs, hold every text as it is.
"""

import codecs
import csv
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import BinaryIO, Final

from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import AuditedObject
from keyhole.reports.rows import Row, row_of

_FORMULA: Final = r"=+\-@＝＋－＠"  # noqa: RUF001 - full width, as East Asian keyboards write them
#: White space, control, format and quote characters: a reader may take them away.
_DROPPED: Final = r"\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\"'"
_DANGER: Final = re.compile(
    rf"\A(?=[{_DROPPED}]*[{_FORMULA}\t\r\n\0])|(?<=[;\t\r\n])(?=[{_DROPPED}]*[{_FORMULA}])"
)


def write_csv(objects: Iterable[AuditedObject], out: BinaryIO) -> None:
    """Write a row for each object; the columns are the fields of `Row`."""
    text = codecs.getwriter("utf-8-sig")(out)
    table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    table.writerow(Row._fields)
    table.writerows(_cells(row_of(audited)) for audited in objects)


def _cells(row: Row) -> list[str | int]:
    joined = row._asdict() | {
        "reasons": " ".join(row.reasons),
        "content": " ".join(row.content),
        "findings": "; ".join(row.findings),
    }
    return [_cell(value) for value in joined.values()]


def _cell(value: object) -> str | int:
    """A number, or text that no spreadsheet takes for anything else.

    Our numbers count something, so none is negative; one that were, however it came here, would be defused.
    """
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return "" if value is None else escaped(_DANGER.sub("'", str(value)).replace("\\", r"\\"))
