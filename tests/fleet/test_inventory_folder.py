"""The folder of inventories: a worker that ends or cleans up removes nothing that other workers need."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyhole.fleet.inventory_folder import FORGOTTEN_SECONDS, SharedFolder, forget_inventories
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def audit(state: AuditState, *, listed_all: bool = False) -> Audit:
    spec = AuditSpec(bucket="images")
    return Audit(id="an-audit", spec=spec, state=state, started_at=BEGAN, listed_all=listed_all)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inventories"


def test_the_last_worker_that_ends_removes_the_folder(path: Path) -> None:
    first, second = SharedFolder(path), SharedFolder(path)
    first.hold()
    second.hold()
    before = path.stat().st_ino

    first.release()

    assert path.stat().st_ino == before
    second.release()
    assert not path.exists()


def test_a_folder_with_files_remains(path: Path) -> None:
    folder = SharedFolder(path)
    folder.hold()
    (path / "an-audit").mkdir()

    folder.release()

    assert path.is_dir()


def test_a_worker_that_begins_while_another_ends_holds_the_folder_that_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, beginning = SharedFolder(path), SharedFolder(path)
    ending.hold()
    opened: list[int] = []
    really_open = os.open

    def open_and_end_the_other(*arguments: object) -> int:
        opened.append(really_open(*arguments))  # type: ignore[arg-type]
        ending.release()
        return opened[-1]

    monkeypatch.setattr("keyhole.fleet.inventory_folder.os.open", open_and_end_the_other)

    beginning.hold()

    assert len(opened) == 2
    assert os.path.samestat(os.fstat(opened[-1]), path.stat())
    beginning.release()


def test_the_mode_of_the_folder_is_private(path: Path) -> None:
    folder = SharedFolder(path)
    folder.hold()

    assert path.stat().st_mode & 0o777 == 0o700
    folder.release()


@pytest.mark.parametrize(
    ("of", "unused_seconds", "remains"),
    [
        pytest.param(lambda _: audit(AuditState.RUNNING), 2 * FORGOTTEN_SECONDS, True, id="running"),
        pytest.param(lambda _: audit(AuditState.RUNNING, listed_all=True), 0, False, id="listed"),
        pytest.param(lambda _: audit(AuditState.DONE), 0, False, id="ended"),
        pytest.param(lambda _: None, 0, True, id="of another Redis"),
        pytest.param(lambda _: None, FORGOTTEN_SECONDS + 60, False, id="forgotten"),
    ],
)
def test_only_folders_that_nobody_needs_are_removed(
    path: Path, of: Callable[[str], Audit | None], unused_seconds: float, remains: bool
) -> None:
    (path / "an-audit").mkdir(parents=True)
    file = path / "an-audit" / "part.arrow"
    file.touch()
    used = time.time() - unused_seconds
    for one in (file, file.parent):
        os.utime(one, (used, used))

    forget_inventories(path, of)

    assert file.exists() is remains
