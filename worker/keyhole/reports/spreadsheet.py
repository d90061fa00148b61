r"""An audit's objects as CSV. No key can become a formula in a spreadsheet or a control code in a terminal.

The format is RFC 4180: commas, CRLF, quotes around every text, quotes within a text doubled. The encoding is
UTF-8 with a byte order mark, without which Excel assumes another encoding. Lists are joined: codes by spaces,
sentences by semicolons. Times are UTC, to the second.

Spreadsheets treat a cell that begins with `=`, `+`, `-` or `@` as a formula, and formulas read files and send
requests. OWASP (CSV Injection) and ASVS 1.2.10 advise an apostrophe before these characters, before tab, line
breaks and NUL, and care with separators and quotes. So Keyhole inserts an apostrophe

- at the front of a cell that begins with one of these, full width or not, even after characters that a reader
  may drop: spaces, quotes, invisible characters;
- within a text, after each `;`, tab and line break that one of these follows. Where the comma is the decimal
  separator, spreadsheets split lines at `;` and ignore our quotes.

A text that already looks marked is marked again. Then invisible characters (controls, marks that change the
direction of writing, and others) become Python's escapes such as `\x1b`, and a backslash becomes two. So the
text can be restored: read the escapes, then remove one apostrophe from each such place. JSON Lines and
Parquet are for programs and hold every text unchanged.
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
#: White space, control, format and quote characters, which a reader may drop.
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
    """Return a number, or a text that no spreadsheet treats as a formula.

    Our numbers are counts, so none is negative. A negative one would be marked like a text.
    """
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return "" if value is None else escaped(_DANGER.sub("'", str(value)).replace("\\", r"\\"))
