"""The result of a benchmark: a table, printed as Markdown and kept as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Cell: TypeAlias = str | float | int | None


@dataclass
class Table:
    """A title, the names of the columns with their units, and rows. `None`: not measured."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row."""
        assert len(cells) == len(self.columns), cells
        self.rows.append(cells)

    def __str__(self) -> str:
        """Return the table as Markdown."""
        lines = [f"## {self.title}", "", *map(_line, (self.columns, ["---"] * len(self.columns), *self.rows))]
        return "\n".join(lines + [f"\n{note}" for note in self.notes]) + "\n"


def _line(cells: Sequence[Cell]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return "—"
    if isinstance(cell, float):
        return f"{cell:,.2f}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
