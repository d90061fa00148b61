"""The recording in the page about the demo is what the demo prints."""

import re

import pytest

from tests.demo.recording import PAGE, recording
from tests.pages import block


def without_numbers(text: str) -> list[str]:
    """The lines of a text, with the same text for all numbers, some of which depend on the machine."""
    return [re.sub(r"[\d.]+", "0", line) for line in text.splitlines()]


@pytest.mark.slow
def test_the_page_shows_what_the_demo_prints() -> None:
    assert PAGE.is_file()
    assert without_numbers(block("$ keyhole demo\n")) == without_numbers(recording())
