"""Terminals: no text from outside gives one a command, whichever table or page it is in."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from keyhole.inspectors.text import escaped_lines


class SafeConsole(Console):
    """A console that prints escapes in place of control characters, its own colours and movements excepted.

    Rich lets most of them through. Whoever puts a key or an error into a table escapes it first (`shown`), so
    that its width is right; this is for what somebody forgets.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object, as `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped_lines(segment.text), segment.style)
