"""Shells complete commands, options and files with the script that `keyhole completion` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from keyhole.cli import keyhole as keyhole_command
from tests.cli.conftest import Keyhole
from tests.e2e.commands import PATIENCE
from tests.tools import need

#: What a user has typed before Tab, and one of the words that the shell then offers.
TYPED = [("keyhole insp", "inspect"), ("keyhole inspect --js", "--json"), ("keyhole inspect dis", "disk.img")]

#: The option with which a shell does not read the files of its user.
WITHOUT_CONFIGURATION = {"bash": "--norc", "fish": "--no-config", "zsh": "-f"}


@pytest.fixture
def env(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment in which `keyhole` is on the PATH, and a folder with one file."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "keyhole").write_text(f'#!/bin/sh\nexec {sys.executable} -m keyhole "$@"\n')
    (programs / "keyhole").chmod(0o755)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "disk.img").write_bytes(b"")
    return env | {"PATH": f"{programs}:{env.get('PATH', os.defpath)}", "HOME": str(tmp_path)}


def offered(shell: str, script: str, env: dict[str, str], folder: Path) -> list[str]:
    """The words that a script of a shell prints."""
    need(shell)
    done = subprocess.run(
        [
            str(shutil.which(shell)),
            *(["--no-config"] if shell == "fish" else ["-f"] if shell == "zsh" else []),
        ],
        input=script,
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_bash(env: dict[str, str], tmp_path: Path, typed: str, word: str) -> None:
    """Bash calls the function with the words in COMP_WORDS, and takes the answer from COMPREPLY."""
    words = typed.split()
    script = f"""
        eval "$(keyhole completion bash)"
        compopt() {{ [[ "$2" == default ]] && COMPREPLY+=($(compgen -f -- {words[-1]})); }}
        COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}
        function=$(complete -p keyhole | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        "$function" keyhole {words[-1]} {words[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """

    assert word in offered("bash", script, env, tmp_path / "folder")


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_fish(env: dict[str, str], tmp_path: Path, typed: str, word: str) -> None:
    script = f"keyhole completion fish | source\ncomplete --do-complete '{typed}'\n"

    assert word in offered("fish", script, env, tmp_path / "folder")


@pytest.mark.parametrize(("typed", "word"), TYPED[:2])
def test_zsh(env: dict[str, str], tmp_path: Path, typed: str, word: str) -> None:
    """The functions that would show the words print them."""
    words = typed.split()
    script = f"""
        autoload -U compinit && compinit -u -D
        eval "$(keyhole completion zsh)"
        _describe() {{ print -l -- "${{(@P)argv[-1]}}" "${{(@P)argv[-2]}}" }}
        compadd() {{ print -l -- "$@" }}
        words=({typed}); CURRENT={len(words)}
        "$_comps[keyhole]"
    """

    assert word in " ".join(offered("zsh", script, env, tmp_path / "folder")).replace(":", " ").split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_of_the_user_is_the_default(keyhole: Keyhole, shell: str) -> None:
    assert keyhole("completion", SHELL=f"/usr/bin/{shell}").out == keyhole("completion", shell).out != ""


@pytest.mark.parametrize("shell", ["", "/bin/tcsh"])
def test_another_shell_is_told_which_there_are(keyhole: Keyhole, shell: str) -> None:
    printed = keyhole("completion", SHELL=shell)

    assert (printed.code, printed.error) == (
        2,
        "which shell? write one of: keyhole completion bash, zsh, fish",
    )


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["inspect", "--policy", "op"], ["openstack"]),
        (["policy", "show", "op"], ["openstack"]),
        (["docs", "sett"], ["settings"]),
        (["results", "--format", "vhd"], ["vhdx", "vhd"]),
        (["results", "--reason", "truncat"], ["truncated", "truncated_body"]),
        (["report", "-o", "pa"], ["parquet"]),
    ],
)
def test_names_are_offered(words: list[str], offers: list[str]) -> None:
    complete = ShellComplete(keyhole_command, {}, "keyhole", "_KEYHOLE_COMPLETE")

    offered = complete.get_completions(words[:-1], words[-1])

    assert [item.value for item in offered] == offers
    assert {item.type for item in offered} == {"plain"}


def test_a_policy_that_is_no_profile_is_a_file() -> None:
    complete = ShellComplete(keyhole_command, {}, "keyhole", "_KEYHOLE_COMPLETE")

    (item,) = complete.get_completions(["inspect", "--policy"], "my-rules")

    assert item.type == "file"
