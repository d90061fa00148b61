"""Prints verdicts as a table, one row per object, while they arrive."""

from collections.abc import Callable
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

from keyhole.cli.render import STYLES
from keyhole.cli.table import Column, Table, codes_below, codes_within
from keyhole.reasons import Status
from keyhole.reports.figures import share, size
from keyhole.scan.report import Report

#: On a terminal with at least this many columns, the reasons have a column. On a narrower terminal, they are
#: below the row.
REASONS_FROM: Final = 110
#: On a terminal with at least this many columns, the table shows the cost of each scan.
COSTS_FROM: Final = 132
_REASONS: Final = 24
_WHOLE_REASONS: Final = 30


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

    def __init__(self, console: Console, *, wide: bool, costs: bool = True, scanned: bool = False) -> None:
        """Choose the columns.

        Args:
            console: The console. If it is not a terminal, every row is one line with whole names.
            wide: Whether to show all columns and whole names on a terminal, too.
            costs: Whether to show what each scan has cost, if there is room.
            scanned: Whether to show when each object was scanned.
        """
        whole = wide or not console.is_terminal
        width = console.width
        self._below = not whole and width < REASONS_FROM
        self._width = width
        fields = [_FORMAT, _VIRTUAL] if self._below and scanned else [_FORMAT, _SIZE, _VIRTUAL]
        if scanned:
            fields.insert(0, _SCANNED_SHORT if self._below else _SCANNED)
        if costs and (whole or width >= COSTS_FROM):
            fields += _COSTS
        self._fields = fields
        self._whole = whole
        columns = [Column("status", 12)]
        if not self._below:
            columns.append(Column("reasons", _WHOLE_REASONS if whole else _REASONS))
        columns += [field.column for field in fields]
        self._table = Table(console, columns, "object", whole=whole)

    def row(self, report: Report, status: Status | None = None) -> None:
        """Print the row of a report. `status` replaces the status of the report."""
        status = status or report.status
        cells: list[Text | str] = [Text(status.value, style=STYLES[status])]
        below = ""
        if self._below:
            below = codes_below(report.marks, self._width)
        elif self._whole:
            cells.append(", ".join(report.marks))
        else:
            cells.append(codes_within(report.marks, _REASONS))
        cells += [field.text(report) for field in self._fields]
        self._table.row(cells, report.target, below)
