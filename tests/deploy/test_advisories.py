"""CI states clearly what was audited. An audit that could not check anything is an error."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / ".ci" / "advisories.py"
SPEC = importlib.util.spec_from_file_location("advisories", PATH)
assert SPEC is not None
assert SPEC.loader is not None
advisories: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(advisories)

CLEAN = {"name": "redis", "version": "7.0.0", "vulns": []}
BAD = {"name": "amqp", "version": "5.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.1"]}]}
UNKNOWN = {"name": "vine", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([CLEAN], 0, "no known vulnerability in 1 packages"),
        (
            [CLEAN, UNKNOWN],
            0,
            "no known vulnerability in 1 packages; not audited, because the index does not have them: vine",
        ),
        ([UNKNOWN], 0, "NOT audited: the index has no advisories for any of the 1 pinned versions"),
        ([CLEAN, BAD, UNKNOWN], 1, "amqp 5.0.0: PYSEC-1, fixed in 5.1"),
    ],
)
def test_it_tells_what_was_found(packages: list[dict[str, object]], code: int, says: str) -> None:
    assert advisories.verdict(json.dumps({"dependencies": packages})) == (code, says)


def test_it_tells_that_nothing_could_be_asked() -> None:
    assert advisories.verdict("") == (0, "NOT audited: pip-audit cannot reach the advisories")
