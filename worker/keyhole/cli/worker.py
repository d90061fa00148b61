"""`keyhole worker`: runs a Celery worker."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

import click

from keyhole import health
from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, refuse_powerless, refuse_unusable
from keyhole.cli.endings import Stop
from keyhole.cli.errors import ENDED_BY_ITSELF, CommandError, load_settings, one_line_errors
from keyhole.cli.service import service
from keyhole.logs.service import redirect_native_text, say


@click.command("worker")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 512),
    help="The number of processes; by default one for each core.",
)
@click.option("--queue", "queues", multiple=True, help="Take work only from this queue; can be repeated.")
@click.option("--events", is_flag=True, help="Send Celery's task events, which Flower shows.")
@click.option("--check", is_flag=True, help="Check the health of this host's workers.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True, help="Stop when stdin ends, as on SIGTERM.")
@aws_options
def worker_command(
    *, concurrency: int | None, queues: tuple[str, ...], events: bool, check: bool, until_stdin_ends: bool
) -> None:
    """Scan queued objects, until stopped.

    On Ctrl-C or SIGTERM, the worker finishes its current work.

    \b
    keyhole worker
    keyhole worker --concurrency 4 --queue keyhole.events --queue keyhole.jobs
    keyhole worker --events                    for Flower; see `keyhole docs operations`
    keyhole worker --check                     exit code 0: healthy, 1: unhealthy

    Exit code: 2 wrong usage or settings, 3 the worker could not use S3 or another server when it started, 70
    the worker ended although nobody stopped it.

    If no worker takes keyhole.housekeeping, audits do not advance, and lost jobs are not sent again. So if
    you use --queue, start other workers for keyhole.audits and keyhole.housekeeping.

    Each process scans KEYHOLE_SCAN_THREADS objects at the same time. If no Redis is configured,
    the worker starts the embedded Valkey, which `keyhole submit` then also uses.
    """
    if check:
        sys.exit(health.check("worker"))
    settings = load_settings()
    with (
        _stops_while_it_starts(),
        service(settings.log_level),
        one_line_errors(),
        backend(settings, work=False, look=False) as settings,
    ):
        from celery.apps import worker as celery_worker
        from celery.signals import worker_process_init, worker_shutting_down

        from keyhole.app import configure
        from keyhole.confinement.cage import why_unconfined
        from keyhole.confinement.malloc import give_back
        from keyhole.fleet.loop_watch import HEARTBEAT
        from keyhole.fleet.metrics_page import metrics_served
        from keyhole.fleet.pool_process import scanner_needs
        from keyhole.fleet.s3_watch import START_ATTEMPTS, TROUBLE, why_unusable
        from keyhole.fleet.services import services, use_settings
        from keyhole.fleet.traces import traced
        from keyhole.jobs.queues import QUEUES
        from keyhole.scan.process_lock import ProcessLock

        unknown = set(queues) - set(QUEUES)
        if unknown:
            raise click.BadParameter(f"{', '.join(sorted(unknown))}: the queues are {', '.join(QUEUES)}")
        trouble = why_unusable(settings.s3_endpoint_url, settings.s3_region, attempts=START_ATTEMPTS)
        if trouble is not None:
            raise CommandError(f"S3 cannot be used from here: {trouble}")
        refuse_unusable(settings, work=True, waits=True)
        refuse_powerless(settings)
        use_settings(settings, on_trouble=TROUBLE.set, short_timeouts=True, process_lock=ProcessLock())
        give_back()
        unconfined = why_unconfined(scanner_needs(services())) if settings.confine == "required" else None
        if unconfined is not None:
            raise CommandError(f"KEYHOLE_CONFINE is required, but {unconfined}")
        app = configure(settings)
        worker = app.Worker(
            # Celery's remote commands address a worker by its name, so several workers on one host need
            # different names.
            hostname=f"{os.getpid()}-{token_hex(3)}@{socket.gethostname()}",
            concurrency=concurrency,
            queues=queues or QUEUES,
            loglevel=settings.log_level,
            # Celery must not print its banner, because the log consists of JSON lines.
            quiet=True,
            # Keyhole does not use Celery's messages between workers.
            without_gossip=True,
            without_mingle=True,
            # Heartbeats are one kind of Celery's events. Keyhole itself does not use these events.
            task_events=events,
            without_heartbeat=not events,
        )
        celery_worker.safe_say = say
        told_to_stop = threading.Event()
        worker_process_init.connect(lambda **_: redirect_native_text(), weak=False)
        worker_shutting_down.connect(lambda **_: told_to_stop.set(), weak=False)
        if until_stdin_ends:
            threading.Thread(target=_stop_with_stdin, daemon=True).start()
        with (
            HEARTBEAT.kept(),
            traced(settings, "worker", forks=True),
            metrics_served(app, settings, role="worker"),
        ):
            worker.start()
        if not told_to_stop.is_set():
            raise CommandError(
                "the worker ended although nobody stopped it; its log shows why",
                ENDED_BY_ITSELF,
            )


@contextmanager
def _stops_while_it_starts() -> Iterator[None]:
    """Exit with 0 if SIGTERM arrives while the worker starts.

    A running worker also exits with 0 after SIGTERM. Once the worker runs, Celery replaces this signal
    handler.
    """

    def stop(number: int, _frame: object) -> None:
        raise Stop(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, before)


def _stop_with_stdin() -> None:
    """Stop the worker when stdin ends.

    Stdin is a pipe, and the parent process holds the other end of the pipe open. If the parent ends or is
    killed, stdin ends.
    """
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
