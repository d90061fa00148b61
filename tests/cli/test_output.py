"""The options for the output: forms, `--quiet`, `--fail-on`, and the exit codes."""

import csv
import io
import json
from pathlib import Path

import click
import pytest

from keyhole.builders import qcow2
from keyhole.cli.exit_code import exit_code
from keyhole.cli.inspect import inspect_command
from keyhole.cli.output import FORMS
from keyhole.reasons import Status
from keyhole.scan.report import Report
from tests.cli.conftest import Keyhole

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
PDF = b"%PDF-1.7\n" + b"text\n" * 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a safe image, an unsafe image and a PDF."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in {"a.qcow2": SAFE, "b.qcow2": UNSAFE, "c.pdf": PDF}.items():
        (folder / name).write_bytes(content)
    return folder


class TestForms:
    def test_json_is_one_document(self, keyhole: Keyhole, folder: Path) -> None:
        found = json.loads(keyhole("inspect", "-r", "-o", "json", folder).out)

        assert [Report.model_validate(each).status for each in found] == ["safe", "unsafe", "unrecognized"]

    def test_json_of_nothing_is_an_empty_list(self, keyhole: Keyhole, tmp_path: Path) -> None:
        printed = keyhole("inspect", "-r", "-o", "json", tmp_path)

        assert (json.loads(printed.out), printed.code) == ([], 3)

    @pytest.mark.parametrize("arguments", [("--json",), ("-o", "jsonl"), ("--json", "-o", "jsonl")])
    def test_json_lines(self, keyhole: Keyhole, folder: Path, arguments: tuple[str, ...]) -> None:
        lines = keyhole("inspect", "-r", *arguments, folder).lines

        assert [Report.model_validate_json(line).status for line in lines] == [
            *("safe", "unsafe", "unrecognized")
        ]

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ("sarf", "'sarf' is not a form of output; did you mean sarif?"),
            ("xml", "'xml' is not a form of output; choose from table, json, jsonl, csv, sarif, markdown."),
        ],
    )
    def test_a_similar_form_is_suggested(
        self, keyhole: Keyhole, folder: Path, form: str, message: str
    ) -> None:
        printed = keyhole("inspect", "-r", "-o", form, folder)

        assert (printed.code, printed.out) == (2, "")
        assert message in printed.error

    def test_csv_has_a_row_for_each_object(self, keyhole: Keyhole, folder: Path) -> None:
        text = keyhole("inspect", "-r", "-o", "csv", folder).out

        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
        assert [row["status"] for row in rows] == ["safe", "unsafe", "unrecognized"]
        assert rows[1]["reasons"] == "backing_file"
        assert "how" not in rows[0]

    def test_sarif_and_markdown(self, keyhole: Keyhole, folder: Path) -> None:
        sarif = json.loads(keyhole("inspect", "-r", "-o", "sarif", folder).out)
        markdown = keyhole("inspect", "-r", "-o", "markdown", folder).lines

        assert [result["ruleId"] for result in sarif["runs"][0]["results"]] == ["backing_file"]
        assert markdown[0].startswith("| status | reasons | ")
        assert "3 objects: 1 unsafe, 1 safe, 1 not an image" in markdown

    def test_two_forms_contradict_each_other(self, keyhole: Keyhole, folder: Path) -> None:
        printed = keyhole("inspect", "--json", "-o", "csv", folder / "a.qcow2")

        assert printed.code == 2
        assert "--json means -o jsonl, which contradicts -o csv" in printed.err

    @pytest.mark.parametrize(
        ("statuses", "listed"),
        [
            ("not-safe", ["b.qcow2", "c.pdf"]),
            ("unsafe", ["b.qcow2"]),
            ("safe, unsafe", ["a.qcow2", "b.qcow2"]),
            ("damaged", []),
        ],
    )
    def test_a_filter_lists_some_and_counts_all(
        self, keyhole: Keyhole, folder: Path, statuses: str, listed: list[str]
    ) -> None:
        table = keyhole("inspect", "-r", "--status", statuses, folder)
        lines = keyhole("inspect", "-r", "--status", statuses, "--json", folder)

        assert [line.split("/")[-1] for line in table.lines if str(folder) in line] == listed
        assert table.lines[-1].startswith("3 objects: 1 unsafe, 1 safe, 1 not an image; 3 requests, ")
        assert [json.loads(line)["target"].split("/")[-1] for line in lines.lines] == listed
        assert (table.code, lines.code) == (1, 1)

    def test_a_filter_also_decides_about_the_page_of_one_object(self, keyhole: Keyhole, folder: Path) -> None:
        unsafe = keyhole("inspect", "--status", "not-safe", folder / "b.qcow2")
        safe = keyhole("inspect", "--status", "not-safe", folder / "a.qcow2")

        assert (unsafe.code, "unsafe (backing_file)" in unsafe.out) == (1, True)
        assert (safe.code, safe.out) == (0, "")

    def test_quiet_leaves_out_the_summary(self, keyhole: Keyhole, folder: Path) -> None:
        loud, quiet = keyhole("inspect", "-r", folder), keyhole("inspect", "-r", "-q", folder)

        assert loud.lines[:-1] == quiet.lines
        assert loud.lines[-1].startswith("3 objects: 1 unsafe, 1 safe, 1 not an image; 3 requests, ")

    def test_quiet_leaves_the_summary_and_hints_out_of_markdown(self, keyhole: Keyhole, folder: Path) -> None:
        arguments = ("inspect", "-o", "markdown")
        loud = keyhole(*arguments, "-r", folder).lines
        quiet = keyhole(*arguments, "-r", "-q", folder).lines
        one = keyhole(*arguments, "-q", folder / "b.qcow2").lines

        assert loud[:5] == quiet
        assert "What the reasons mean, and what to do:" in loud
        assert [line[:16] for line in one[3:]] == ["", "- `backing_file`"]


class TestExitCodes:
    @pytest.mark.parametrize(
        ("names", "arguments", "code"),
        [
            (["a.qcow2"], (), 0),
            (["a.qcow2", "c.pdf"], ("-r",), 0),
            (["a.qcow2", "c.pdf"], (), 1),
            (["c.pdf"], (), 1),
            (["c.pdf"], ("-r",), 1),
            (["a.qcow2", "c.pdf"], ("-r", "--fail-on", "unrecognized"), 1),
            (["b.qcow2"], ("--fail-on", "damaged"), 0),
            (["b.qcow2"], ("--fail-on", "unsafe, damaged"), 1),
            (["b.qcow2"], ("--fail-on", "never"), 0),
            (["missing"], ("--fail-on", "unsafe"), 3),
            (["missing"], ("--fail-on", "unreadable"), 1),
            (["missing"], ("--fail-on", "never"), 0),
        ],
    )
    def test_the_code_is_documented(
        self, keyhole: Keyhole, folder: Path, names: list[str], arguments: tuple[str, ...], code: int
    ) -> None:
        assert keyhole("inspect", *arguments, *(folder / name for name in names)).code == code

    @pytest.mark.parametrize("wrong", ["fine", "safe", "unsafe,", "unsafe,never", ""])
    def test_what_is_no_status_is_a_usage_error(self, keyhole: Keyhole, folder: Path, wrong: str) -> None:
        printed = keyhole("inspect", "--fail-on", wrong, folder / "a.qcow2")

        assert printed.code == 2
        assert "is not a status that can fail; choose from damaged, failed, " in " ".join(printed.err.split())

    @pytest.mark.parametrize("wrong", ["fine", "unsafe,", "unsafe,not-safe", ""])
    def test_what_is_no_status_is_no_filter(self, keyhole: Keyhole, folder: Path, wrong: str) -> None:
        printed = keyhole("inspect", "--status", wrong, folder / "a.qcow2")

        assert printed.code == 2
        assert "is not a status; choose from damaged, failed, " in " ".join(printed.err.split())
        assert "or use not-safe" in " ".join(printed.err.split())

    def test_an_unknown_format_is_not_overlooked(self) -> None:
        """Only objects that are certainly not images do not count."""
        counts = {Status.SAFE: 3, Status.UNRECOGNIZED: 2}

        assert exit_code(counts, not_images=2) == 0
        assert exit_code(counts, not_images=1) == 1


@pytest.mark.parametrize(
    ("begun", "completed"),
    [
        ("un", ["unreadable", "unrecognized", "unsafe"]),
        ("n", ["never"]),
        ("unsafe,d", ["unsafe,damaged"]),
        ("unsafe,uns", []),
    ],
)
def test_the_shell_completes_statuses(begun: str, completed: list[str]) -> None:
    (option,) = [option for option in inspect_command.params if option.name == "fail_on"]
    with click.Context(inspect_command) as context:
        assert [item.value for item in option.shell_complete(context, begun)] == completed


def test_the_forms_are_in_the_help(keyhole: Keyhole) -> None:
    for command in ("inspect", "results", "show", "submit"):
        assert "|".join(FORMS) in keyhole(command, "--help").out
