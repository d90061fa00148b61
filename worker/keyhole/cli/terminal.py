"""A console that prevents untrusted text from controlling the terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from keyhole.inspectors.text import escaped_lines


class SafeConsole(Console):
    """A console that prints escapes instead of control characters in text.

    Rich itself prints most control characters unchanged. Rich's own colours and cursor movements still work.

    Callers should still pass keys and errors through `shown` before they put them into a table, because Rich
    computes the widths of the columns before this console replaces control characters.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the options of rich's console
        # With a width of 0, rich never finishes a table. Other programs take COLUMNS=0 for an unknown width.
        environment = {
            name: value for name, value in os.environ.items() if name != "COLUMNS" or value.strip("0")
        }
        super().__init__(_environ=environment, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object like `Console.render`, with escapes instead of control characters."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped_lines(segment.text), segment.style)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal what the command does, during the `with` block."""
    if not sys.stderr.isatty():
        yield
        return
    with SafeConsole(stderr=True).status(f"{what} …"):
        yield
