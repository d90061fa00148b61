"""Shows on a terminal how many objects are done, how fast, and how much time is left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from keyhole.cli.output import Output
from keyhole.cli.terminal import SafeConsole

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@contextmanager
def progress(
    what: str, total: int | None, output: Output, *, many: bool = True
) -> Iterator[tuple["Console | None", Callable[[], None]]]:
    """Show a line of progress. Yield the console for the table, and a function to call after each object.

    If the table is on the same terminal, its rows must be printed on this console, so that they appear above
    the line of progress. Other forms of output on the terminal would be mixed with that line, so there is
    none.

    Args:
        what: What is being done, such as `scanning`.
        total: The number of objects; `None` if it is not known.
        output: What the user wants to see.
        many: Whether there can be more than one object.
    """
    console = SafeConsole(emoji=False) if output.is_table else None
    on_terminal = console is not None and console.is_terminal
    if not many or output.quiet or not sys.stderr.isatty() or (sys.stdout.isatty() and not on_terminal):
        yield console, lambda: None
        return
    display = _display(console if console is not None and on_terminal else SafeConsole(stderr=True), total)
    with display:
        task = display.add_task(what, total=total)
        yield console, lambda: display.advance(task)


def counts(done: int, total: int | None, seconds: float) -> str:
    """Return how many objects are done, how many there are, how many per second, and the time left or taken.

    The rate is that of the whole time, because the first objects can be done almost at once.

    Args:
        done: The number of objects that are done.
        total: The number of objects; `None` if it is not known.
        seconds: The time since the beginning.
    """
    from keyhole.reports.figures import duration

    parts = [f"{done:,}" if total is None else f"{done:,} of {total:,}"]
    rate = done / seconds if seconds else 0.0
    if rate:
        parts.append(f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:,.0f}/min")
    if total is None and seconds:
        parts.append(f"{duration(timedelta(seconds=seconds))} so far")
    elif total is not None and rate and done < total:
        parts.append(f"about {duration(timedelta(seconds=(total - done) / rate))} left")
    return ", ".join(parts)


def _display(console: "Console", total: int | None) -> "Progress":
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Counts(ProgressColumn):
        """How many objects are done, how many there are, how many per second, and the time left or taken."""

        def render(self, task: Task) -> Text:
            return Text(counts(int(task.completed), total, task.elapsed or 0))

    bar = [] if total is None else [BarColumn(bar_width=20)]
    return Progress(TextColumn("{task.description}"), *bar, Counts(), console=console, transient=True)
