"""`keyhole policy`, and a policy for one run of `keyhole inspect`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from keyhole.builders import qcow2, vhd_fixed
from keyhole.cli import keyhole
from keyhole.cli.errors import CommandError, exit_code_of
from keyhole.scan.policy import RULESET
from keyhole.scan.report import Report
from keyhole.scan.rules import PROFILES
from keyhole.toml_files import FileError

MIB = 1024**2


def test_profiles_are_listed_and_shown_with_their_sources() -> None:
    assert CliRunner().invoke(keyhole, ["policy", "list"]).output.split() == list(PROFILES)
    assert "# What Azure accepts" in CliRunner().invoke(keyhole, ["policy", "show", "azure"]).output


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_that_is_shown_can_be_a_rule_of_a_file(tmp_path: Path, profile: str) -> None:
    shown = CliRunner().invoke(keyhole, ["policy", "show", profile]).output
    path = tmp_path / "policy.toml"
    path.write_text("[[rules]]\n" + shown.replace("[severity]", "[rules.severity]"))
    assert CliRunner().invoke(keyhole, ["policy", "check", str(path)]).exit_code == 0


def test_what_is_wrong_with_a_file_is_one_line_and_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[rules]]\nformats = ["qcow3"]\n')
    result = CliRunner().invoke(keyhole, ["policy", "check", str(path)])
    assert isinstance(result.exception, FileError)
    assert exit_code_of(result.exception) == 2
    assert "rules[0].formats" in str(result.exception)


def test_a_policy_for_one_run(tmp_path: Path) -> None:
    good = vhd_fixed(8 * MIB).write_to(tmp_path / "good.vhd")
    bad = qcow2(MIB).write_to(tmp_path / "bad.qcow2")
    arguments = ["inspect", "--json", "--policy", "azure", str(good), str(bad)]
    result = CliRunner().invoke(keyhole, arguments)
    reports = [Report.model_validate_json(line) for line in result.stdout.splitlines()]
    assert [report.reasons for report in reports] == [(), ("banned_format",)]
    assert {report.ruleset for report in reports} == {f"{RULESET}:azure"}


def test_a_policy_for_one_run_that_is_none_is_told_by_the_options_name() -> None:
    result = CliRunner().invoke(keyhole, ["inspect", "--policy", "nowhere.toml", "x"])
    assert isinstance(result.exception, CommandError)
    assert str(result.exception).startswith("--policy is set to 'nowhere.toml'")


def test_a_worker_does_not_start_with_a_policy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYHOLE_POLICY", "nowhere.toml")
    result = CliRunner().invoke(keyhole, ["worker"])
    assert isinstance(result.exception, CommandError)
    assert result.exception.exit_code == 2
    assert "\n" not in str(result.exception)


def test_a_policy_that_is_none_is_told_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYHOLE_POLICY", "nowhere.toml")
    result = CliRunner().invoke(keyhole, ["inspect", "x"])
    assert isinstance(result.exception, CommandError)
    assert "KEYHOLE_POLICY" in str(result.exception)
    assert result.exception.exit_code == 2
