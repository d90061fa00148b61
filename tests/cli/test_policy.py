"""`keyhole policy`, and a policy for one run of `keyhole inspect`."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyhole.builders import qcow2, vhd_fixed
from keyhole.cli import keyhole
from keyhole.cli.errors import CommandError, exit_code_of
from keyhole.inspectors.formats.vmdk.text import TYPES
from keyhole.inspectors.inspection import Inspection
from keyhole.scan.policy import RULESET
from keyhole.scan.profile_names import PROFILES, SUMMARIES
from keyhole.scan.report import Report
from keyhole.scan.rules import load_policy
from keyhole.scan.variants import VARIANTS
from keyhole.toml_files import FileError
from tests.examples import EXAMPLES

MIB = 1024**2


def test_profiles_are_listed_with_what_they_accept_and_shown_with_their_sources() -> None:
    lines = CliRunner().invoke(keyhole, ["policy", "list"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(PROFILES)
    assert all(len(line) <= 80 and SUMMARIES[line.split()[0]] in line for line in lines)
    assert "# What Azure accepts" in CliRunner().invoke(keyhole, ["policy", "show", "azure"]).output


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_that_is_shown_is_a_policy_file_with_the_same_rules(tmp_path: Path, profile: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(CliRunner().invoke(keyhole, ["policy", "show", profile]).output)

    checked = CliRunner().invoke(keyhole, ["policy", "check", str(path)])

    assert (checked.exit_code, checked.stderr) == (0, "")
    rule, base = load_policy(str(path)).rules
    assert rule == base == load_policy(profile).rules[0]


WRONG = """\
profil = "default"
profile = "azur"

[[rules]]
bucket = "a"
formats = [
  "qcow2",  # fine
  "qcow2:v4", "vhd:fixd",
  "raw:x",
]

[[rules]]
max_virtual_sise = "2 TiB"
max_virtual_size = "2 TB"
readers = ["qemu"]
[rules.severity]
encrypted = "infos"
bakcing_file = "info"

[[waivers]]
bucket = "x\\u001b[2J"
check = "truncated"
until = "soon"
"""


TOLD = """\
line 1: profil: is not a setting here; did you mean profile?
line 2: profile: Input should be 'default', 'openstack', 'aws-vm-import', 'azure', 'gcp' or 'kubevirt'; \
did you mean azure?
line 8: rules[0].formats[1]: 'qcow2:v4' is not a variant of qcow2; the variants are v2, v3
line 8: rules[0].formats[2]: 'vhd:fixd' is not a variant of vhd; did you mean fixed?
line 9: rules[0].formats[3]: 'raw:x': the format raw has no variants; write raw
line 13: rules[1].max_virtual_sise: is not a setting here; did you mean max_virtual_size?
line 14: rules[1].max_virtual_size: '2 TB' is not a size; write a number of bytes, or a text such as '2 TiB'
line 15: rules[1].readers[0]: 'qemu' is not a reader; did you mean qemu-9 or qemu-10?
line 17: rules[1].severity.encrypted: Input should be 'info', 'warning', 'error' or 'critical'; \
did you mean info?
line 18: rules[1].severity.bakcing_file: 'bakcing_file' is not a check; did you mean backing_file?
line 20: waivers[0].reason: is required
line 22: waivers[0].check: truncated cannot be waived: the missing part of the object was not inspected
line 23: waivers[0].until: is not a date; write it without quotes, such as 2027-03-31
"""


def test_all_mistakes_are_told_with_line_and_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(WRONG)

    checked = CliRunner().invoke(keyhole, ["policy", "check", str(path)])

    assert (checked.exit_code, checked.stdout) == (2, "")
    told = [line.removeprefix(f"Error: {path}: ") for line in checked.stderr.splitlines()]
    assert told == TOLD.splitlines()


def test_elsewhere_the_first_mistake_and_their_number_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(WRONG)

    with pytest.raises(FileError, match=r"line 1: profil: .* \(and 12 more\)$"):
        load_policy(str(path))


WAIVERS = """\
[[rules]]
[[rules]]
key = "x"
[[waivers]]
bucket = "b"
key = "a/*"
check = "encrypted"
reason = "r"
until = 2020-11-01
[[waivers]]
bucket = "b"
key = "b"
etag = "123"
check = "encrypted"
reason = "r"
by = "Ada"
until = 2999-12-01
"""


def test_rules_and_waivers_without_effect_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(WAIVERS)

    checked = CliRunner().invoke(keyhole, ["policy", "check", str(path)])

    assert checked.exit_code == 0
    assert checked.stdout.endswith(": valid, 2 rules in addition to the profile, 2 waivers\n")
    never, ended, long = checked.stderr.splitlines()
    assert never.endswith(
        "rules[0] matches every object, so the rules after it never apply; move it to the end"
    )
    assert "the waiver for encrypted in s3://b/a/* ended on 2020-11-01 and is ignored" in ended
    assert "the waiver for encrypted in s3://b/b (etag 123) ends only on 2999-12-01" in long


def test_a_file_is_shown_with_the_state_of_its_waivers_and_is_still_a_policy(tmp_path: Path) -> None:
    path, copy = tmp_path / "policy.toml", tmp_path / "copy.toml"
    path.write_text(WAIVERS)

    output = CliRunner().invoke(keyhole, ["policy", "show", str(path)]).output
    copy.write_text(output)

    ended, valid = output.splitlines()[-2:]
    assert re.fullmatch(r"# waiver for .* until 2020-11-01: ended \d+ days ago, ignored", ended)
    assert re.fullmatch(r"# waiver for .* by Ada until 2999-12-01: in force, ends in \d+ days", valid)
    assert load_policy(str(copy)).waivers == load_policy(str(path)).waivers


def test_every_variant_of_the_examples_and_of_vmdk_can_be_named() -> None:
    seen = {"vmdk": set(TYPES)}
    for example in EXAMPLES.values():
        inspection, data = Inspection(), example.image.to_bytes()
        inspection.finish(len(data))
        inspection.feed(0, data)
        facts = inspection.facts()
        if facts.format and facts.subformat:
            seen.setdefault(facts.format, set()).add(facts.subformat)

    for name, variants in seen.items():
        assert variants <= set(VARIANTS.get(name, ())), name


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


def test_a_misspelled_profile_is_guessed() -> None:
    for command in ("show", "check"):
        result = CliRunner().invoke(keyhole, ["policy", command, "azur"])
        assert "; did you mean azure?)" in str(result.exception)
