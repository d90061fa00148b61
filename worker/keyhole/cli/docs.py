"""`keyhole docs`: prints pages of the reference, which is part of the package."""

import difflib
import re
import sys
from importlib import resources
from typing import TYPE_CHECKING

import click

from keyhole.cli.errors import USAGE, CommandError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: The folder of the pages. Each topic has one Markdown file, which begins with a title and a summary.
PAGES = resources.files("keyhole").joinpath("docs")
_LINK = re.compile(r"\[([^]]+)\]\((\w[\w-]*)\.md(?:#[\w-]+)?\)")


def _completed(_context: click.Context, _parameter: click.Parameter, text: str) -> "list[CompletionItem]":
    """Return the topics that begin with a text, for the shell's completion."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(topic) for topic in topics() if topic.startswith(text)]


@click.command("docs")
@click.argument("topic", required=False, shell_complete=_completed)
def docs_command(*, topic: str | None) -> None:
    """Print a page of the reference: formats, checks, policies, settings, operations and others.

    Without TOPIC, the command lists the topics. On a terminal, the command renders the page, and shows the
    page in a pager if it is longer than the screen. Otherwise it prints Markdown.

    \b
    keyhole docs                         list the topics
    keyhole docs formats                 read a page
    keyhole docs settings > settings.md  keep it as Markdown
    """
    if topic is None:
        _list_topics()
        return
    text = _page(topic)
    if sys.stdout.isatty():
        _show(text)
    else:
        click.echo(text, nl=False)


def topics() -> list[str]:
    """Return the names of the pages, in alphabetical order."""
    return sorted(page.name.removesuffix(".md") for page in PAGES.iterdir() if page.name.endswith(".md"))


def _list_topics() -> None:
    width = max(map(len, topics()))
    for topic in topics():
        _title, summary, *_ = _page(topic).split("\n\n")
        click.echo(f"{topic.ljust(width)}  {' '.join(summary.split())}")


def _page(topic: str) -> str:
    """Return the Markdown text of a page.

    Raises:
        CommandError: There is no such page. The message suggests topics with similar names, or lists all.
    """
    if topic not in topics():
        similar = difflib.get_close_matches(topic.lower(), topics())
        hint = f"did you mean {' or '.join(similar)}?" if similar else f"the topics are {', '.join(topics())}"
        raise CommandError(f"there is no topic {topic!r}; {hint}", USAGE)
    return PAGES.joinpath(f"{topic}.md").read_text(encoding="utf-8")


def _show(text: str) -> None:
    """Render a page for the terminal. If the page is longer than the screen, show it in a pager."""
    # Imported here, because the shell waits for these imports when it completes a topic.
    from rich.markdown import Markdown

    from keyhole.cli.terminal import SafeConsole

    console = SafeConsole()
    # Replace each link to another page with the command that prints the page.
    rendered = Markdown(_LINK.sub(r"\1 (`keyhole docs \2`)", text), hyperlinks=False)
    with console.capture() as capture:
        console.print(rendered)
    if capture.get().count("\n") > console.height:
        click.echo_via_pager(capture.get())
    else:
        click.echo(capture.get(), nl=False)
