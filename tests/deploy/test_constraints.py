"""deploy/constraints.txt pins all packages, and the README's test command installs with it."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    line
    for line in (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
EXTRAS = PROJECT["optional-dependencies"].values()
WANTED = [
    Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in extra)]
]
VERSIONS = {
    canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in map(Requirement, PINS)
}


def test_every_line_is_one_exact_version() -> None:
    for pin in PINS:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; python_full_version < \"[\d.]+\")?", pin), pin


def test_every_name_stands_once_and_in_order() -> None:
    names = [pin.split("==")[0].lower() for pin in PINS]
    assert names == sorted(set(names))


def test_every_dependency_of_ours_is_pinned_to_a_version_that_we_take() -> None:
    for wanted in WANTED:
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(VERSIONS[canonicalize_name(wanted.name)]), wanted


def test_the_readmes_test_command_is_found_as_ci_finds_it() -> None:
    found = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "test-command"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    command = found.stdout.strip()
    assert "deploy/constraints.txt" in command
    assert ".[test]" in command
