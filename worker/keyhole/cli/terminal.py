"""A console that prevents untrusted text from controlling the terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from keyhole.inspectors.text import escaped_lines


class SafeConsole(Console):
    """A console that prints escapes instead of control characters in text.

    Rich itself prints most control characters unchanged. Rich's own colours and cursor movements still work.

    Callers should still pass keys and errors through `shown` before they put them into a table, because Rich
    computes the widths of the columns before this console replaces control characters.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object like `Console.render`, with escapes instead of control characters."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped_lines(segment.text), segment.style)
