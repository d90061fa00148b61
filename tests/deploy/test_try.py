"""The trial of a deployment, with processes of this machine instead of containers."""

import os
import sys
from pathlib import Path

import pytest

from tests.e2e import commands
from tests.pages import ROOT
from tests.tools import need


@pytest.mark.slow
def test_every_step_is_as_expected_and_nothing_is_left_behind(tmp_path: Path) -> None:
    need("prometheus")
    need("systemd-analyze", "systemd")
    log = tmp_path / "log"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary), "HOME": str(tmp_path)}
    script = str(ROOT / "deploy" / "try.py")
    with commands.started(
        "--without-containers", program=(sys.executable, script), env=env, log=log
    ) as process:
        code = process.wait(5 * commands.PATIENCE)
    output = log.read_text()

    assert code == 0, output
    assert "ok: systemd finds no fault in 4 units" in output
    assert "killed a worker: process" in output
    assert "verdicts: {'safe': 90, 'unsafe': 10}" in output
    assert "ok: the alert about unsafe VDI images fires" in output
    assert output.endswith("ok: everything was as expected\n")
    assert list(temporary.iterdir()) == []
