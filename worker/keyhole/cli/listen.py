"""`keyhole listen`: turns S3's events into jobs for the workers."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import click

from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.errors import ALL_SAFE, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.listen_view import LOOK_SECONDS, Tally, View
from keyhole.cli.parsed import parsed
from keyhole.cli.service import service
from keyhole.embedded.interrupts import ENDINGS
from keyhole.health import HEALTHY, STALE_SECONDS, UNHEALTHY, HeartbeatFile
from keyhole.intake.events.listener import TROUBLE, Listener, Poll
from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.source import MessageSource
from keyhole.scan.sizes import parse_size
from keyhole.settings import Settings

log = logging.getLogger(__name__)

SIZE = parsed("SIZE", parse_size)


@click.command("listen")
@click.argument("url", required=False)
@click.option(
    "--bucket",
    "events_buckets",
    multiple=True,
    metavar="GLOB",
    help="Only events of buckets that match this glob.",
)
@click.option(
    "--include", "events_include", multiple=True, metavar="GLOB", help="Only keys that match this glob."
)
@click.option(
    "--exclude", "events_exclude", multiple=True, metavar="GLOB", help="Leave out keys that match this glob."
)
@click.option(
    "--suffix", "events_suffixes", multiple=True, help="Only keys with this suffix, such as .qcow2."
)
@click.option(
    "--min-size", "events_min_size", type=SIZE, help="Leave out objects below this size, such as 1MiB."
)
@click.option("--max-size", "events_max_size", type=SIZE, help="Leave out objects above this size.")
@click.option(
    "--pollers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="The number of threads that receive messages.",
)
@click.option("--until-empty", is_flag=True, help="End when the queue is empty.")
@click.option(
    "--check", is_flag=True, help="Check the health of the listener on this host that receives from URL."
)
@aws_options
def listen_command(
    url: str | None, *, pollers: int, until_empty: bool, check: bool, **chosen: tuple[str, ...] | int | None
) -> None:
    """Receive S3's events and queue each new object for the workers, until stopped.

    \b
    keyhole listen https://sqs.eu-central-1.amazonaws.com/123456789012/queue
    keyhole listen amqp://user:password@host/vhost/queue --suffix .qcow2
    keyhole listen redis://:password@host:6379/0/key --bucket 'uploads-*'
    keyhole listen --check                     exit code 0: healthy, 1: unhealthy

    KEYHOLE_EVENTS_URL is the default URL, and the settings KEYHOLE_EVENTS_… are the defaults of the options.
    The options --bucket, --include, --exclude and --suffix can be repeated. Keyhole understands events of S3,
    also in SNS and EventBridge messages, and events of MinIO and Ceph. It deletes a message after it has
    queued the message's objects for the workers. Messages that it does not understand become dead letters
    (`keyhole dead`). On Ctrl-C, SIGTERM or SIGHUP, the listener finishes the messages that it has received. A
    second signal ends the listener immediately.
    """
    settings = load_settings()
    settings = settings.model_copy(
        update={name: value for name, value in chosen.items() if value not in {(), None}}
    )
    url = url or settings.events_url
    if url is None:
        raise CommandError("name the queue: keyhole listen URL, or set KEYHOLE_EVENTS_URL", USAGE)
    sources = [_open(url, settings) for _ in range(pollers)]
    heartbeat = HeartbeatFile.of_queue(sources[0].name)
    if check:
        sys.exit(_check(heartbeat, sources[0].name))
    with (
        service(settings.log_level),
        one_line_errors(),
        backend(settings, work=True, waits=not until_empty) as ready,
    ):
        _listen(sources, ready, heartbeat, until_empty=until_empty)
        if until_empty and is_embedded(settings):
            _await_workers()
    sys.exit(ALL_SAFE)


def _open(url: str, settings: Settings) -> MessageSource:
    try:
        return open_source(
            url, listener_id=f"{socket.gethostname()}:{os.getpid()}", region=settings.s3_region
        )
    except ValueError as error:
        raise CommandError(f"the URL does not name a queue of events: {error}", USAGE) from error


def _check(heartbeat: HeartbeatFile, name: str) -> int:
    age = heartbeat.age()
    if age is None:
        raise CommandError(f"no listener to {name} runs here", UNHEALTHY)
    if age > STALE_SECONDS:
        raise CommandError(f"the listener to {name} sent its last heartbeat {age:.0f} s ago", UNHEALTHY)
    click.echo(f"the listener to {name} is healthy")
    return HEALTHY


def _listen(
    sources: Sequence[MessageSource], settings: Settings, heartbeat: HeartbeatFile, *, until_empty: bool
) -> None:
    from keyhole.app import app
    from keyhole.cli.event_handler import event_handler
    from keyhole.fleet.metrics_page import metrics_served
    from keyhole.fleet.services import services
    from keyhole.fleet.traces import traced
    from keyhole.metrics.recorder import recorder

    handler = event_handler(settings)
    counts = services().event_counters
    tally = Tally()

    def on_poll(poll: Poll) -> None:
        tally.add(poll)
        recorder().events(poll.counts)
        if poll.trouble is None:
            heartbeat.beat()

    with _told_to_stop() as stop:
        view = View(sources[0].name, tally, stop)
        pollers = Pollers(stop)
        with (
            view.shown(settings.log_level),
            heartbeat.kept(),
            traced(settings, "listener"),
            metrics_served(app, settings, role="listener"),
        ):
            for source in sources:
                listener = Listener(source, handler, counts)
                pollers.start(partial(listener.run, stop, on_poll, until_empty=until_empty))
            pollers.join(view.tick)


class Pollers:
    """Several listeners, each in its own thread. If one listener fails, all listeners stop."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []

    def start(self, run: Callable[[], None]) -> None:
        """Start a listener: call `run` in a new thread."""

        def poll() -> None:
            try:
                run()
            except TROUBLE as error:
                self._errors.append(error)
                self._stop.set()
            except Exception as error:
                log.exception("a bug ended the listener")
                self._errors.append(error)
                self._stop.set()

        # The threads are daemons, because a second signal must end the process without waiting for the
        # threads.
        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        self._threads.append(thread)

    def join(self, tick: Callable[[], None]) -> None:
        """Wait until all listeners have ended, and call `tick` several times per second.

        Raises:
            SourceUnavailableError, DeliveryUncertainError, redis.RedisError: A listener raised this error.
            CommandError: A listener ended because of a bug.
        """
        for thread in self._threads:
            while thread.is_alive():
                thread.join(LOOK_SECONDS)
                tick()
        for error in self._errors:
            if isinstance(error, TROUBLE):
                raise error
            raise CommandError("a bug in Keyhole ended the listener; the log shows the error") from error


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Yield an event that is set when a signal in `ENDINGS` arrives.

    A second signal raises `KeyboardInterrupt`.
    """
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    # If the process ignores a signal, for example because of `nohup`, do not replace this signal's handler.
    before = {number: handler for number in ENDINGS if callable(handler := signal.getsignal(number))}
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_workers() -> None:
    """Wait until all verdicts are recorded, because the embedded workers end with this command."""
    from keyhole.fleet.services import services

    while services().ledger.count():
        time.sleep(LOOK_SECONDS)
