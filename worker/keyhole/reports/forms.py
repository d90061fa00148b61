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
#: The forms that can also contain a summary and hints for people.
FOR_PEOPLE: Final = frozenset({"markdown"})


def write_reports(form: str, reports: Iterable[Report], *, quiet: bool = False) -> Iterator[bytes]:
    """Yield the parts of a text in this form (a key of `WRITERS`), while the reports arrive.

    If `quiet` is true, the text has no summary and no hints.
    """
    module, name = WRITERS[form]
    write = cast("Callable[..., Iterator[bytes]]", getattr(import_module(module), name))
    return write(reports, quiet=quiet) if form in FOR_PEOPLE else write(reports)
