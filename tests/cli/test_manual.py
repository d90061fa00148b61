"""The manual page agrees with the help texts, and renders without warnings."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from keyhole.cli import COMMANDS
from keyhole.settings import Settings
from tests.pages import ROOT
from tests.tools import need

PAGE = ROOT / "deploy" / "man" / "keyhole.1"


def rendered(*command: str | Path) -> str:
    """The output of a program, which must not print warnings."""
    done = subprocess.run(
        command,
        env=os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_is_what_the_script_makes_of_the_help_texts() -> None:
    made = rendered(sys.executable, ROOT / "deploy" / "man" / "make.py")

    assert made == PAGE.read_text(encoding="ascii"), "run: python deploy/man/make.py > deploy/man/keyhole.1"


def test_man_shows_every_command_and_setting() -> None:
    need("man")
    text = rendered("man", "--warnings", "-l", PAGE)

    for name in COMMANDS:
        assert f"\n   keyhole {name}\n" in text
    for name in Settings.model_fields:
        assert f"KEYHOLE_{name.upper()}" in text


def test_mandoc_has_no_warning() -> None:
    need("mandoc")

    assert rendered("mandoc", "-T", "lint", "-W", "warning", PAGE) == ""


@pytest.mark.parametrize("text", [".so /etc/passwd", "'br", "a\\fBb", "C:\\new", "\u202eüber", "~^-"])
def test_no_text_becomes_a_command_of_roff(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mandoc")
    monkeypatch.syspath_prepend(ROOT / "deploy" / "man")
    import make

    @click.command("x", help=f"{text}\n\n\b\n{text}")
    def command() -> None:
        pass

    with click.Context(command) as context:
        lines = make._command(command, "x", context)
        page = tmp_path / "x.1"
        page.write_text("\n".join([".TH X 1 2026-01-01", ".SH NAME", "x \\- y", ".SH COMMANDS", *lines]))

    shown = rendered("mandoc", "-T", "utf8", page)
    assert shown.count(text) == 2
