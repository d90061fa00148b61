"""`keyhole docs`: the reference, on a terminal and in a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Keyhole
from tests.cli.terminal import Terminal, terminal
from tests.pages import REFERENCE


def test_it_lists_every_topic_with_its_summary(keyhole: Keyhole) -> None:
    done = keyhole("docs")

    assert done.code == 0
    assert [line.split()[0] for line in done.lines] == sorted(REFERENCE)
    for line, page in zip(done.lines, (REFERENCE[topic] for topic in sorted(REFERENCE)), strict=True):
        assert len(line) <= 80
        assert line.split(maxsplit=1)[1] == " ".join(page.split("\n\n")[1].split())


@pytest.mark.parametrize("topic", REFERENCE)
def test_in_a_pipe_a_page_is_its_markdown(keyhole: Keyhole, topic: str) -> None:
    assert keyhole("docs", topic).out == REFERENCE[topic]


def test_a_topic_that_is_misspelled_is_guessed(keyhole: Keyhole) -> None:
    done = keyhole("docs", "Formt")

    assert (done.code, done.out) == (2, "")
    assert done.error == "there is no topic 'Formt'; did you mean formats?"


def test_a_topic_that_resembles_none_brings_the_list(keyhole: Keyhole) -> None:
    done = keyhole("docs", "\x1b[2Jxyz")

    assert done.code == 2
    assert done.error.endswith(f"the topics are {', '.join(sorted(REFERENCE))}")
    assert "\x1b" not in done.error


@contextmanager
def page_in(pager: str, topic: str, env: dict[str, str]) -> Iterator[Terminal]:
    """A page on a terminal of 80 columns and 24 rows, shown by a pager."""
    with terminal("docs", topic, env=env | {"PAGER": pager}) as screen:
        yield screen


@pytest.mark.slow
def test_a_terminal_gets_a_long_page_rendered_and_in_a_pager(env: dict[str, str], tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho This is the pager.\nexec cat\n")
    pager.chmod(0o755)

    with page_in(str(pager), "formats", env) as screen:
        assert screen.ended() == 0

    assert "This is the pager." in screen.text
    assert "\n| " not in screen.text
    assert "`qcow2`" not in screen.text
    assert [line for line in screen.text.splitlines() if len(line) > 80] == []


@pytest.mark.slow
def test_links_between_pages_become_commands_on_a_terminal(env: dict[str, str]) -> None:
    linking = next(topic for topic, page in REFERENCE.items() if "](formats.md" in page)

    with page_in("cat", linking, env) as screen:
        assert screen.ended() == 0

    assert "keyhole docs formats" in " ".join(screen.text.split())
    assert ".md" not in screen.text
