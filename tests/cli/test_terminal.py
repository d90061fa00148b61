"""The command on a terminal, and with a reader that closes the pipe early."""

import subprocess
from pathlib import Path

import pytest

from keyhole.builders import qcow2
from tests.cli.terminal import on_a_terminal, terminal
from tests.e2e import commands
from tests.slow import slow

UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with so many images that their reports do not fit into a pipe."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number}.qcow2").write_bytes(UNSAFE)
    return folder


@pytest.mark.slow
def test_colours_are_for_terminals(folder: Path, env: dict[str, str]) -> None:
    env |= {"TERM": "xterm-256color"}
    image = folder / "0.qcow2"

    assert "\x1b[1;31munsafe" in on_a_terminal("inspect", image, env=env)
    assert "\x1b" not in commands.keyhole("inspect", image, env=env).stdout.decode()


@pytest.mark.slow
def test_rows_appear_above_a_line_of_progress(folder: Path, env: dict[str, str]) -> None:
    with terminal("inspect", "-r", folder, env=env) as screen:
        assert screen.ended() == 1

    assert "scanning" in screen.printed
    rows = [line for line in screen.text.splitlines() if line.startswith("unsafe ")]
    assert len(rows) == 150
    assert {len(row.rstrip()) for row in rows} <= set(range(81))
    assert "150 objects: 150 unsafe; " in screen.text


@pytest.mark.slow
def test_quiet_shows_no_progress(folder: Path, env: dict[str, str]) -> None:
    with terminal("inspect", "-r", "-q", folder, env=env) as screen:
        assert screen.ended() == 1

    assert "scanning" not in screen.printed
    assert "150 objects" not in screen.text


@pytest.mark.slow
def test_whoever_wants_no_colours_gets_none(folder: Path, env: dict[str, str]) -> None:
    env |= {"TERM": "xterm-256color", "NO_COLOR": "1"}

    assert "\x1b[1;31m" not in on_a_terminal("inspect", folder / "0.qcow2", env=env)


@pytest.mark.parametrize("arguments", [("--json",), slow(())])
def test_a_reader_that_has_seen_enough_is_no_error(
    folder: Path, env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    """An example is `keyhole inspect … | head -1`."""
    with subprocess.Popen(
        [*commands.KEYHOLE, "inspect", "-r", *arguments, folder],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
        process.wait(commands.PATIENCE)

    assert complaints == b""
    assert process.returncode == 1


def test_standard_input_is_a_pipe(env: dict[str, str]) -> None:
    done = commands.keyhole("inspect", "-", env=env, stdin=UNSAFE)

    assert (done.returncode, done.stderr) == (1, b"")
    assert "unsafe (backing_file)" in done.stdout.decode()


@pytest.mark.slow
def test_help_names_every_command(env: dict[str, str]) -> None:
    done = commands.keyhole("--help", env=env)

    assert done.returncode == 0
    for command in ("demo", "doctor", "inspect", "results", "show", "submit", "worker"):
        assert f"\n  {command} " in done.stdout.decode()


@pytest.mark.slow
def test_a_worker_takes_no_unknown_queue(env: dict[str, str]) -> None:
    done = commands.keyhole("worker", "--queue", "keyhole.job", env=env)

    assert done.returncode == 2
    assert "keyhole.jobs" in done.stderr.decode()


def test_a_key_that_is_no_text_is_an_error_in_one_line(env: dict[str, str]) -> None:
    """A shell's arguments need not be UTF-8, but S3's keys are."""
    done = subprocess.run(
        [*commands.KEYHOLE, "inspect", b"s3://bucket/\xff"], env=env, capture_output=True, check=False
    )

    (line,) = commands.lines(done.stderr)
    assert line.startswith("Error: ")
    assert done.returncode == 2


@pytest.mark.slow
def test_a_command_that_takes_long_says_so_on_a_terminal_alone(env: dict[str, str]) -> None:
    assert "checking …" in on_a_terminal("doctor", env=env | {"TERM": "xterm-256color"})
    assert commands.keyhole("doctor", env=env).stderr == b""
