"""The systemd units, as systemd itself reads and rates them."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from keyhole.settings import Settings
from tests.pages import REFERENCE, ROOT
from tests.tools import need

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
#: systemd's rating from 0 (confined) to 100 (nothing is confined). A service without a sandbox has 96.
MOST_EXPOSURE = 15


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The units with a command that exists on this machine."""
    for unit in UNITS:
        text = (FOLDER / unit).read_text(encoding="utf-8")
        (tmp_path / unit).write_text(text.replace("/opt/keyhole/bin/keyhole", "/bin/true"), encoding="utf-8")
    shutil.copytree(FOLDER / "keyhole-.service.d", tmp_path / "keyhole-.service.d")
    monkeypatch.setenv("SYSTEMD_UNIT_PATH", f"{tmp_path}:")
    return tmp_path


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    need("systemd-analyze", "systemd")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def test_every_role_that_runs_all_the_time_has_a_unit() -> None:
    roles = ("dashboard", "listener", "scheduler", "worker")
    assert [f"keyhole-{role}.service" for role in roles] == UNITS


def test_the_dashboard_gets_no_credentials_of_other_roles() -> None:
    """All units read one file of settings."""
    (line,) = re.findall(
        "^UnsetEnvironment=(.*)$", (FOLDER / "keyhole-dashboard.service").read_text("utf-8"), re.MULTILINE
    )
    given = re.findall(r"^#?(\w+)=", (FOLDER / "keyhole.env").read_text(encoding="utf-8"), re.MULTILINE)
    secret = {name for name in given if re.search("_KEY|SECRET|SESSION", name)}
    assert secret | {"KEYHOLE_WEBHOOK_SECRET"} <= set(line.split())


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault(unit: str, installed: Path) -> None:
    done = analyze("verify", str(installed / unit))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_rates_the_sandbox(unit: str, installed: Path) -> None:
    done = analyze(
        "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}", str(installed / unit)
    )

    assert done.returncode == 0, done.stdout
    assert f"Overall exposure level for {unit}" in done.stdout


def test_the_documented_commands_install_what_systemd_reads(tmp_path: Path) -> None:
    commands = re.findall(r"^sudo (install .*)$", REFERENCE["deployment"], re.MULTILINE)
    for command in commands:
        # The group exists only after systemd-sysusers has run.
        words = [
            f"{tmp_path}{word}" if word.startswith("/") else word
            for word in shlex.split(command.replace(" -g keyhole", ""))
        ]
        subprocess.run(words, cwd=ROOT, check=True)

    found = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        *(Path("etc/systemd/system", unit) for unit in UNITS),
        Path("etc/systemd/system/keyhole-.service.d/10-common.conf"),
        Path("etc/keyhole/keyhole.env"),
        Path("usr/lib/sysusers.d/keyhole.conf"),
    }
    assert (tmp_path / "etc/keyhole/keyhole.env").stat().st_mode & 0o777 == 0o640


def test_the_settings_of_the_example_exist() -> None:
    names = re.findall(
        r"^#?(KEYHOLE_\w+)=", (FOLDER / "keyhole.env").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert len(names) > 3
    assert {name.removeprefix("KEYHOLE_").lower() for name in names} <= set(Settings.model_fields)
