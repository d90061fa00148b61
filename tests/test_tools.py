"""Commands of external tools: which failures are repeated."""

from pathlib import Path

import pytest

from tests.tools import ATTEMPTS, NOT_MEASURED, completed

#: Counts its calls in a file, and fails with a message until the call with a given number.
FAILS = """
echo call >>calls
[ "$(wc -l <calls)" -ge "$1" ] || { echo "$2" >&2; exit 1; }
"""


def calls(folder: Path, succeeds_at: int, message: str) -> tuple[int, int]:
    """The exit code of a command that fails before the call with this number, and how often it was called."""
    done = completed(["sh", "-c", FAILS, "sh", str(succeeds_at), message], folder)
    return done.returncode, len((folder / "calls").read_text().splitlines())


@pytest.mark.parametrize("succeeds_at", [1, 2, ATTEMPTS])
def test_a_key_derivation_that_qemu_could_not_measure_is_repeated(tmp_path: Path, succeeds_at: int) -> None:
    assert calls(tmp_path, succeeds_at, f"qemu-img: {NOT_MEASURED}") == (0, succeeds_at)


def test_it_is_not_repeated_for_ever(tmp_path: Path) -> None:
    assert calls(tmp_path, ATTEMPTS + 1, f"qemu-img: {NOT_MEASURED}") == (1, ATTEMPTS)


def test_other_failures_are_not_repeated(tmp_path: Path) -> None:
    assert calls(tmp_path, 2, "qemu-img: no such file") == (1, 1)
