"""Prints verdicts as a table, one row per object, while they arrive.

The reasons have the last column before the name. They are never cut in a pipe or a file, so a row with many
reasons can be wider than the others; then only its name moves right.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from keyhole.cli.render import STYLES
from keyhole.cli.table import GAP, Column, Table, codes_below, codes_within, used
from keyhole.inspectors.text import escaped
from keyhole.reports.figures import share, size
from keyhole.reports.owned import owner_cell
from keyhole.results.owner import Owner
from keyhole.scan.report import Report

#: On a terminal with at least this many columns, the reasons have a column. On a narrower terminal, they are
#: below the row.
REASONS_FROM: Final = 110
#: On a terminal with at least this many columns, the table shows the cost of each scan.
COSTS_FROM: Final = 132
#: On a terminal, the formats have their variants if this many characters are left for the names.
NAMES_FROM: Final = 30
#: The reasons that can depend on the variant of a format. Below a row, the variant follows these reasons.
ABOUT_VARIANTS: Final = frozenset({"banned_format", "unsupported_subformat"})
#: Below a row, a format with its variant has at most this many characters.
LONGEST_FORMAT: Final = 40
_REASONS: Final = 24
_OWNER: Final = 16
#: In a pipe or a file, the column of reasons has room for two long codes, and the column of formats for the
#: usual variants of VMDK.
_WHOLE_REASONS: Final = 40
_WHOLE_FORMAT: Final = 28


def share_read(report: Report) -> str:
    """Return the share of the object that was read: at most 100 %, even if parts were read twice."""
    whole = report.size or 0
    return share(min(report.bytes_read, whole), whole)


class _Field(NamedTuple):
    """A column and its content."""

    column: Column
    text: Callable[[Report], str]


_SIZE = _Field(Column("size", 8, right=True), lambda report: size(report.size))
_FORMAT = _Field(Column("format", 9), lambda report: report.format or "-")
_VARIANT = _Field(Column("format", 22), lambda report: escaped(report.image_format) or "-")
_WHOLE_VARIANT = _VARIANT._replace(column=Column("format", _WHOLE_FORMAT))
_VIRTUAL = _Field(Column("virtual", 8, right=True), lambda report: size(report.virtual_size))
_SCANNED = _Field(Column("scanned, UTC", 16), lambda report: f"{report.scanned_at:%Y-%m-%d %H:%M}")
_SCANNED_SHORT = _Field(Column("UTC", 11), lambda report: f"{report.scanned_at:%m-%d %H:%M}")
_COSTS = (
    _Field(Column("GETs", 4, right=True), lambda report: str(report.requests)),
    _Field(Column("read", 8, right=True), lambda report: size(report.bytes_read)),
    _Field(Column("share", 6, right=True), share_read),
)


class VerdictTable:
    """A table of verdicts on a console."""

    def __init__(
        self,
        console: Console,
        *,
        wide: bool,
        costs: bool = True,
        scanned: bool = False,
        owners: bool = False,
    ) -> None:
        """Choose the columns.

        Args:
            console: The console. If it is not a terminal, every row is one line with whole names.
            wide: Whether to show all columns and whole names on a terminal, too.
            costs: Whether to show what each scan has cost, if there is room.
            scanned: Whether to show when each object was scanned.
            owners: Whether to show the owner of each object.
        """
        whole = wide or not console.is_terminal
        width = console.width
        self._below = not whole and width < REASONS_FROM
        self._width = width
        self._owners = owners
        fields = [_FORMAT, _VIRTUAL] if self._below and scanned else [_FORMAT, _SIZE, _VIRTUAL]
        if scanned:
            fields.insert(0, _SCANNED_SHORT if self._below else _SCANNED)
        if costs and (whole or width >= COSTS_FROM):
            fields += _COSTS
        self._whole = whole
        variant = _WHOLE_VARIANT if whole else _VARIANT
        with_variants = [variant if field is _FORMAT else field for field in fields]
        if not self._below and (whole or width - used(self._columns(with_variants)) >= NAMES_FROM):
            fields = with_variants
        self._fields = fields
        self._table = Table(console, self._columns(fields), "object", whole=whole)

    def row(self, report: Report, owner: Owner | None = None) -> None:
        """Print the row of a report, with the owner of its object if the table shows owners."""
        cells: list[Text | str] = [Text(report.status.value, style=STYLES[report.status])]
        for field in self._fields:
            text = field.text(report)
            cells.append(_cut(text, field.column.width) if field is _VARIANT else text)
        below = ""
        if self._below:
            below = codes_below([_with_variant(code, report) for code in report.shown_marks], self._width)
        elif self._whole:
            cells.append(", ".join(report.shown_marks))
        else:
            cells.append(codes_within(report.shown_marks, _REASONS))
        if self._owners:
            cell = owner_cell(owner or Owner())
            if self._below:
                below += ("\n" if below else "") + _cut(f"  owner: {cell}", self._width)
            else:
                cells.append(cell if self._whole else _cut(cell, _OWNER))
        self._table.row(cells, report.target, below)

    def _columns(self, fields: Sequence[_Field]) -> list[Column]:
        """Return the columns of a table with these fields."""
        columns = [Column("status", 12), *(field.column for field in fields)]
        if not self._below:
            columns.append(Column("reasons", _WHOLE_REASONS if self._whole else _REASONS))
            if self._owners:
                columns.append(Column("owner", _OWNER))
        return columns


def _with_variant(code: str, report: Report) -> str:
    """Return a reason, with the format in its variant if the reason can depend on the variant."""
    if code not in ABOUT_VARIANTS or not report.subformat:
        return code
    return f"{code}: {_cut(escaped(report.image_format), LONGEST_FORMAT)}"


def _cut(text: str, width: int) -> str:
    """Return a text without its end if it is wider than `width`."""
    return text if cell_len(text) <= width else set_cell_size(text, width - len(GAP)).rstrip() + GAP
