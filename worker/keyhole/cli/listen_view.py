"""Shows what a listener does: live counts on a terminal, otherwise a JSON line at most every ten seconds."""

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keyhole import logs
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.events.counters import (
    DEAD,
    DUPLICATES,
    FORGOTTEN,
    KEPT,
    NOT_ALLOWED,
    NOT_SELECTED,
    NOT_UNDERSTOOD,
    PUBLISHED,
    RECEIVED,
)
from keyhole.intake.events.event import EventKind
from keyhole.intake.events.listener import Poll
from keyhole.logs.lines import get_structured_logger

#: The least number of seconds between two lines that the listener logs, if standard error is not a terminal.
LINE_SECONDS: Final = 10.0
#: Seconds between two calls of `View.tick`.
LOOK_SECONDS: Final = 0.25
#: The shown speed is the average over this many seconds.
SPEED_SECONDS: Final = 10.0

#: The counts that are shown, and their labels.
ROWS: Final = {
    RECEIVED: "messages",
    PUBLISHED: "objects to scan",
    DUPLICATES: "known already",
    NOT_SELECTED: "not selected",
    NOT_ALLOWED: "not allowed",
    EventKind.REMOVED.value: "deletes",
    EventKind.IGNORED.value: "nothing to do",
    NOT_UNDERSTOOD: "not understood",
    DEAD: "dead letters",
}


class Tally:
    """The counts of messages and objects since this process started, and the error of the last poll.

    All listener threads share one tally.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counter[str]()
        self._began = time.monotonic()
        self._looks = deque([(self._began, 0)])
        self._trouble: str | None = None

    def add(self, poll: Poll) -> None:
        """Add the result of a poll, which is one request for messages."""
        with self._lock:
            self._counts.update(poll.counts)
            self._trouble = poll.trouble

    @property
    def counts(self) -> Counter[str]:
        """Return the counts by name."""
        with self._lock:
            return Counter(self._counts)

    @property
    def trouble(self) -> str | None:
        """Return the error of the last poll; `None` if the poll succeeded."""
        with self._lock:
            return self._trouble

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._began

    def speed(self) -> float:
        """Return how many messages per second arrived in the last `SPEED_SECONDS`."""
        now, received = time.monotonic(), self.counts[RECEIVED]
        self._looks.append((now, received))
        while len(self._looks) > 2 and self._looks[1][0] <= now - SPEED_SECONDS:
            self._looks.popleft()
        then, before = self._looks[0]
        return (received - before) / max(now - then, LOOK_SECONDS)


class View:
    """Shows a tally on a terminal, or logs the tally if standard error is not a terminal.

    Args:
        source: The queue's URL, without a password.
        tally: The counts that the view shows or logs.
        stop: The event that is set when a signal has told the listener to stop.
    """

    def __init__(self, source: str, tally: Tally, stop: threading.Event) -> None:
        self._source = source
        self._tally = tally
        self._stop = stop
        self._told_at = time.monotonic()
        self._told: tuple[Counter[str], str | None] | None = None
        self._ended = False

    @contextmanager
    def shown(self, log_level: str) -> Iterator[None]:
        """Show the tally during the `with` block, and its final state at the end.

        On a terminal, log lines appear above the tally. If standard error is not a terminal, the view logs
        the tally at the start and at the end of the block. During the block, `tick` logs the tally.
        """
        if sys.stderr.isatty():
            with Live(console=SafeConsole(stderr=True), get_renderable=self.page, refresh_per_second=4):
                # The display shows the counts, so log only problems.
                logs.configure("warning")
                try:
                    yield
                finally:
                    self._ended = True
            logs.configure("warning")
        else:
            logs.configure(log_level)
            self._line("listening")
            yield
            self._line("listened")

    def tick(self) -> None:
        """Log a line if standard error is not a terminal and the last line is `LINE_SECONDS` old.

        If nothing has changed since the last line, the level is debug. Call this method several times per
        second.
        """
        if not sys.stderr.isatty() and time.monotonic() >= self._told_at + LINE_SECONDS:
            changed = (self._tally.counts, self._tally.trouble) != self._told
            self._line("listening", logging.INFO if changed else logging.DEBUG)

    def _line(self, event: str, level: int = logging.INFO) -> None:
        self._told_at = time.monotonic()
        counts, trouble = self._told = self._tally.counts, self._tally.trouble
        names = [*ROWS, EventKind.CREATED.value, EventKind.RESTORED.value, FORGOTTEN, KEPT]
        get_structured_logger("keyhole.listen").log(
            level,
            event,
            source=self._source,
            seconds=round(self._tally.seconds),
            **{name: counts[name] for name in names},
            **({"trouble": trouble} if trouble else {}),
        )

    def page(self) -> RenderableType:
        """Return the whole display. The display fits on a terminal with 80 columns."""
        counts = self._tally.counts
        head = Text.assemble(("listening to ", "bold"), shown(self._source))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for name, label in ROWS.items():
            table.add_row(label, f"{counts[name]:,}", self._note(name, counts))
        table.add_row("for", str(timedelta(seconds=int(self._tally.seconds))))
        trouble = self._tally.trouble
        parts: list[RenderableType] = [head, table]
        if trouble:
            parts.append(Text(f"unreachable, retrying: {shown(trouble)}", style="red"))
        if self._stop.is_set() and not self._ended:
            parts.append(
                Text("Finishing the received messages; press Ctrl-C again to end immediately.", style="dim")
            )
        return Group(*parts)

    def _note(self, name: str, counts: Counter[str]) -> Text:
        if name == RECEIVED:
            return Text(f"{self._tally.speed():,.1f}/s")
        if name == EventKind.REMOVED.value and counts[name]:
            return Text(f"{counts[FORGOTTEN]:,} verdicts dropped, {counts[KEPT]:,} kept")
        if name == DEAD and counts[name]:
            return Text("see `keyhole dead list`", style="yellow")
        return Text()
