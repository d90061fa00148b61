"""`keyhole explain`: statuses and reasons, what they mean, and what to do."""

from pathlib import Path

import pytest

from keyhole.builders import qcow2
from keyhole.inspectors.findings import CHECKS
from keyhole.reasons import STATUSES, Reason, Status
from keyhole.remedies import ISOLATION, REMEDIES, what_to_do
from tests.cli.conftest import Keyhole
from tests.cli.terminal import terminal

CODES = [*STATUSES, *CHECKS, *Reason]


def test_alone_it_lists_every_code_in_one_line(keyhole: Keyhole) -> None:
    done = keyhole("explain")

    assert done.code == 0
    assert [line.split()[0] for line in done.lines if line.startswith("  ")] == CODES


def test_every_code_is_explained_with_its_commands(keyhole: Keyhole) -> None:
    done = keyhole("explain", *CODES)
    flowing = " ".join(done.out.split())

    assert done.code == 0
    for code in CODES:
        assert f"What to do: {what_to_do(code)}." in flowing
    for remedy in REMEDIES.values():
        assert remedy.repair in flowing
        for repair in remedy.repairs:
            assert all(f"  {command}\n" in done.out for command in repair.commands)
    assert ISOLATION in flowing
    assert max(len(line) for line in done.lines if "qemu-img" not in line and "aws" not in line) <= 100


def test_a_status_lists_its_reasons(keyhole: Keyhole) -> None:
    flowing = " ".join(keyhole("explain", "unsafe").out.split())

    assert "Reasons: backing_file, data_file, parent_image," in flowing
    assert keyhole("explain", "safe").out.rstrip().endswith("Reasons: none.")


def test_upper_case_and_hyphens_are_understood(keyhole: Keyhole) -> None:
    assert keyhole("explain", "Backing-File").out == keyhole("explain", "backing_file").out


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("backingfile", "did you mean backing_file?"),
        ("unsave", "did you mean unsafe or safe?"),
        ("s3://images/debian.qcow2", "`keyhole show` explains a verdict, `keyhole inspect` scans an object"),
        ("\x1b[31m", "`keyhole explain` lists all codes"),
    ],
)
def test_a_wrong_code_is_an_error_with_a_hint_before_anything_is_printed(
    keyhole: Keyhole, wrong: str, hint: str
) -> None:
    done = keyhole("explain", "safe", wrong)

    assert (done.code, done.out) == (2, "")
    assert done.error.endswith(hint)
    assert done.error.isprintable()


def test_on_a_terminal_the_list_is_wrapped_under_the_meanings(env: dict[str, str]) -> None:
    with terminal("explain", env=env) as screen:
        assert screen.ended() == 0

    assert max(map(len, screen.text.splitlines())) <= 80


def test_the_page_of_an_object_tells_what_to_do_about_each_reason(keyhole: Keyhole, tmp_path: Path) -> None:
    qcow2(1 << 30, backing_file="/etc/shadow", encryption=1).write_to(tmp_path / "a.qcow2")

    flowing = " ".join(keyhole("inspect", tmp_path / "a.qcow2").out.split())

    assert f"what to do backing_file: {what_to_do('backing_file')}" in flowing
    assert f"encrypted: {what_to_do('encrypted')}" in flowing
    assert "more: keyhole explain backing_file encrypted" in flowing


def test_a_safe_object_needs_no_advice(keyhole: Keyhole, tmp_path: Path) -> None:
    qcow2(1 << 30, snapshots=1).write_to(tmp_path / "a.qcow2")

    done = keyhole("inspect", tmp_path / "a.qcow2")

    assert done.code == 0
    assert "what to do" not in done.out
    assert Status.SAFE in done.out


@pytest.mark.parametrize("columns", ["0", "1", "4", "9"])
def test_a_terminal_can_be_narrower_than_the_indentation(keyhole: Keyhole, columns: str) -> None:
    printed = keyhole("explain", "damaged", "backing_file", COLUMNS=columns)

    assert printed.code == 0
