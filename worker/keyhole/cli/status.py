"""`keyhole status`: shows the queues, the workers, their work, and the unwritten tags and unsent events."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click
import redis
from rich.console import Console
from rich.live import Live
from rich.text import Text

from keyhole.cli.backend import backend
from keyhole.cli.errors import ALL_SAFE, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.redis_trouble import redis_trouble
from keyhole.cli.status_view import as_json_object, page
from keyhole.cli.terminal import SafeConsole
from keyhole.metrics.snapshot import Rates, Snapshot

if TYPE_CHECKING:
    from keyhole.settings import Settings

#: The default and the minimum time between two readings on a terminal, in seconds.
WATCH_SECONDS, SHORTEST_SECONDS = 2.0, 0.5
#: The longest wait, in seconds, for one response of Redis or of the broker.
ANSWER_SECONDS: Final = 5.0


@click.command("status")
@click.option(
    "--watch",
    "seconds",
    type=click.FloatRange(min=SHORTEST_SECONDS, max=3600),
    help="Read again after this many seconds; on a terminal, the default is 2.",
)
@click.option("--once", is_flag=True, help="Print the status once, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per reading, and nothing else.")
def status_command(*, seconds: float | None, once: bool, as_json: bool) -> None:
    """Show the queues, the workers and their work, audits, dead letters, and what is owed.

    On a terminal, the display is refreshed until Ctrl-C. Otherwise, the command prints the status once. The
    figures are the same as those of the metrics. `rules` states the version of Keyhole's rules and the policy
    that the workers apply.

    \b
    keyhole status
    keyhole status --once                      print once
    keyhole status --watch 10                  read every ten seconds
    keyhole status --json | jq '.queues[] | select(.oldest_seconds > 60)'

    Exit code: 0 the status was read, or Ctrl-C ended the display, 2 wrong usage or settings, 3 Redis does not
    answer.
    """
    if once and seconds is not None:
        raise CommandError("--once and --watch contradict each other; leave one of them out", USAGE)
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as settings:
        read = status_reader(settings)
        rates = Rates()
        first = read()
        rates.see(first)
        console = SafeConsole()
        live = console.is_terminal and not as_json and not once
        if seconds is None and not live:
            _print(first, rates, console, as_json=as_json)
            sys.exit(ALL_SAFE)
        try:
            with _shown(console, rates, live=live, as_json=as_json) as show:
                _repeat(read, rates, first, show, seconds or WATCH_SECONDS, waits=live)
        except KeyboardInterrupt:
            sys.exit(ALL_SAFE)


def status_reader(settings: "Settings") -> Callable[[], Snapshot]:
    """Return a function that reads the status from Redis and the broker."""
    from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
    from kombu.exceptions import KombuError, OperationalError

    from keyhole.app import configure
    from keyhole.fleet.gauge_sources import gauge_sources
    from keyhole.jobs.presence import Presence
    from keyhole.jobs.work_now import read_work
    from keyhole.metrics.store_reader import Backlog
    from keyhole.store.connection import connect

    store, broker = gauge_sources(configure(settings), settings, answer_seconds=ANSWER_SECONDS)
    client = connect(str(settings.redis_url), answer_seconds=ANSWER_SECONDS, retries=0)

    def read() -> Snapshot:
        reading = store()
        try:
            backlog = reading.backlog if broker is None else broker()
        except (redis.RedisError, KombuError, OperationalError, AMQPError, OSError):
            backlog = None  # the page states that the lengths are unknown
        return Snapshot(
            reading, backlog or Backlog({}, {}), tuple(read_work(client)), Presence(client).rulesets()
        )

    return read


def _repeat(
    read: Callable[[], Snapshot],
    rates: Rates,
    snapshot: Snapshot,
    show: Callable[[Snapshot, str | None], None],
    seconds: float,
    *,
    waits: bool,
) -> None:
    """Read and show the status again and again. If `waits` is true, wait for a Redis that does not answer."""
    trouble: str | None = None
    while True:
        show(snapshot, trouble)
        time.sleep(seconds)
        try:
            snapshot, trouble = read(), None
            rates.see(snapshot)
        except redis.RedisError as error:
            if not waits:
                raise
            trouble = redis_trouble(error)


@contextmanager
def _shown(
    console: Console, rates: Rates, *, live: bool, as_json: bool
) -> Iterator[Callable[[Snapshot, str | None], None]]:
    """Yield a function that shows a snapshot.

    On a live display, the function also shows the error of a later reading that failed.
    """
    if not live:
        yield lambda snapshot, _: _print(snapshot, rates, console, as_json=as_json)
        return
    with Live(console=console, auto_refresh=False) as display:

        def draw(snapshot: Snapshot, trouble: str | None) -> None:
            display.update(
                page(snapshot, rates, console, height=console.height, trouble=trouble), refresh=True
            )

        yield draw


def _print(snapshot: Snapshot, rates: Rates, console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(as_json_object(snapshot, rates)))
    else:
        console.print(page(snapshot, rates, console), Text())
    sys.stdout.flush()
