"""`keyhole scheduler`: starts the audits of schedules when they are due."""

import sys

import click

from keyhole import health
from keyhole.cli.backend import backend
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.service import service

#: The error message if no schedules are configured.
NONE_CONFIGURED = "no schedules: set KEYHOLE_SCHEDULES to a file; `keyhole schedules --help` shows an example"


@click.command("scheduler")
@click.option("--check", is_flag=True, help="Check the health of this host's schedulers.")
def scheduler_command(*, check: bool) -> None:
    """Start the audits of KEYHOLE_SCHEDULES when they are due, until stopped.

    \b
    KEYHOLE_SCHEDULES=schedules.toml keyhole scheduler
    keyhole scheduler --check                  exit code 0: healthy, 1: unhealthy

    The scheduler reads the file once, when it starts; `keyhole schedules` shows the next runs. If several
    schedulers run, only one is active. When the active scheduler stops, another scheduler takes over
    immediately. If the active scheduler is killed, another scheduler takes over after about 30 s. If an audit
    was due while no scheduler was running, the next scheduler starts the audit once. Workers carry out the
    audits. If no Redis is configured, the scheduler starts the embedded Valkey and a worker.
    """
    if check:
        sys.exit(health.check("scheduler"))
    settings = load_settings()
    if settings.schedules is None:
        raise CommandError(NONE_CONFIGURED, USAGE)
    with (
        service(settings.log_level),
        one_line_errors(),
        backend(settings, work=True, waits=True) as ready,
    ):
        from keyhole.app import configure
        from keyhole.fleet import scheduling
        from keyhole.fleet.metrics_page import metrics_served
        from keyhole.intake.schedules import load_schedules

        schedules = load_schedules(settings.schedules)
        for schedule in schedules:
            ready.allowed_buckets.check(schedule.bucket)
        audits = [
            (
                schedule,
                schedule.spec(
                    rate=ready.audit_rate, outstanding=ready.audit_outstanding, batch_size=ready.batch_size
                ),
            )
            for schedule in schedules
        ]
        heartbeat = health.HeartbeatFile.of_process("scheduler")
        app = configure(ready)
        with heartbeat.kept(), metrics_served(app, ready, role="scheduler"):
            scheduling.run(app, str(ready.redis_url), audits, on_look=heartbeat.beat)
