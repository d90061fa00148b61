"""A console on which text from outside cannot control the terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from keyhole.inspectors.text import escaped_lines


class SafeConsole(Console):
    """A console that prints escapes instead of control characters, except for its own colours and movements.

    Rich lets most of them through. Keys and errors in a table should be escaped before (`shown`), so that
    their width is right; this console catches the forgotten ones.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object, as `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped_lines(segment.text), segment.style)
