"""`keyhole worker`: a Celery worker."""

import os

import click

from worker.cli.backend import backend
from worker.cli.errors import load_settings, one_line_errors


@click.command("worker")
@click.option("--concurrency", type=click.IntRange(1, 512), help="Processes; by default one a core.")
@click.option("--queue", "queues", multiple=True, help="Take from this queue alone; may be repeated.")
def worker_command(*, concurrency: int | None, queues: tuple[str, ...]) -> None:
    """Scan what is queued, until told to stop (Ctrl-C or SIGTERM: it finishes what it does).

    \b
    keyhole worker
    keyhole worker --concurrency 4 --queue keyhole.events --queue keyhole.jobs

    Each process scans KEYHOLE_SCAN_THREADS objects of a batch at once. With nothing configured it starts the
    embedded Valkey, and `keyhole submit` finds it there.
    """
    # Celery reads it when it is imported: SIGTERM then lets running tasks end within the soft shutdown's
    # time.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as settings:
        from worker.app import QUEUES, configure
        from worker.tasks import use_settings

        unknown = set(queues) - set(QUEUES)
        if unknown:
            raise click.BadParameter(f"{', '.join(sorted(unknown))}: the queues are {', '.join(QUEUES)}")
        use_settings(settings)
        arguments = ["worker", "--pool", "prefork", "--loglevel", settings.log_level]
        # Nobody listens to what workers tell each other.
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        arguments += ["--queues", ",".join(queues or QUEUES)]
        if concurrency is not None:
            arguments += ["--concurrency", str(concurrency)]
        configure(settings).worker_main(arguments)
