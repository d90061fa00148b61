"""Parameters that run only with `-m slow`: `@pytest.mark.parametrize("how", [SIGTERM, slow(SIGINT)])`."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """The values of a test's parameters, marked as slow."""
    return pytest.param(*values, marks=pytest.mark.slow)
