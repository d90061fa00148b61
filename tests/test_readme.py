"""The README and the reference are true, as far as a test can check."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyhole.cli import COMMANDS, keyhole
from keyhole.demo.samples import SAMPLES
from keyhole.inspectors import CHECKS, Severity
from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.partitions import dos
from keyhole.inspectors.partitions.front import TABLES
from keyhole.inspectors.volumes.lengths import STATED
from keyhole.inspectors.volumes.volumes import SIGNATURES
from keyhole.intake.schedules import load_schedules
from keyhole.metrics.table import METRICS
from keyhole.reasons import STATUSES, Reason, Status
from keyhole.remedies import REMEDIES
from keyhole.scan.policy import STATUS_OF_CHECK
from keyhole.scan.profile_names import PROFILES
from keyhole.scan.rules import load_policy
from keyhole.settings import Settings
from tests.examples import LEADS_OUTSIDE, outside, whole
from tests.inspectors.inspecting import facts_of
from tests.pages import EVERYTHING, README, REFERENCE, block, rows

FORMATS, CHECKS_PAGE = REFERENCE["formats"], REFERENCE["checks"]


def test_the_table_of_checks_is_the_codes_own() -> None:
    expected = [
        [
            f"`{name}`",
            check.looks_for,
            check.severity.value,
            "none" if check.severity is Severity.INFO else f"`{STATUS_OF_CHECK[name].value}`",
        ]
        for name, check in CHECKS.items()
    ]
    assert rows(CHECKS_PAGE, "check") == expected


def test_the_table_of_statuses_is_the_codes_own() -> None:
    expected = [[f"`{status}`", STATUSES[status]] for status in Status]
    assert rows(CHECKS_PAGE, "status") == expected


def test_the_table_of_settings_is_the_codes_own() -> None:
    told = {row[0].strip("`"): (row[1], row[2].strip("`")) for row in rows(REFERENCE["settings"], "setting")}
    assert list(told) == [f"KEYHOLE_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        meaning, default = told[f"KEYHOLE_{name.upper()}"]
        assert meaning == field.description
        if name == "notify_statuses":
            assert tuple(default.split(",")) == field.default
        elif name not in {"sinks", "data_dir"}:
            assert default == (str(field.default) if field.default not in {None, ()} else "none")


def test_the_table_of_metrics_is_the_codes_own() -> None:
    assert rows(REFERENCE["metrics"], "metric") == [
        [
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{name}`" for name in metric.labels) or "none",
            metric.help,
        ]
        for metric in METRICS
    ]


def test_a_newcomer_reads_the_readme_in_five_minutes() -> None:
    """The README once had 800 lines. The reference is now in `worker/keyhole/docs`."""
    assert len(README.splitlines()) <= 220


def test_it_counts_the_demos_samples_right() -> None:
    assert f"puts {len(SAMPLES)} sample images into a bucket" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_it_shows_takes_the_options_that_it_shows(name: str) -> None:
    command = keyhole.commands.get(name) or keyhole.get_command(None, name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    for line in re.findall(rf"^.*\bkeyhole {name}\b(.*)$", EVERYTHING, re.MULTILINE):
        shown = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", line.split("#")[0])
        assert set(shown) <= options, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text_with_an_example(name: str) -> None:
    result = CliRunner().invoke(keyhole, [name, "--help"])
    assert result.exit_code == 0
    # The name is once in the usage line, and at least once in an example.
    assert result.output.count(f"keyhole {name}") >= 2


def test_the_table_of_other_reasons_is_the_codes_own() -> None:
    expected = [[f"`{reason}`", reason.sentence, f"`{reason.status}`"] for reason in Reason]
    assert rows(CHECKS_PAGE, "other reason") == expected


def test_the_table_of_what_to_do_is_the_codes_own() -> None:
    expected = [[f"`{code}`", remedy.what_to_do] for code, remedy in REMEDIES.items()]
    assert sorted(rows(CHECKS_PAGE, "code")) == sorted(expected)


def quoted(cell: str) -> set[str]:
    return set(re.findall("`([^`]+)`", cell))


def test_the_table_of_formats_has_a_row_for_each() -> None:
    names = [row[0].strip("`") for row in rows(FORMATS, "format")]
    assert sorted(names) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_row_of_a_format_says_what_its_images_show(name: str) -> None:
    """The row lists the variants, the references to other files, and how far wholeness is proven."""
    (row,) = [row for row in rows(FORMATS, "format") if row[0] == f"`{name}`"]
    good, others = [[facts_of(image) for image in kind(name)] for kind in (whole, outside)]
    assert {facts.format for facts in good + others} == {name}
    variants = {
        variant
        for facts in good + others
        for variant in ((facts.subformat,) if facts.subformat else facts.content)
    }
    assert quoted(row[2]) - {"createType"} == variants
    assert quoted(row[4]) == {finding.check for facts in others for finding in facts.findings} & LEADS_OUTSIDE
    assert quoted(row[5]) == {facts.wholeness.value for facts in good}


def test_only_what_the_table_says_leads_outside() -> None:
    found = [finding.check for name in NAMES for image in whole(name) for finding in facts_of(image).findings]
    assert not set(found) & LEADS_OUTSIDE


def test_the_table_of_profiles_is_the_codes_own() -> None:
    told = {
        row[0].strip("`"): re.findall("`([^`]+)`", row[1]) for row in rows(REFERENCE["policy"], "profile")
    }
    assert told == {name: list(load_policy(name).rules[0].formats or ()) for name in PROFILES}


def test_the_policy_that_it_shows_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(block("profile ="))
    assert load_policy(str(path)).rule_for("uploads-a", "b.qcow2").severity == {"encrypted": Severity.INFO}


def test_the_schedules_that_it_shows_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "schedules.toml"
    path.write_text(block("[[schedules]]"))
    (schedule,) = load_schedules(str(path))
    assert schedule.name == "nightly"


def test_the_types_that_state_no_length_are_named() -> None:
    text = " ".join(FORMATS.split())
    sentence = text.partition("nothing proves them whole:")[2].partition("a backing device")[0]
    assert sorted(re.findall("`([^`]+)`", sentence)) == sorted({one.name for one in SIGNATURES} - STATED)


def test_the_table_of_content_has_all_names() -> None:
    told = [name for row in rows(FORMATS, "content") for name in re.findall("`([^`]+)`", row[1])]
    tables = {"gpt", dos.PMBR, *(parse.__module__.rpartition(".")[2] for parse in TABLES)}
    assert sorted(told) == sorted({*tables, "iso9660", "udf", *(one.name for one in SIGNATURES)})
