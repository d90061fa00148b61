"""Writes reports in each form that programs read. The table for people is part of the command."""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Final, cast

from keyhole.scan.report import Report

#: For each form, the module and the name of the function that writes it. A module is imported only if it is
#: used, because scripts call `keyhole inspect --json` often.
WRITERS: Final = {
    "json": ("keyhole.reports.json_document", "json_array"),
    "jsonl": ("keyhole.reports.json_document", "json_lines"),
    "csv": ("keyhole.reports.spreadsheet", "verdict_csv"),
    "sarif": ("keyhole.reports.sarif", "write_sarif"),
    "markdown": ("keyhole.reports.markdown", "write_markdown"),
}


def write_reports(form: str, reports: Iterable[Report]) -> Iterator[bytes]:
    """Yield the parts of a text in this form (a key of `WRITERS`), while the reports arrive."""
    module, name = WRITERS[form]
    write = cast("Callable[[Iterable[Report]], Iterator[bytes]]", getattr(import_module(module), name))
    return write(reports)
