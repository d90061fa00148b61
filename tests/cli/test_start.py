"""Imports of a command before it answers: people wait for it, and scripts call it often."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

import keyhole.inspectors
from keyhole.builders import qcow2
from keyhole.cli import COMMANDS
from keyhole.cli import keyhole as group
from tests.e2e.commands import PATIENCE

#: Libraries whose import needs at least 0.1 s of CPU time.
HEAVY = {
    *("boto3", "botocore", "celery", "kombu", "pydantic"),
    *("pydantic_settings", "redis", "rich", "structlog"),
}
#: The most modules that `inspect FILE` may import. On Python 3.11 it imports 444, and 388 with --json.
MOST_MODULES, MOST_FOR_JSON = 450, 395
#: Runs the command, and prints the imported modules.
RUN = """
import sys
from keyhole.__main__ import main
sys.argv[0] = "keyhole"
try:
    main()
finally:
    print("\\nIMPORTED", *sys.modules)
"""


def imported_by(*args: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    return run(*args)[1]


def run(*args: str) -> tuple[str, set[str]]:
    """The output of a command, and the modules that it has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *args], capture_output=True, check=True, text=True, timeout=PATIENCE
    )
    output, _, imported = done.stdout.partition("\nIMPORTED ")
    return output, set(imported.split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_need_no_library_but_click(option: str) -> None:
    imported = imported_by(option)

    assert imported & HEAVY == set()
    assert not [name for name in imported if name.startswith("keyhole.inspectors.formats")]
    assert "click" in imported


def test_a_file_is_inspected_without_the_clients_of_s3_and_redis(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2(1 << 20).to_bytes())

    imported = imported_by("inspect", str(image))

    assert imported & HEAVY == {"pydantic", "rich"}
    assert len(imported) <= MOST_MODULES
    assert imported & {"obstore", "stamina", "keyhole.tasks", "keyhole.app"} == set()
    # Libraries that inspectors of other formats need, and parts of rich for other output.
    assert imported & {"ssl", "lz4", "backports", "xml", "google_crc32c", "puremagic"} == set()
    assert imported & {"rich.progress", "rich._emoji_codes"} == set()
    # Modules for other settings than the default ones, for many targets, for suggestions, and for compressed
    # objects.
    assert imported & {"keyhole.jobs.signatures", "keyhole.intake.audits.prices"} == set()
    assert imported & {"concurrent.futures", "difflib", "json", "keyhole.intake", "keyhole.jobs.job"} == set()
    assert not [name for name in imported if name.startswith("keyhole.inspectors.compression.insp")]


def test_an_object_on_a_web_server_needs_no_client_of_s3() -> None:
    code = "import sys, keyhole.sources.https; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert "urllib3" in done.stdout.split()
    assert {"boto3", "botocore", "obstore", "pydantic"} & set(done.stdout.split()) == set()


def test_a_process_can_import_all_modules_before_it_is_confined() -> None:
    code = "import sys; from keyhole.api import import_all; import_all(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert {"defusedxml.ElementTree", "google_crc32c", "lz4", "puremagic"} <= set(done.stdout.split())


def test_a_report_in_json_needs_no_library_for_tables(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2(1 << 20).to_bytes())

    imported = imported_by("inspect", "--json", str(image))

    assert imported & {*HEAVY, "humanize"} == {"pydantic"}
    assert len(imported) <= MOST_FOR_JSON


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("keyhole ins", "plain,inspect"),
        ("keyhole ", "plain,audit"),
        ("keyhole inspect --js", "plain,--json"),
        ("keyhole inspect --policy az", "plain,azure\n"),
        ("keyhole docs trac", "plain,traces\n"),
        ("keyhole explain safe unre", "plain,unreadable\nplain,unrecognized\nplain,unreadable_file\n"),
    ],
)
def test_a_completion_imports_nothing_that_only_scans_need(
    monkeypatch: pytest.MonkeyPatch, words: str, answer: str
) -> None:
    monkeypatch.setenv("_KEYHOLE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))

    output, imported = run()

    assert output.startswith(answer)
    assert imported & HEAVY == set()
    assert "keyhole.api" not in imported


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_commands_has_the_first_sentence_of_each(name: str) -> None:
    with click.Context(group) as context:
        command = group.get_command(context, name)

    assert command is not None
    assert COMMANDS[name].help == command.get_short_help_str(limit=1000)


def test_the_public_names_of_the_inspectors_are_found() -> None:
    public = keyhole.inspectors
    code = "from keyhole.inspectors import *; print(*sorted(name for name in dir() if name[0] != '_'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert done.stdout.split() == sorted(public.__all__)
    assert set(public._HOMES) == set(public.__all__) < set(dir(public))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = public.Nothing  # type: ignore[attr-defined]
